"""Table and figure of the scores against the signal-to-noise ratio."""

import pandas as pd
from job import run

from taco import runtime
from taco.figures.drawing import save
from taco.figures.hearing import figure
from taco.results import hearing


def main(snakemake):
    settings, outputs = snakemake.params.settings, snakemake.output
    suite, split = settings["suite"], settings["split"]
    frame = pd.concat([pd.read_csv(path) for path in snakemake.input], ignore_index=True)
    frame = frame.fillna({"variant": ""})
    page = hearing.page(frame, suite, split)
    with runtime.atomic_write(outputs.csv) as path:
        frame.to_csv(path, index=False, lineterminator="\n")
    with runtime.atomic_write(outputs.md) as path:
        path.write_text(page.markdown(), encoding="utf-8")
    with runtime.atomic_write(outputs.tex) as path:
        path.write_text(page.latex(), encoding="utf-8")
    save(figure(frame, settings["world"]["snr_db"], suite, split), [outputs.png, outputs.pdf])


if __name__ == "__main__":
    run(main, snakemake)
