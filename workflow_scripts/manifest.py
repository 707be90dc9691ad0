"""List a dataset's samples, and check all of its files before anything is computed from them."""

import logging

from job import run

from taco.data import contents, datasets, manifest

log = logging.getLogger("taco")


def main(snakemake):
    dataset = snakemake.params.dataset
    frame = manifest.limit(manifest.build(dataset), snakemake.params.limit)
    masks = manifest.check(frame, dataset, workers=snakemake.threads)
    contents.write(contents.of_manifest(frame, snakemake.threads), snakemake.output.files)
    manifest.write(frame, snakemake.output[0], masks)
    counts = len(frame), frame["clip_id"].nunique(), len(datasets.class_names(dataset))
    log.info("%s: %d samples in %d clips; the dataset has %d classes", dataset["name"], *counts)
    per_class = [f"{name} {count}" for name, count in manifest.class_counts(frame).items()]
    log.info("samples by class: %s", ", ".join(per_class) or "classes unknown")


if __name__ == "__main__":
    run(main, snakemake)
