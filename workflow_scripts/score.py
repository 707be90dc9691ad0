"""Decode and score a shard, all tasks of its dataset in one pass: a row per sample, method, variant, bank and seed.

What figures and gallery show of the samples is kept on the way.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from job import run

from taco import runtime
from taco.cache import receipts
from taco.cache.hdf5 import open_cache
from taco.data import datasets, manifest
from taco.data.reading import ahead
from taco.method import contributed, evaluate, factorize, proposals
from taco.method.examples import ExampleWriter
from taco.method.naming import FACTOR
from taco.method.stored import StoredRun
from taco.method.text import CLASSES, Text
from taco.progress import progress
from taco.results import pools, score_files


class Work(NamedTuple):
    """One task of the dataset: its scorer, its runs, and what has been made so far."""

    task: str
    scorer: evaluate.Scorer
    runs: list[StoredRun]
    contributed: dict[str, Any]
    examples: ExampleWriter
    rows: list[dict[str, Any]]
    pools: dict[tuple, Any]
    keep: Callable[[Iterable[dict[str, Any]]], None]

    @property
    def truth_kind(self) -> str:
        """The truth that the task is scored against."""
        return "semantic" if self.scorer.how.kind == "semantic" else "binary"

    def write_pools(self) -> None:
        """Write what has been pooled, and forget it."""
        self.keep(evaluate.pool_rows(self.pools, self.task, self.scorer.how.dataset))
        self.pools.clear()


def others_on(task, predictions, params):
    """Open predictions of contributed methods that answer a task, by their label."""
    return {params.labels[name]: cache for name, cache in predictions.items() if task in cache}


def answers_of(label, cache, task, sample):
    """A contributed method's answers to one sample, one for each seed."""
    for seed, scores in zip(cache.attributes["seeds"], cache[task][cache.position(sample)], strict=True):
        if scores.dtype.kind != "f":
            scores = scores.astype(np.int64)
        yield evaluate.Prediction(label, contributed.VARIANT, evaluate.NO_BANK, seed, scores, -1, "")


def work_on(task, options, snakemake, text, factors, predictions, samples, device, stack):
    """A task's scorer, runs and examples, opened."""
    params, name = snakemake.params, snakemake.wildcards.dataset
    settings, variants = params.settings, params.variants
    how = evaluate.Scoring(
        task=task,
        dataset=name,
        seed=settings["seed"],
        metrics=params.metrics,
        **settings["evaluation"],
        **settings["decoding"],
    )
    scorer = evaluate.Scorer(how, text.labels(name, CLASSES), text.constants, device)
    runs = [
        StoredRun(variants[variant]["label"], bank, factors[solved], variants[variant].get("classes", FACTOR))
        for (bank, variant), solved in options["runs"]
    ]
    shown = {}
    for one, ((bank, variant), _) in zip(runs, options["runs"], strict=True):
        if bank == options["default_bank"] and variant == "proposed":
            shown[""] = one
        elif variants[variant]["sound"] == "shuffled":
            shown.setdefault("shuffled/", one)
    attributes = {"dataset": name, "task": task, "bank": options["default_bank"], "code": params.code}
    path = Path(snakemake.output[0], f"{task}.examples.h5")
    others = others_on(task, predictions, params)
    examples = stack.enter_context(ExampleWriter(path, samples, shown, list(others), attributes))
    keep = stack.enter_context(pools.writer(Path(snakemake.output[0], f"{task}.pools.parquet")))
    return Work(task, scorer, runs, others, examples, [], {}, keep)


def score(works, index, record, samples, proposed):
    """Score one sample for all tasks; ``samples`` holds what each needs of it, but for its proposals."""
    masks = evaluate.shared_masks(proposed, [work.scorer for work in works])
    names = ", ".join(record["classes"])
    for work, sample in zip(works, samples, strict=True):
        identity = {key: record[key] for key in ("sample_id", "clip_id")}
        identity |= {"task": work.task, "dataset": work.scorer.how.dataset, "class_name": names}
        sample = sample._replace(proposals=proposed, masks=masks)
        work.examples.truth(index, sample.truth)
        for answer, row in work.scorer.scored(sample, work.pools, names):
            work.rows.append({**identity, **row})
            work.examples.answer(index, answer, sample)
        if sum(pool.n_pixels for pool in work.pools.values()) > pools.MOST_PIXELS:
            work.write_pools()


