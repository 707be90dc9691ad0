"""Table and figure of the scores against the signal-to-noise ratio."""

import pandas as pd
from job import run

from taco.figures.drawing import save
from taco.figures.hearing import figure
from taco.results import hearing, pages


def main(snakemake):
    settings, outputs = snakemake.params.settings, snakemake.output
    suite, split = settings["suite"], settings["split"]
    frame = pd.concat([pd.read_csv(path) for path in snakemake.input], ignore_index=True)
    frame = frame.fillna({"variant": ""})
    page = hearing.page(frame, suite, split)
    pages.write(page, frame.to_csv(index=False, lineterminator="\n"), outputs)
    save(figure(frame, settings["world"]["snr_db"], suite, split), [outputs.png, outputs.pdf])


if __name__ == "__main__":
    run(main, snakemake)
