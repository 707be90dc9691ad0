"""Factorize a shard's samples: all seeds of every word bank and variant. What is there and right is kept."""

import logging

import torch
from job import run

from taco import runtime
from taco.cache import receipts
from taco.data import manifest
from taco.method import factorize
from taco.method.text import Text
from taco.progress import progress

log = logging.getLogger("taco")


def shard_of(snakemake):
    """The shard's manifest rows, tokens and text."""
    params, wildcards = snakemake.params, snakemake.wildcards
    path = snakemake.input.manifest
    whole = manifest.read(path, ["sample_id", "clip_id", "frame", "classes"])
    text = Text(snakemake.input.text)
    others = [file for gathered in snakemake.input.others for file in receipts.read(gathered).values()]
    return factorize.Shard(
        name=wildcards.dataset,
        frame=manifest.read_shard(path, int(wildcards.shard), params.shards),
        whole=whole,
        features={factorize.OWN: [snakemake.input.own], factorize.SHUFFLED: others},
        text=text,
        seed=params.settings["seed"],
        expect=factorize.expected(text, wildcards.dataset),
    )


def main(snakemake):
    params, wildcards = snakemake.params, snakemake.wildcards
    device = runtime.setup(params.settings["device"], snakemake.threads)
    shard, seeds = shard_of(snakemake), list(params.settings["seeds"])
    code = [params.code, params.settings["device"]]
    runs = [factorize.Run(**one) for one in params.runs]
    files = {(one.bank, one.variant): path for one, path in zip(runs, params.files, strict=True)}
    bases = [shard.basis(one, seeds, code) for one in runs]
    due = [
        (one, basis)
        for one, basis in zip(runs, bases, strict=True)
        if not factorize.is_right(files[one.bank, one.variant], basis)
    ]
    log.info("%d of %d runs are there and right", len(runs) - len(due), len(runs))
    with progress(len(due) * len(shard.samples), f"{wildcards.dataset}: factors") as bar:
        for one, basis in due:
            result, seconds = factorize.solve(shard, one, seeds, device, bar.update)
            attributes = {
                "dataset": shard.name,
                **{name: shard.expect[name] for name in factorize.MODELS},
                "bank": one.bank,
                "variant": one.variant,
                "sounds": one.sound,
                "basis": basis,
                "seeds": seeds,
                "solver": dict(one.solver),
                "code": params.code,
                "device": runtime.describe(device),
                "cost": {
                    "seconds": seconds,
                    "samples": len(shard.samples),
                    "threads": torch.get_num_threads(),
                },
            }
            factorize.write(files[one.bank, one.variant], shard.samples, result, attributes)
            log.info("%s, %s: %d samples, %d seeds", one.bank, one.variant, len(shard.samples), len(seeds))
    receipts.write(snakemake.output[0], files, params.state)


if __name__ == "__main__":
    run(main, snakemake)
