"""Scoring outside the stages, for targets that vary one thing: a shard is read once, then solved, heard and scored anew."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from taco.cache.hdf5 import open_cache
from taco.conmf import Anchors, CoNMF, Initial, Result, Settings
from taco.data import datasets, reading
from taco.method import evaluate, proposals
from taco.method.factorize import read_tokens
from taco.metrics import ScorePool
from taco.models.clap import FrozenCLAP


class Part(NamedTuple):
    """One shard: what is solved, and what its maps are decoded from and compared to.

    Attributes
    ----------
    name : str
        Dataset.
    frame : DataFrame
        Manifest rows of the S samples.
    image, audio : list of float16 [N, C_I], [T, C_A]
        Tokens of each sample.
    samples : list of `taco.method.evaluate.Sample`
        Without runs.
    """

    name: str
    frame: pd.DataFrame
    image: list[Tensor]
    audio: list[Tensor]
    samples: list[evaluate.Sample]


def read(
    shard: pd.DataFrame,
    dataset: Mapping[str, Any],
    paths: tuple[str | Path, str | Path],
    expect: Mapping[str, Any],
    scorer: evaluate.Scorer,
    proposer: proposals.Proposer,
    clips: Collection[str] | None = None,
) -> Part:
    """Read samples of a shard from its caches.

    Parameters
    ----------
    shard : DataFrame
        Its manifest rows.
    dataset : mapping
        As `taco.suites.dataset` returns it.
    paths : (path, path)
        Feature and proposal file of the shard.
    expect : mapping
        Attributes that both must have, see `taco.cache.hdf5.open_cache`.
    scorer : Scorer
        Says at what size and against which truth.
    proposer : Proposer
    clips : collection of str, optional
        Ids of the clips to read; all by default.
    """
    frame = shard if clips is None else shard[shard["clip_id"].isin(clips)].reset_index(drop=True)
    name, ids = dataset["name"], frame["sample_id"].tolist()
    image, audio = read_tokens([paths[0]], expect, ids, ids)
    kind = "semantic" if scorer.how.kind == "semantic" else "binary"
    samples = []
    with ExitStack() as stack:
        features = stack.enter_context(open_cache(paths[0], "features", expect))
        kept = stack.enter_context(proposals.reader(paths[1], shard, proposer, expect))
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
    return Part(name, frame, image, audio, samples)


@torch.inference_mode()
def heard(
    part: Part, clap: FrozenCLAP, how: reading.Preparation, audio: Sequence[str], batch_size: int
) -> Part:
    """The same images with other sounds.

    Parameters
    ----------
    part : Part
    clap : FrozenCLAP
    how : Preparation
        Of the sounds; images are not read where it names no mode.
    audio : sequence of str
        Sound file of each sample; start and duration stay.
    batch_size : int
    """
    found = reading.batches(part.frame.assign(audio=audio), part.name, replace(how, modes=()), batch_size)
    pairs = [clap.tokens_and_embedding(batch["wave"].to(clap.device)) for batch in found]
    tokens = torch.cat([tokens for tokens, _ in pairs]).clamp(min=0).half().cpu()
    embeddings = torch.cat([embedding for _, embedding in pairs]).float()
    samples = [one._replace(clap_embedding=e) for one, e in zip(part.samples, embeddings, strict=True)]
    return part._replace(audio=list(tokens), samples=samples)


def solve(
    part: Part,
    solver: Mapping[str, Any],
    anchors: Anchors,
    seeds: Sequence[int],
    device: torch.device,
    initial: Initial | None = None,
) -> dict[int, Result]:
    """Factorize a part's samples; results by number of steps: the checkpoints, or the last step alone.

    ``solver`` holds arguments of `taco.conmf.Settings`; ``initial`` is a start that runs share, see `start`.
    """
    settings = Settings(**solver)
    if initial is not None:
        settings = replace(settings, init="given")
    fit = CoNMF(settings, anchors, device).fit
    keys, clips = [sample.key for sample in part.samples], part.frame["clip_id"].tolist()
    result = fit(part.image, part.audio, keys, seeds, clips, initial=initial)
    return result.checkpoints or {settings.steps: result}


def start(
    part: Part, solver: Mapping[str, Any], anchors: Anchors, device: torch.device, modality: str
) -> Tensor:
    """V's start [S, K, C] in one modality, ``image`` or ``audio``, for `taco.conmf.Initial`."""
    tokens = part.image if modality == "image" else part.audio
    keys = [sample.key for sample in part.samples]
    return CoNMF(Settings(**solver), anchors, device).initial_factors(tokens, keys, modality)


def run_of(result: Result, index: int, variant: str, bank: str, seeds: Sequence[int]) -> evaluate.Run:
    """Sample number ``index`` of a result, as it is scored."""
    found = (result.image_activations, result.image_factors, result.k_star)
    return evaluate.Run(variant, bank, seeds, *(x[:, index].to(x.device) for x in found))


@torch.inference_mode()
def rows(
    part: Part,
    runs: Mapping[tuple[str, str], Result],
    seeds: Sequence[int],
    scorer: evaluate.Scorer,
    pools: dict[tuple, ScorePool],
) -> Iterator[dict[str, Any]]:
    """Yield the score rows of a part; see `taco.metrics`.

    Parameters
    ----------
    part : Part
    runs : mapping (label of the variant, bank) → Result
        None: only what needs no factors is scored.
    seeds : sequence of int
        Of the runs.
    scorer : Scorer
    pools : dict
        ADE SP's scores are added.
    """
    for index, record in enumerate(part.frame.to_dict("records")):
        names = ", ".join(record["classes"])
        identity = {"task": scorer.how.task, "dataset": part.name, "class_name": names}
        identity |= {key: record[key] for key in ("sample_id", "clip_id")}
        found = [run_of(result, index, *key, seeds) for key, result in runs.items()]
        sample = part.samples[index]._replace(runs=found)
        yield from ({**identity, **row} for _, row in scorer.scored(sample, pools, names))
