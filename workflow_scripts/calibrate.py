"""Thresholds for people's own pairs, from the scores of the validation split."""

import yaml
from job import run

from taco import runtime
from taco.results import calibration, score_files


def main(snakemake):
    found = calibration.table(score_files.load_rows(snakemake.params.rows))
    with runtime.atomic_write(snakemake.output.csv) as path:
        found.to_csv(path, index=False, lineterminator="\n")
    with runtime.atomic_write(snakemake.output.overlay) as path:
        path.write_text(yaml.safe_dump(calibration.overlay(found), sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    run(main, snakemake)
