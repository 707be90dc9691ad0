"""Record what made a suite's results: configuration, code, versions, machine."""

import json

from job import run

from taco import runtime
from taco.cache.hdf5 import open_cache


def main(snakemake):
    params = snakemake.params
    with open_cache(snakemake.input.text, "text") as text:
        attributes = text.attributes
    models = {key: value for key, value in attributes.items() if key.endswith("_digest")}
    record = runtime.provenance(params.config, attributes["device"], models | params.stages)
    with runtime.atomic_write(snakemake.output[0]) as path:
        path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main, snakemake)
