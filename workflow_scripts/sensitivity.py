"""Table and figure of the scores against the solver's settings."""

import pandas as pd
from job import run

from taco.figures.drawing import save
from taco.figures.sensitivity import figure
from taco.results import pages, sensitivity


def main(snakemake):
    params, outputs = snakemake.params, snakemake.output
    suite = params.settings["suite"]
    values = pd.concat([pd.read_csv(path) for path in snakemake.input], ignore_index=True)
    frame = sensitivity.table(values, params.own, suite, params.settings["split"])
    page = sensitivity.page(frame, suite)
    pages.write(page, frame.to_csv(index=False, lineterminator="\n"), outputs)
    save(figure(frame, suite), [outputs.png, outputs.pdf])


if __name__ == "__main__":
    run(main, snakemake)
