"""Decode and score a shard: one row per sample, method, variant, word bank and seed."""

from contextlib import ExitStack

import torch
from job import run

from taco import runtime
from taco.cache.hdf5 import open_cache
from taco.data import datasets, manifest
from taco.data.reading import ahead
from taco.method import evaluate
from taco.method.text import CLASSES, Text
from taco.models import fcclip
from taco.progress import progress
from taco.results.aggregate import write_rows


def open_factors(stack, paths, runs, variants, expect):
    """Open factor files, in the order of ``runs``; pairs of (variant's label, bank) and cache."""
    opened = []
    for path, (bank, variant) in zip(paths, runs, strict=True):
        cache = stack.enter_context(open_cache(path, "factors", {**expect, "bank": bank, "variant": variant}))
        opened.append((variants[variant]["label"], bank, cache))
    return opened


def read_run(label, bank, cache, index, device):
    """One sample's factors of one run."""
    names = ("image_activations", "image_factors", "k_star")
    activations, factors, k_star = (torch.from_numpy(cache[name][index]).to(device) for name in names)
    return evaluate.Run(label, bank, cache.attributes["seeds"], activations.float(), factors, k_star.long())


def read_proposals(cache, index, device):
    """One image's proposals, as a batch of one."""
    names = ("masks", "class_embeddings", "pooled")
    tensors = (torch.from_numpy(cache[name][index])[None].to(device).float() for name in names)
    return fcclip.Proposals(*tensors, [tuple(cache["geometry"][index].tolist())])


def main(snakemake):
    params, wildcards = snakemake.params, snakemake.wildcards
    device = runtime.setup(params.settings["device"], snakemake.threads)
    dataset, name = params.dataset, params.dataset["name"]
    frame = manifest.shard(manifest.read(snakemake.input.manifest), int(wildcards.shard), dataset["shards"])
    how = evaluate.Scoring(
        task=wildcards.task,
        dataset=name,
        seed=params.settings["seed"],
        **params.settings["evaluation"],
        **params.settings["decoding"],
    )
    text = Text(snakemake.input.text)
    scorer = evaluate.Scorer(how, text.labels(name, CLASSES), text.constants, device)
    digests = {key: text.attributes[key] for key in ("clip_digest", "clap_digest", "fcclip_digest")}
    expect = {"dataset": name, **digests}
    truth_kind = "semantic" if how.kind == "semantic" else "binary"
    rows, histograms = [], {}
    with ExitStack() as stack, torch.inference_mode():
        features = stack.enter_context(open_cache(snakemake.input.features, "features", expect))
        proposals = stack.enter_context(open_cache(snakemake.input.proposals, "proposals", expect))
        runs = open_factors(stack, snakemake.input.factors, params.runs, params.settings["variants"], expect)

        def read(record):
            sample = record["sample_id"]
            position = features.position(sample)
            answer = evaluate.Sample(
                key=f"{name}/{sample}",
                proposals=read_proposals(proposals, proposals.position(sample), device),
                clap_embedding=torch.from_numpy(features["clap_embedding"][position]).to(device),
                grid=tuple(features["grid"][position].tolist()),
                truth=datasets.read_mask(record, dataset, how.size, truth_kind),
                runs=[read_run(label, bank, c, c.position(sample), device) for label, bank, c in runs],
            )
            return record, answer

        with progress(len(frame), f"{wildcards.task}: scores") as bar:
            for record, answer in ahead(read, frame.to_dict("records")):
                identity = {key: record[key] for key in ("sample_id", "clip_id")}
                identity |= {
                    "task": wildcards.task,
                    "dataset": name,
                    "class_name": ", ".join(record["classes"]),
                }
                scored = scorer.rows(answer, histograms, identity["class_name"])
                rows += [{**identity, **row} for row in scored]
                bar.update()
    with runtime.atomic_write(snakemake.output.histograms) as path:
        write_rows(evaluate.histogram_rows(histograms, wildcards.task, name), path, "histogram")
    cost = {
        "seconds": dict(scorer.seconds),
        "answers": dict(scorer.answers),
        "samples": len(frame),
        "threads": torch.get_num_threads(),
        "device": runtime.describe(device),
    }
    with runtime.atomic_write(snakemake.output.rows) as path:
        write_rows(rows, path, truth_kind, cost)


if __name__ == "__main__":
    run(main, snakemake)
