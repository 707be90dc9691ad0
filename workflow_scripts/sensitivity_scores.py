"""Score one task with each value of the solver's settings that are chosen on the validation split."""

import logging
from contextlib import ExitStack
from typing import NamedTuple

import pandas as pd
import torch
from job import run
from tqdm import tqdm

from taco import runtime
from taco.cache.hdf5 import open_cache
from taco.conmf import CoNMF, Settings
from taco.data import datasets, manifest
from taco.method import evaluate, proposals
from taco.method.factorize import anchors_of, read_tokens
from taco.method.text import CLASSES, Text
from taco.results import aggregate, sensitivity

log = logging.getLogger("taco")


class Part(NamedTuple):
    """One shard: what is solved, and what its maps are decoded from and compared to."""

    frame: pd.DataFrame
    image: list
    audio: list
    samples: list


def read_part(frame, name, paths, expect, scorer, dataset, proposer):
    """A shard's tokens, and its samples without runs."""
    ids = frame["sample_id"].tolist()
    image, audio = read_tokens([paths[0]], expect, ids, ids)
    kind = "semantic" if scorer.how.kind == "semantic" else "binary"
    samples = []
    with ExitStack() as stack:
        features = stack.enter_context(open_cache(paths[0], "features", expect))
        kept = stack.enter_context(proposals.reader(paths[1], frame, proposer, expect))
        for record, proposed in zip(frame.to_dict("records"), kept.of(ids), strict=True):
            index = features.position(record["sample_id"])
            samples.append(
                evaluate.Sample(
                    key=f"{name}/{record['sample_id']}",
                    proposals=proposed,
                    clap_embedding=torch.from_numpy(features["clap_embedding"][index]).to(proposer.device),
                    grid=tuple(features["grid"][index].tolist()),
                    truth=datasets.read_mask(record, dataset, scorer.how.size, kind),
                    runs=[],
                )
            )
    return Part(frame, image, audio, samples)


def solve(parts, solver, anchors, seeds, name, device):
    """Results of each part by number of steps: the checkpoints, or the last step alone."""
    found = {}
    for part in parts:
        keys = [f"{name}/{sample}" for sample in part.frame["sample_id"]]
        fit = CoNMF(Settings(**solver), anchors, device).fit
        result = fit(part.image, part.audio, keys, seeds, part.frame["clip_id"].tolist())
        for steps, at in (result.checkpoints or {solver["steps"]: result}).items():
            found.setdefault(steps, []).append(at)
    return found


@torch.inference_mode()
def scores(parts, results, scorer, bank, seeds, task, name):
    """Every metric of TACO for each seed."""
    rows, pools = [], {}
    for part, result in zip(parts, results, strict=True):
        for index, record in enumerate(part.frame.to_dict("records")):
            found = (result.image_activations, result.image_factors, result.k_star)
            one = evaluate.Run("proposed", bank, seeds, *(x[:, index].to(x.device) for x in found))
            names = ", ".join(record["classes"])
            identity = {"task": task, "dataset": name, "class_name": names}
            identity |= {key: record[key] for key in ("sample_id", "clip_id")}
            scored = scorer.scored(part.samples[index]._replace(runs=[one]), pools, names)
            rows += [{**identity, **row} for answer, row in scored if answer.method == "TACO"]
    return aggregate.per_seed(pd.DataFrame(rows), pd.DataFrame(evaluate.pool_rows(pools, task, name)))


def main(snakemake):
    params, inputs, task = snakemake.params, snakemake.input, snakemake.wildcards.task
    settings, dataset, name = params.settings, params.dataset, params.dataset["name"]
    device = runtime.setup(settings["device"], snakemake.threads)
    text = Text(inputs.text)
    expect = {key: text.attributes[key] for key in ("clip_digest", "clap_digest", "fcclip_digest")}
    expect["dataset"] = name
    how = evaluate.Scoring(
        task, name, settings["evaluation"]["size"], settings["seed"], (), (), **params.ensemble
    )
    scorer = evaluate.Scorer(how, text.labels(name, CLASSES), text.constants, device)
    whole = manifest.read(inputs.manifest)
    proposer = proposals.Proposer(settings["models"], device)
    paths = zip(inputs.features, inputs.proposals, strict=True)
    frames = (manifest.shard(whole, shard, dataset["shards"]) for shard in range(dataset["shards"]))
    parts = [
        read_part(frame, name, files, expect, scorer, dataset, proposer)
        for frame, files in zip(frames, paths, strict=True)
        if len(frame)
    ]
    solver = {**params.solver, "init_seed": settings["seed"], "trace_every": 0}
    anchors, seeds, tables = anchors_of(text, name, params.bank), settings["seeds"], []
    trials = sensitivity.trials(solver, settings["sensitivity"])
    for trial in tqdm(trials, desc=f"{task}: sensitivity"):
        for steps, results in solve(parts, trial.solver, anchors, seeds, name, device).items():
            values = scores(parts, results, scorer, params.bank, seeds, task, name)
            tables += [values.assign(parameter=p, setting=v) for p, v in trial.shown_as(steps)]
    with runtime.atomic_write(snakemake.output[0]) as path:
        pd.concat(tables).to_csv(path, index=False, lineterminator="\n")


if __name__ == "__main__":
    run(main, snakemake)
