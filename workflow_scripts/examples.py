"""Decode what figures and gallery show of each sample of a task: TACO's map, activations, words, truth."""

from contextlib import ExitStack

import numpy as np
import torch
from job import run
from torch.nn.functional import normalize
from tqdm import tqdm

from taco import runtime
from taco.cache.hdf5 import CacheWriter, open_cache
from taco.data import datasets, manifest
from taco.method import evaluate
from taco.method.text import CLASSES, Text
from taco.models import fcclip

KINDS = ("features", "proposals", "factors", "factors")


def read_run(cache, index, device):
    """One sample's factors of the first seed."""
    names = ("image_activations", "image_factors", "k_star")
    activations, factors, k_star = (torch.from_numpy(cache[name][index][:1]).to(device) for name in names)
    variant, bank = cache.attributes["variant"], cache.attributes["bank"]
    seeds = cache.attributes["seeds"][:1]
    return evaluate.Run(variant, bank, seeds, activations.float(), factors, k_star.long())


def read_proposals(cache, index, device):
    """One image's proposals, as a batch of one."""
    names = ("masks", "class_embeddings", "pooled")
    tensors = (torch.from_numpy(cache[name][index])[None].to(device).float() for name in names)
    return fcclip.Proposals(*tensors, [tuple(cache["geometry"][index].tolist())])


def stored(scores):
    """A soft map in 0..1 as uint8 (bicubic overshoot cut off); class ids as int16."""
    if scores.dtype.kind == "f":
        return np.rint(255 * scores.clip(0, 1)).astype(np.uint8)
    return scores.astype(np.int16)


def arrays_of(answer, cache, index, grid, label_table):
    """What is kept of one run of one sample, by name."""
    factors = torch.from_numpy(cache["image_factors"][index][0])
    similarity = normalize(factors, dim=-1) @ label_table.T
    return {
        "prediction": stored(answer.scores),
        "image_activation": cache["image_activations"][index][0, :, answer.k_star].reshape(grid),
        "audio_activation": cache["audio_activations"][index][0, :, answer.k_star],
        "word_similarity": similarity.numpy().astype(np.float16),
        "k_star": np.int32(answer.k_star),
        "cross_entropy": cache["cross_entropy"][index][0],
    }


def decode(scorer, key, truth, features, proposals, runs, device):
    """TACO's answer for one sample with each run's factors."""
    sample = key.split("/", 1)[1]
    index = features.position(sample)
    example = evaluate.Sample(
        key=key,
        proposals=read_proposals(proposals, proposals.position(sample), device),
        clap_embedding=torch.from_numpy(features["clap_embedding"][index]).to(device),
        grid=tuple(features["grid"][index].tolist()),
        truth=truth,
        runs=[read_run(cache, cache.position(sample), device) for cache in runs],
    )
    # The class that CLAP names concerns other methods only.
    answers = scorer.predictions(example, clap_label=0)
    return example.grid, [answer for answer in answers if answer.method == "TACO"]


def scorer_of(task, dataset, text, settings, device):
    """The scorer of the task, with TACO alone."""
    how = evaluate.Scoring(
        task=task,
        dataset=dataset,
        size=settings["evaluation"]["size"],
        seed=settings["seed"],
        prompt_sets=(),
        controls=(),
        alpha=settings["decoding"]["alpha"],
        beta=settings["decoding"]["beta"],
    )
    return evaluate.Scorer(how, text.labels(dataset, CLASSES), text.constants, device)


def main(snakemake):
    params, task = snakemake.params, snakemake.wildcards.task
    device = runtime.setup(params.settings["device"], snakemake.threads)
    dataset, name = params.dataset, params.dataset["name"]
    whole = manifest.read(snakemake.input.manifest)
    text = Text(snakemake.input.text)
    scorer = scorer_of(task, name, text, params.settings, device)
    truth_kind = "semantic" if scorer.how.kind == "semantic" else "binary"
    label_table = normalize(torch.from_numpy(text.labels(name, params.words).clip), dim=-1)
    expect = {key: text.attributes[key] for key in ("clip_digest", "clap_digest", "fcclip_digest")}
    expect["dataset"] = name
    attributes = {
        **expect,
        "task": task,
        "bank": params.bank,
        "seed": params.settings["seeds"][0],
        "words": params.words,
        "code": params.code,
    }
    files = [snakemake.input[kind] for kind in ("features", "proposals", "own", "shuffled")]
    places = {sample: place for place, sample in enumerate(whole["sample_id"])}
    with CacheWriter(snakemake.output[0], "examples", list(places), attributes) as writer:
        for shard in range(dataset["shards"]):
            with ExitStack() as stack, torch.inference_mode():
                features, proposals, *runs = (
                    stack.enter_context(open_cache(paths[shard], kind, expect))
                    for paths, kind in zip(files, KINDS, strict=True)
                    if paths
                )
                rows = manifest.shard(whole, shard, dataset["shards"]).to_dict("records")
                for record in tqdm(rows, desc=f"{task}: examples"):
                    sample, place = record["sample_id"], places[record["sample_id"]]
                    truth = datasets.read_mask(record, dataset, scorer.how.size, truth_kind)
                    writer.put("truth", place, truth if truth.dtype == bool else truth.astype(np.int16))
                    grid, answers = decode(
                        scorer, f"{name}/{sample}", truth, features, proposals, runs, device
                    )
                    for prefix, answer, cache in zip(("", "shuffled/"), answers, runs, strict=False):
                        arrays = arrays_of(answer, cache, cache.position(sample), grid, label_table)
                        for key, value in arrays.items():
                            writer.put(f"{prefix}{key}", place, value)


if __name__ == "__main__":
    run(main, snakemake)
