"""Score and time of the decomposition against its number of steps, on the first samples of ADE SP (Figure 6)."""

import time

import numpy as np
import pandas as pd
import torch
from job import run

from taco import runtime
from taco.cache.hdf5 import open_cache
from taco.conmf import CoNMF, Settings
from taco.data import datasets, manifest
from taco.method import evaluate, features, proposals
from taco.method.factorize import anchors_of, read_tokens
from taco.method.text import CLASSES, Text

TASK, METRIC = "ade_sp", "mAP"
FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


class Discard:
    """Takes the features of a timed pass and keeps nothing."""

    def put(self, *_):
        """Drop an array."""


def timed(function, *arguments, **named):
    """Result and seconds of a call; waits for the GPU where there is one."""
    started = time.perf_counter()
    result = function(*arguments, **named)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - started


def solve(image, audio, keys, text, name, bank, settings, device):
    """Results by number of steps, and the seconds that each number takes.

    Steps cost the same each, so seconds are those of the start (k-means and one step, timed alone) plus an even
    share of the rest.
    """
    steps = settings["steps"]
    checkpoints = sorted({max(1, round(steps * part)) for part in FRACTIONS})
    anchors = anchors_of(text, name, bank)
    start = CoNMF(Settings(**{**settings, "steps": 1, "halve_at": ()}), anchors, device)
    _, first = timed(start.fit, image, audio, keys, (0,))
    solver = CoNMF(Settings(**settings, checkpoints=tuple(checkpoints)), anchors, device)
    result, whole = timed(solver.fit, image, audio, keys, (0,))
    share = (whole - first) / max(steps - 1, 1)
    return result.checkpoints, {step: first + (step - 1) * share for step in checkpoints}


def samples_of(frame, truths, results, caches, bank, name, device):
    """Samples with one run for each checkpoint."""
    feats, kept = caches
    records = frame.to_dict("records")
    for number, (record, proposed) in enumerate(zip(records, kept.of(frame["sample_id"]), strict=True)):
        index = feats.position(record["sample_id"])
        runs = [
            evaluate.Run(
                str(step),
                bank,
                (0,),
                result.image_activations[:, number].to(device),
                result.image_factors[:, number].to(device),
                result.k_star[:, number].to(device),
            )
            for step, result in results.items()
        ]
        yield evaluate.Sample(
            key=f"{name}/{record['sample_id']}",
            proposals=proposed,
            clap_embedding=torch.from_numpy(feats["clap_embedding"][index]).to(device),
            grid=tuple(feats["grid"][index].tolist()),
            truth=truths[number],
            runs=runs,
        )


def mean_precision(pools, method, variant):
    """Mean average precision over classes of one method and variant."""
    found = [pool for key, pool in pools.items() if key[1:3] == (method, variant)]
    return float(np.mean([pool.average_precision() for pool in found]))


def rest_of_inference(frame, dataset, settings, scorer, samples, device):
    """Seconds of everything but the decomposition, for all samples: reading, features, proposals, decoding."""
    models = features.load_models(settings["models"], device)
    how = features.Extraction(
        dataset["image_tokens"], settings["features"]["audio_crop"], 1, settings["seed"]
    )
    features.extract(frame.iloc[:1], dataset["name"], models, how, Discard(), Discard())  # warms up
    _, forward = timed(features.extract, frame, dataset["name"], models, how, Discard(), Discard())
    single = [sample._replace(runs=sample.runs[-1:]) for sample in samples]
    _, decoding = timed(lambda: [list(scorer.predictions(sample, 0)) for sample in single])
    return forward + decoding


def main(snakemake):
    params = snakemake.params
    settings, dataset, name, bank = params.settings, params.dataset, params.dataset["name"], params.bank
    device = runtime.setup(settings["device"], snakemake.threads)
    shard = manifest.read_shard(snakemake.input.manifest, 0, dataset["shards"])
    frame = shard.iloc[: settings["figures"]["step_samples"]]
    proposer = proposals.Proposer(settings["models"], device)
    text, ids = Text(snakemake.input.text), frame["sample_id"].tolist()
    image, audio = read_tokens([snakemake.input.features], {"dataset": name}, ids, ids)
    keys = [f"{name}/{sample}" for sample in ids]
    solver = {**params.solver, "init_seed": settings["seed"], "trace_every": 0}
    results, seconds = solve(image, audio, keys, text, name, bank, solver, device)
    how = evaluate.Scoring(
        TASK, name, settings["evaluation"]["size"], settings["seed"], ("list",), (), **params.ensemble
    )
    scorer = evaluate.Scorer(how, text.labels(name, CLASSES), text.constants, device)
    truths = [datasets.read_mask(record, dataset, how.size, "binary") for record in frame.to_dict("records")]
    pools = {}
    with (
        open_cache(snakemake.input.features, "features") as feats,
        proposals.reader(snakemake.input.proposals, shard, proposer, threads=snakemake.threads) as kept,
        torch.inference_mode(),
    ):
        samples = list(samples_of(frame, truths, results, (feats, kept), bank, name, device))
        for sample, classes in zip(samples, frame["classes"], strict=True):
            list(scorer.scored(sample, pools, ", ".join(classes)))
        other = rest_of_inference(frame, dataset, settings, scorer, samples, device)
    table = pd.DataFrame(
        {
            "task": TASK,
            "metric": METRIC,
            "steps": list(results),
            "value": [mean_precision(pools, "TACO", str(step)) for step in results],
            "baseline": mean_precision(pools, "A-FC-CLIP", "list"),
            "solve_seconds": [seconds[step] / len(frame) for step in results],
            "other_seconds": other / len(frame),
            "n_samples": len(frame),
            "device": f"{runtime.describe(device)}, threads: {torch.get_num_threads()}",
        }
    )
    with runtime.atomic_write(snakemake.output[0]) as path:
        table.to_csv(path, index=False, lineterminator="\n")


if __name__ == "__main__":
    run(main, snakemake)
