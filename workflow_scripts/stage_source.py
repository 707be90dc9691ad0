"""Bring one source of the catalogue, or say what has to be done by hand."""

import json
from dataclasses import asdict

from job import run

from taco.runtime import atomic_write
from taco.staging import bring


def main(snakemake):
    settings = bring.Settings.of(snakemake.params.staging or {})
    done = bring.stage(snakemake.params.source, settings, snakemake.params.datasets)
    with atomic_write(snakemake.output[0]) as partial:
        partial.write_text(json.dumps(asdict(done), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main, snakemake)
