"""Score one task of the generated world with its sounds at several signal-to-noise ratios; images stay as they are."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from job import run
from tqdm import tqdm

from taco import runtime
from taco.conmf import Initial
from taco.data import manifest, media, reading
from taco.method import anew, evaluate, proposals
from taco.method.factorize import anchors_of
from taco.method.text import CLASSES, Text
from taco.miniature.writer import write_sounds
from taco.models import clap
from taco.results import hearing


def parts_of(inputs, dataset, clips, text, scorer, proposer):
    """The task's samples, of all shards, from its first clips (None: all)."""
    expect = {key: text.attributes[key] for key in ("clip_digest", "clap_digest", "fcclip_digest")}
    expect["dataset"] = dataset["name"]
    whole = manifest.read(inputs.manifest)
    kept = set(manifest.limit(whole, clips)["clip_id"])
    shards = [manifest.shard(whole, shard, dataset["shards"]) for shard in range(dataset["shards"])]
    files = zip(inputs.features, inputs.proposals, strict=True)
    return [
        anew.read(shard, dataset, paths, expect, scorer, proposer, kept)
        for shard, paths in zip(shards, files, strict=True)
        if kept & set(shard["clip_id"])
    ]


def sounding(parts, world, snr_db, params, model):
    """The same samples with the world's sounds at another signal-to-noise ratio."""
    settings, dataset = params.settings, params.dataset
    options = settings["features"]
    hearing = media.Hearing(
        model.sample_rate, model.window, options["audio_crop"], settings["seed"], options["stereo"]
    )
    how = reading.Preparation(0, (), hearing)
    with TemporaryDirectory() as folder:
        write_sounds(Path(folder), {**settings["world"], "snr_db": snr_db}, dataset["name"], dataset["split"])
        for part in parts:
            audio = [str(Path(folder, Path(path).relative_to(world))) for path in part.frame["audio"]]
            yield anew.heard(part, model, how, audio, params.batch_size)


def starts(parts, modality, anchors, runs, device):
    """V's start of each part in one modality, which its runs share; None without runs."""
    first = next(iter(runs.values()), None)
    return [anew.start(part, first, anchors, device, modality) if first else None for part in parts]


def solved(part, initial, anchors, runs, seeds, device):
    """A part's results, by variant's label and bank."""
    return {
        key: next(iter(anew.solve(part, solver, anchors, seeds, device, initial).values()))
        for key, solver in runs.items()
    }


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    settings, dataset = params.settings, params.dataset
    device = runtime.setup(settings["device"], snakemake.threads)
    text, proposer = Text(inputs.text), proposals.Proposer(settings["models"], device)
    how = evaluate.Scoring(
        snakemake.wildcards.task, dataset["name"], settings["evaluation"]["size"], settings["seed"],
        ("list",), (), **params.ensemble,
    )  # fmt: skip
    scorer = evaluate.Scorer(how, text.labels(dataset["name"], CLASSES), text.constants, device)
    parts = parts_of(inputs, dataset, params.clips, text, scorer, proposer)
    model = clap.load(settings["models"]["clap"], device)
    always = {"init_seed": settings["seed"], "trace_every": 0}
    runs = {(label, params.bank): {**solver, **always} for label, solver in params.runs.items()}
    anchors = anchors_of(text, dataset["name"], params.bank)
    images = starts(parts, "image", anchors, runs, device)
    tables = []
    for ratio in tqdm(params.snr_db, desc=f"{how.task}: signal-to-noise ratios"):
        snr_db = ratio if isinstance(ratio, (list, tuple)) else (ratio, ratio)
        rows, pools = [], {}
        heard = list(sounding(parts, inputs.world, snr_db, params, model))
        for part, *both in zip(heard, images, starts(heard, "audio", anchors, runs, device), strict=True):
            found = solved(part, Initial(*both), anchors, runs, settings["seeds"], device)
            rows += anew.rows(part, found, settings["seeds"], scorer, pools)
        pooled = pd.DataFrame(evaluate.pool_rows(pools, how.task, dataset["name"]))
        low, high = snr_db
        tables.append(hearing.scores(pd.DataFrame(rows), pooled).assign(low_db=low, high_db=high))
    with runtime.atomic_write(snakemake.output[0]) as path:
        pd.concat(tables).to_csv(path, index=False, lineterminator="\n")


if __name__ == "__main__":
    run(main, snakemake)
