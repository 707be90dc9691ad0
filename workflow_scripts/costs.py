"""Milliseconds and megabytes for each sample of every method, from what the jobs recorded."""

from job import run

from taco.cache import receipts
from taco.results import costs, pages, printing


def contributed(paths, methods):
    """Each task's contributed methods: label, what they spent, and whether they are given features."""
    files = [file for receipt in paths for file in receipts.read(receipt).values()]
    spent = costs.of_caches(files, "predictions", ("dataset", "method"))
    found = {}
    for (dataset, method), one in spent.items():
        for task in methods[dataset][method]["tasks"]:
            entry = (methods[dataset][method]["label"], one, methods[dataset][method]["features"])
            found.setdefault(task, []).append(entry)
    return found


def main(snakemake):
    inputs, params = snakemake.input, snakemake.params
    labels = params.labels
    caches = [file for receipt in inputs.factors for file in receipts.read(receipt).values()]
    factors = costs.of_caches(caches, "factors", ("dataset", "bank", "variant"))
    shared = {
        (dataset, bank, labels[variant]): factors[dataset, *solved]
        for dataset, runs in params.solved.items()
        for (bank, variant), solved in runs.items()
    }
    frame = costs.table(
        costs.of_caches(inputs.features, "features", ("dataset",)),
        costs.of_caches(inputs.proposals, "proposals", ("dataset",)),
        shared,
        costs.of_scores(params.rows),
        {
            task: [(dataset, bank, labels[variant]) for bank, variant in runs]
            for task, (dataset, runs) in params.runs.items()
        },
        params.suite,
        contributed(inputs.contributed, params.methods),
    )
    page = printing.costs_page(frame, params.suite)
    pages.write(page, frame.to_csv(index=False, lineterminator="\n"), snakemake.output)


if __name__ == "__main__":
    run(main, snakemake)
