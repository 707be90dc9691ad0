"""Score one task with each value of the solver's settings that are chosen on the validation split."""

import pandas as pd
from job import run
from tqdm import tqdm

from taco import runtime
from taco.data import manifest
from taco.method import anew, evaluate, proposals
from taco.method.factorize import anchors_of
from taco.method.text import CLASSES, Text
from taco.results import aggregate, sensitivity


def values_of(parts, results, scorer, bank, seeds):
    """Every metric of TACO for each seed."""
    rows, pools = [], {}
    for part, result in zip(parts, results, strict=True):
        found = anew.rows(part, {("proposed", bank): result}, seeds, scorer, pools)
        rows += [row for row in found if row["method"] == "TACO"]
    pooled = pd.DataFrame(evaluate.pool_rows(pools, scorer.how.task, scorer.how.dataset))
    return aggregate.per_seed(pd.DataFrame(rows), pooled)


def main(snakemake):
    params, inputs, task = snakemake.params, snakemake.input, snakemake.wildcards.task
    settings, dataset, name = params.settings, params.dataset, params.dataset["name"]
    device = runtime.setup(settings["device"], snakemake.threads)
    text = Text(inputs.text)
    expect = {key: text.attributes[key] for key in ("clip_digest", "clap_digest", "fcclip_digest")}
    expect["dataset"] = name
    how = evaluate.Scoring(
        task, name, settings["evaluation"]["size"], settings["seed"], (), (), **params.ensemble
    )
    scorer = evaluate.Scorer(how, text.labels(name, CLASSES), text.constants, device)
    whole = manifest.read(inputs.manifest)
    proposer = proposals.Proposer(settings["models"], device)
    paths = zip(inputs.features, inputs.proposals, strict=True)
    frames = (manifest.shard(whole, shard, dataset["shards"]) for shard in range(dataset["shards"]))
    parts = [
        anew.read(frame, dataset, files, expect, scorer, proposer)
        for frame, files in zip(frames, paths, strict=True)
        if len(frame)
    ]
    solver = {**params.solver, "init_seed": settings["seed"], "trace_every": 0}
    anchors, seeds, tables = anchors_of(text, name, params.bank), settings["seeds"], []
    trials = sensitivity.trials(solver, settings["sensitivity"])
    for trial in tqdm(trials, desc=f"{task}: sensitivity"):
        solved = [anew.solve(part, trial.solver, anchors, seeds, device) for part in parts]
        for steps in solved[0]:
            results = [found[steps] for found in solved]
            values = values_of(parts, results, scorer, params.bank, seeds)
            tables += [values.assign(parameter=p, setting=v) for p, v in trial.shown_as(steps)]
    with runtime.atomic_write(snakemake.output[0]) as path:
        pd.concat(tables).to_csv(path, index=False, lineterminator="\n")


if __name__ == "__main__":
    run(main, snakemake)
