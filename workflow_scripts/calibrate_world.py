"""Table of A-FC-CLIP's scores against the range of the signal-to-noise ratio, and the range that is chosen."""

import pandas as pd
from job import run

from taco.results import hearing, pages


def main(snakemake):
    settings, outputs = snakemake.params.settings, snakemake.output
    target = settings["calibrate_world"]["target"]
    found = pd.concat([pd.read_csv(path) for path in snakemake.input], ignore_index=True).fillna(
        {"variant": ""}
    )
    frame = hearing.calibration(found, target)
    page = hearing.calibration_page(frame, target, settings["suite"], settings["split"])
    pages.write(page, frame.to_csv(index=False, lineterminator="\n"), outputs)


if __name__ == "__main__":
    run(main, snakemake)
