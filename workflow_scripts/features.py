"""Pass a shard's images and sounds through the frozen models: tokens and proposals."""

from job import clock, run

from taco import runtime
from taco.cache.hdf5 import CacheWriter
from taco.data import manifest
from taco.method import features
from taco.method.proposals import warn_on_cpu


def main(snakemake):
    settings, dataset = snakemake.params.settings, snakemake.params.dataset
    device = runtime.setup(settings["device"], snakemake.threads)
    frame = manifest.read_shard(snakemake.input.manifest, int(snakemake.wildcards.shard), dataset["shards"])
    models = features.load_models(settings["models"], device)
    how = features.Extraction(
        image_tokens=dataset["image_tokens"],
        audio_crop=settings["features"]["audio_crop"],
        batch_size=features.batch_size(settings["features"]["batch_size"], models),
        seed=snakemake.params.crop_seed,
        stereo=settings["features"]["stereo"],
    )
    attributes = {
        "dataset": dataset["name"],
        "code": snakemake.params.code,
        "device": runtime.describe(device),
        **how.attributes(),
        **features.model_digests(settings["models"]),
    }
    ids = frame["sample_id"].tolist()
    kept = settings["features"]["proposals"]
    if kept == "none":
        warn_on_cpu(device)
    storage, threads = {} if kept == "none" else {"masks": kept}, snakemake.threads
    with (
        CacheWriter(snakemake.output.features, "features", ids, attributes) as tokens,
        CacheWriter(
            snakemake.output.proposals, "proposals", ids, attributes, storage=storage, threads=threads
        ) as proposals,
        clock(tokens.attributes, len(ids)),
    ):
        features.extract(
            frame,
            dataset["name"],
            models,
            how,
            tokens,
            proposals if storage else None,
            threads=threads,
        )


if __name__ == "__main__":
    run(main, snakemake)