def made_from(snakemake, work, frame):
    """What a task's rows are made from."""
    params, inputs = snakemake.params, snakemake.input
    told = [
        params.tasks[work.task],
        params.labels,
        params.dataset,
        params.variants,
        params.metrics,
        params.settings,
    ]
    caches = {name: (inputs[name], name) for name in ("features", "proposals", "text")}
    for key, path in receipts.read(inputs.factors).items():
        caches["/".join(["factors", *key])] = path, "factors"
    for receipt in inputs.contributed:
        for (method,), path in receipts.read(receipt).items():
            caches[f"predictions/{method}"] = path, "predictions"
    return score_files.made_from(params.code, told, frame, caches)


def write(work, folder, device, samples, made):
    """Write a task's rows."""
    cost = {
        "seconds": dict(work.scorer.seconds),
        "answers": dict(work.scorer.answers),
        "samples": samples,
        "threads": torch.get_num_threads(),
        "device": runtime.describe(device),
    }
    path = Path(folder, f"{work.task}.rows.parquet")
    score_files.write_rows(work.rows, path, work.truth_kind, cost, made)


def main(snakemake):
    params, inputs, name = snakemake.params, snakemake.input, snakemake.wildcards.dataset
    device = runtime.setup(params.settings["device"], snakemake.threads)
    dataset = params.dataset
    frame = manifest.read_shard(inputs.manifest, int(snakemake.wildcards.shard), dataset["shards"])
    text = Text(inputs.text)
    expect = {key: text.attributes[key] for key in ("clip_digest", "clap_digest", "fcclip_digest")}
    expect["dataset"] = name
    solved = {key: expect[key] for key in ("dataset", *factorize.MODELS)}
    size = params.settings["evaluation"]["size"]
    with ExitStack() as stack, torch.inference_mode():
        features = stack.enter_context(open_cache(inputs.features, "features", expect))
        proposer = proposals.Proposer(params.settings["models"], device)
        kept = stack.enter_context(
            proposals.reader(inputs.proposals, frame, proposer, expect, threads=snakemake.threads)
        )
        factors = {
            key: stack.enter_context(
                open_cache(path, "factors", {**solved, "bank": key[0], "variant": key[1]})
            )
            for key, path in receipts.read(inputs.factors).items()
        }
        predictions = {
            method: stack.enter_context(open_cache(path, "predictions", {"dataset": name}))
            for receipt in inputs.contributed
            for (method,), path in receipts.read(receipt).items()
        }
        samples = frame["sample_id"].tolist()
        works = [
            work_on(task, options, snakemake, text, factors, predictions, samples, device, stack)
            for task, options in params.tasks.items()
        ]

        def read(record):
            sample = record["sample_id"]
            position = features.position(sample)
            shared = {
                "key": f"{name}/{sample}",
                "proposals": None,
                "clap_embedding": torch.from_numpy(features["clap_embedding"][position]).to(device),
                "grid": tuple(features["grid"][position].tolist()),
            }
            # Tasks share runs: each is read once.
            runs = {one: one.read(sample, device) for work in works for one in work.runs}
            return record, [
                evaluate.Sample(
                    **shared,
                    truth=datasets.read_mask(record, dataset, size, work.truth_kind),
                    runs=[runs[one] for one in work.runs],
                    contributed=[
                        answer
                        for label, cache in work.contributed.items()
                        for answer in answers_of(label, cache, work.task, sample)
                    ],
                )
                for work in works
            ]

        with progress(len(frame), f"{name}: scores") as bar:
            read_ahead = zip(ahead(read, frame.to_dict("records")), kept.of(samples), strict=True)
            for index, ((record, found), proposed) in enumerate(read_ahead):
                score(works, index, record, found, proposed)
                bar.update()
        for work in works:
            work.write_pools()
    for work in works:
        write(work, snakemake.output[0], device, len(frame), made_from(snakemake, work, frame))


if __name__ == "__main__":
    run(main, snakemake)
