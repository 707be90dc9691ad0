"""Table of A-FC-CLIP's scores against the range of the signal-to-noise ratio, and the range that is chosen."""

import pandas as pd
from job import run

from taco import runtime
from taco.results import hearing


def main(snakemake):
    settings, outputs = snakemake.params.settings, snakemake.output
    target = settings["calibrate_world"]["target"]
    found = pd.concat([pd.read_csv(path) for path in snakemake.input], ignore_index=True).fillna(
        {"variant": ""}
    )
    frame = hearing.calibration(found, target)
    page = hearing.calibration_page(frame, target, settings["suite"], settings["split"])
    with runtime.atomic_write(outputs.csv) as path:
        frame.to_csv(path, index=False, lineterminator="\n")
    with runtime.atomic_write(outputs.md) as path:
        path.write_text(page.markdown(), encoding="utf-8")
    with runtime.atomic_write(outputs.tex) as path:
        path.write_text(page.latex(), encoding="utf-8")


if __name__ == "__main__":
    run(main, snakemake)
