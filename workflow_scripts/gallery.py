"""Write the gallery of samples: static pages that open from disk."""

import logging
from contextlib import ExitStack

from job import run

from taco.figures import gallery
from taco.figures.examples import open_sources
from taco.results import score_files
from taco.runtime import atomic_folder

log = logging.getLogger("taco")


def main(snakemake):
    inputs, settings = snakemake.input, snakemake.params.settings
    rows = score_files.load_rows(snakemake.params.rows, snakemake.config["memory"]["rows"])
    with ExitStack() as stack:
        sources = open_sources(
            stack,
            snakemake.params.examples,
            dict(zip(snakemake.params.datasets, inputs.manifests, strict=True)),
            inputs.text,
            rows,
            settings["models"]["clap"],
            settings["features"],
            snakemake.params.words,
            settings["seed"],
        )
        folder = stack.enter_context(atomic_folder(snakemake.output[0]))
        count = gallery.write(
            folder, sources, rows, settings["suite"], settings["gallery"]["samples"], settings["seed"]
        )
    log.info("%d samples", count)


if __name__ == "__main__":
    run(main, snakemake)
