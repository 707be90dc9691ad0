"""List a dataset's samples, and check all of its files before anything is computed from them."""

import logging

from job import run

from taco import manifest

log = logging.getLogger("taco")


def main(snakemake):
    dataset = snakemake.params.dataset
    frame = manifest.limit(manifest.build(dataset), snakemake.params.limit)
    manifest.check(frame, dataset, workers=snakemake.threads)
    manifest.write(frame, snakemake.output[0])
    log.info("%s: %d samples in %d clips", dataset["name"], len(frame), frame["clip_id"].nunique())


if __name__ == "__main__":
    run(main, snakemake)
