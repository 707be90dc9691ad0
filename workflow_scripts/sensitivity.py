"""Table and figure of the scores against the solver's settings."""

import pandas as pd
from job import run

from taco import runtime
from taco.figures.drawing import save
from taco.figures.sensitivity import figure
from taco.results import sensitivity


def main(snakemake):
    params, outputs = snakemake.params, snakemake.output
    suite = params.settings["suite"]
    values = pd.concat([pd.read_csv(path) for path in snakemake.input], ignore_index=True)
    frame = sensitivity.table(values, params.own, suite, params.settings["split"])
    page = sensitivity.page(frame, suite)
    with runtime.atomic_write(outputs.csv) as path:
        frame.to_csv(path, index=False, lineterminator="\n")
    with runtime.atomic_write(outputs.md) as path:
        path.write_text(page.markdown(), encoding="utf-8")
    with runtime.atomic_write(outputs.tex) as path:
        path.write_text(page.latex(), encoding="utf-8")
    save(figure(frame, suite), [outputs.png, outputs.pdf])


if __name__ == "__main__":
    run(main, snakemake)
