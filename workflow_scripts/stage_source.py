"""Bring one source of the catalogue, or say what has to be done by hand."""

import json
from dataclasses import asdict
from pathlib import Path

from job import run

from taco.staging import bring


def main(snakemake):
    settings = bring.Settings.of(snakemake.params.staging or {})
    done = bring.stage(snakemake.params.source, settings, snakemake.params.datasets)
    Path(snakemake.output[0]).write_text(json.dumps(asdict(done), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main, snakemake)
