"""Factorize a shard's samples: all seeds of one word bank and variant."""

import logging
from typing import Any

import numpy as np
import torch
from job import clock, run
from tqdm import tqdm

from taco import runtime
from taco.cache.hdf5 import CacheWriter, open_cache
from taco.conmf import Anchors, CoNMF, Settings
from taco.data import manifest
from taco.method import stimuli
from taco.method.controls import shuffled_samples
from taco.method.text import Text

log = logging.getLogger("taco")
STORED_AS = {
    "image_activations": np.float16,
    "audio_activations": np.float16,
    "image_factors": np.float32,
    "audio_factors": np.float32,
    "k_star": np.int32,
    "cross_entropy": np.float32,
    "reconstruction_image": np.float32,
    "reconstruction_audio": np.float32,
    "objective": np.float32,
}


def anchors_of(text, dataset, bank):
    """The solver's anchors from text.h5."""
    labels = text.labels(dataset, bank)
    return Anchors.from_arrays(labels.clip, labels.clap, text.constants)


def sound_of(frame, sound, seed):
    """Id of the sample whose sound each sample of the whole dataset gets."""
    if sound == "shuffled":
        return shuffled_samples(frame, seed)
    return frame.set_index("sample_id", drop=False)["sample_id"]


def read_tokens(paths, expect, samples, sounds):
    """Image tokens of ``samples`` and audio tokens of their ``sounds``, from as many files as they lie in."""
    image, audio = {}, {}
    for path in paths:
        with open_cache(path, "features", expect) as cache:
            held = set(cache.sample_ids)
            for wanted, name, found in ((samples, "image_tokens", image), (sounds, "audio_tokens", audio)):
                for sample in held.intersection(wanted):
                    found[sample] = torch.from_numpy(cache[name][cache.position(sample)])
    return [image[sample] for sample in samples], [audio[sample] for sample in sounds]


def main(snakemake):
    params, wildcards = snakemake.params, snakemake.wildcards
    device = runtime.setup(params.settings["device"], snakemake.threads)
    whole = manifest.read(snakemake.input.manifest)
    frame = manifest.shard(whole, int(wildcards.shard), params.shards)
    text = Text(snakemake.input.text)
    made_by = {key: text.attributes[key] for key in ("clip_digest", "clap_digest", "fcclip_digest")}
    samples = frame["sample_id"].tolist()
    sounds = sound_of(whole, params.sound, params.settings["seed"]).loc[samples].tolist()
    expect = {"dataset": wildcards.dataset, **made_by}
    image, audio = read_tokens(snakemake.input.features, expect, samples, sounds)
    keys = [f"{wildcards.dataset}/{sample}" for sample in samples]
    if params.sound in stimuli.KINDS:
        audio = stimuli.tokens(text.constants, params.sound, params.settings["seed"], keys)
    settings = Settings(init_seed=params.settings["seed"], **params.solver)
    seeds = list(params.settings["seeds"])
    attributes: dict[str, Any] = {}
    with (
        clock(attributes, len(samples)),
        tqdm(total=len(samples), desc=f"{wildcards.dataset} {wildcards.bank} {wildcards.variant}") as bar,
    ):
        result = CoNMF(settings, anchors_of(text, wildcards.dataset, wildcards.bank), device).fit(
            image,
            audio,
            keys,
            seeds,
            frame["clip_id"].tolist(),
            progress=bar.update,
        )
    attributes |= {
        **{key: wildcards[key] for key in ("dataset", "bank", "variant")},
        **made_by,
        "seeds": seeds,
        "solver": params.solver,
        "sounds": params.sound,
        "objective_steps": list(result.objective_steps),
        "code": params.code,
        "device": runtime.describe(device),
    }
    with CacheWriter(snakemake.output[0], "factors", samples, attributes) as writer:
        for name, dtype in STORED_AS.items():
            values = getattr(result, name).cpu().numpy().astype(dtype)
            for index in range(len(samples)):
                writer.put(name, index, values[:, index])
    log.info("%d samples, %d seeds, settings %s", len(samples), len(seeds), settings)


if __name__ == "__main__":
    run(main, snakemake)
