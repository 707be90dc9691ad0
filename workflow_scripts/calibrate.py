"""Thresholds from the scores of the validation split, and what other thresholds would do."""

import yaml
from job import run

from taco import runtime
from taco.figures.drawing import save
from taco.figures.gate import figure
from taco.results import calibration, score_files


def main(snakemake):
    outputs = snakemake.output
    found, curves = calibration.table(
        score_files.load_rows(snakemake.params.rows, snakemake.config["memory"]["rows"])
    )
    for frame, name in ((found, outputs.csv), (curves, outputs.gate)):
        with runtime.atomic_write(name) as path:
            frame.to_csv(path, index=False, lineterminator="\n")
    with runtime.atomic_write(outputs.overlay) as path:
        path.write_text(yaml.safe_dump(calibration.overlay(found), sort_keys=False), encoding="utf-8")
    save(figure(curves, snakemake.params.suite), [outputs.png, outputs.pdf])


if __name__ == "__main__":
    run(main, snakemake)
