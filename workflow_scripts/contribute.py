"""Run contributed methods on a shard's samples. What is there and right is kept."""

import functools
import logging
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from job import run

from taco import runtime
from taco.cache import receipts
from taco.cache.hdf5 import CacheError, CacheWriter, open_cache
from taco.data import manifest
from taco.method import contributed
from taco.method.text import CLASSES, Text
from taco.progress import progress

log = logging.getLogger("taco")


def features_of(cache, sample, labels):
    """What the frozen models made of a sample."""
    index = cache.position(sample)
    tokens = cache["image_tokens"][index].astype(np.float32)
    return contributed.Features(
        image_tokens=tokens.reshape(*cache["grid"][index].tolist(), -1),
        audio_tokens=cache["audio_tokens"][index].astype(np.float32),
        sound_embedding=cache["clap_embedding"][index],
        class_image=labels.clip,
        class_sound=labels.clap,
    )


def samples_of(task, frame, inputs, params):
    """The makers of a task's samples, with features or without; a sample is read when its turn comes."""

    def make(record, seed):
        features = features_of(inputs[0], record["sample_id"], inputs[1]) if inputs else None
        return contributed.read_sample(record, task, params.dataset, params.rate, seed, features)

    return [functools.partial(make, record) for record in frame.to_dict("records")]


def predict(name, options, frame, inputs, params, path, basis):
    """Run one method on all of its tasks and keep its answers."""
    settings, ids = params.settings, frame["sample_id"].tolist()
    seeds = contributed.seeds_of(options, settings)
    device = "cuda" if options["gpu"] and settings["device"] != "cpu" and runtime.has_cuda_device() else "cpu"
    method = contributed.load(name, options["entry"], options["options"], device)
    attributes = {
        "dataset": params.dataset["name"],
        "method": name,
        "basis": basis,
        "device": device,
        "seeds": seeds if options["seeded"] else [contributed.DETERMINISTIC],
    }
    total = len(ids) * len(seeds) * len(options["tasks"])
    with (
        CacheWriter(path, "predictions", ids, attributes) as writer,
        progress(total, f"{name}: {params.dataset['name']}") as bar,
    ):
        began = time.perf_counter()
        for task in options["tasks"]:
            samples = samples_of(task, frame, inputs if options["features"] else None, params)
            answers = contributed.run(method, samples, seeds, params.size, bar.update)
            for index, answer in enumerate(answers):
                writer.put(task, index, answer)
        seconds = (time.perf_counter() - began) / len(options["tasks"])
        writer.attributes["cost"] = {"seconds": seconds, "samples": len(ids), "threads": 1}


def is_right(path, basis):
    """Whether a method's file is whole and was made from the same things."""
    try:
        with open_cache(path, "predictions", {"basis": basis}):
            return True
    except CacheError:
        return False


def main(snakemake):
    params, wildcards = snakemake.params, snakemake.wildcards
    frame = manifest.read_shard(snakemake.input.manifest, int(wildcards.shard), params.shards)
    folder, files = Path(snakemake.output[0]).parent, {}
    with ExitStack() as stack:
        inputs, seen = None, []
        if snakemake.input.features:
            cache = stack.enter_context(open_cache(snakemake.input.features[0], "features"))
            inputs = cache, Text(snakemake.input.text[0]).labels(wildcards.dataset, CLASSES)
            seen = [cache.fingerprint(*cache), *map(runtime.array_digest, (inputs[1].clip, inputs[1].clap))]
        for name, options in params.methods.items():
            path = folder / name / f"{wildcards.shard}.h5"
            known = contributed.told(
                options, params.entries, params.code, params.size, params.rate, params.settings
            )
            used = seen if options["features"] else ()
            basis = contributed.basis(frame, params.dataset, known, used)
            files[name,] = path
            if is_right(path, basis):
                log.info("%s is there and right", name)
            else:
                predict(name, options, frame, inputs, params, path, basis)
    receipts.write(snakemake.output[0], files, params.state)


if __name__ == "__main__":
    run(main, snakemake)
