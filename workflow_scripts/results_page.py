"""Write one page of a finished run."""

import json
from pathlib import Path

import pandas as pd
from job import run

from taco import runtime
from taco.results import order, summary, tables


def main(snakemake):
    inputs, output = snakemake.input, Path(snakemake.output[0])
    compared = order.order(
        pd.read_csv(inputs.intervals, keep_default_na=False), tables.load_reported(inputs.reported)
    )
    record = json.loads(Path(inputs.provenance).read_text(encoding="utf-8"))
    packages = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
    made = {
        "Configuration": f"digest {record['config_digest'][:16]}, commit {(record['commit'] or 'unknown')[:12]}",
        "Device": record["device"],
        "Versions": f"Python {record['python']}, {packages}",
    }
    hearing = None
    if inputs.hearing:
        picture, page = map(Path, inputs.hearing)
        hearing = str(picture.relative_to(output.parent)), page.read_text(encoding="utf-8")
    pages = [Path(path).read_text(encoding="utf-8") for path in inputs.tables]
    with runtime.atomic_write(output) as partial:
        partial.write_text(
            summary.page(snakemake.params.suite, pages, compared, hearing, made), encoding="utf-8"
        )


if __name__ == "__main__":
    run(main, snakemake)
