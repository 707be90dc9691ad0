"""How far a way of solving is from float64, from the same start: the gates that a fast path must pass."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from taco.bench.problems import SIZES, problem
from taco.cache.hdf5 import open_cache
from taco.conmf import Anchors, CoNMF, Initial, Result, Settings
from taco.method.text import Text

MARGIN = 1e-4
# At most this relative difference of the last objective; at least these shares of equal k*, and mean IoU of the maps.
GATES = {"objective": 1e-4, "k_star": 0.99, "iou": 0.99}
GATE_SAMPLES = 16
PLANTED, TRAINED = ("objective",), ("k_star", "iou")


class Problem(NamedTuple):
    """Samples to compare on.

    Attributes
    ----------
    image, audio : Tensor [S, N, C]
    anchors : Anchors
    keys : list of str, length S
    gates : tuple of str
        Those of :data:`GATES` that hold here: ``objective`` on random and planted tokens, ``k_star`` and ``iou`` on
        those of trained models.
    """

    image: Tensor
    audio: Tensor
    anchors: Anchors
    keys: list[str]
    gates: tuple[str, ...]


class Exact(NamedTuple):
    """The outcome in float64, and the start that it shares with what is compared."""

    result: Result
    initial: Initial
    settings: Settings


def suite_problem(folder: str | Path, dataset: str, samples: int) -> Problem:
    """First samples of a dataset in a suite's results (``results/miniature``), with the general word bank."""
    folder = Path(folder)
    text = Text(folder / "text.h5")
    labels = text.labels(dataset, "general")
    with open_cache(folder / "features" / dataset / "0.h5", "features") as cache:
        keys = [f"{dataset}/{sample}" for sample in cache.sample_ids[:samples]]
        image, audio = (
            torch.stack([torch.from_numpy(cache[name][i]).float() for i in range(len(keys))])
            for name in ("image_tokens", "audio_tokens")
        )
    return Problem(image, audio, Anchors.from_arrays(labels.clip, labels.clap, text.constants), keys, TRAINED)


def exact(
    problem: Problem, settings: Settings | None = None, seeds: Sequence[int] = (0,), device: str = "cpu"
) -> Exact:
    """Solve in float64, by plain steps, from a start computed in float32; the paper's settings unless given."""
    settings = settings or Settings()
    image, audio = problem.image.float(), problem.audio.float()
    start = CoNMF(settings, problem.anchors, device).initial_factors
    initial = Initial(start(image, problem.keys, "image"), start(audio, problem.keys, "audio"))
    settings = replace(settings, init="given", trace_every=max(1, settings.steps - 1), checkpoints=())
    solver = CoNMF(settings, problem.anchors, device)
    result = solver.fit(image.double(), audio.double(), problem.keys, seeds, initial=initial)
    return Exact(result, initial, settings)


def deviation(problem: Problem, truth: Exact, device: str, way: Mapping[str, object] | None = None) -> dict:
    """Compare float32 on ``device``, with the settings of ``way``, with the exact outcome.

    Returns
    -------
    dict
        ``objective``: largest relative difference of the last objective, ``objective_median`` the median; ``k_star``:
        share of equal k* where the margin between the two least cross-entropies exceeds 1e-4, ``clear`` how many those
        are; ``iou``: mean IoU of the two maps U[:, k*] min-max normalised and cut at 0.5; ``passed``: the problem's gates.

    Notes
    -----
    The choice of k* makes the descent discontinuous: a pair near a tie may take the other branch for any rounding,
    plain float32 included; it counts like any other.
    """
    settings = replace(truth.settings, **(way or {}))
    image, audio = problem.image.float(), problem.audio.float()
    fast = CoNMF(settings, problem.anchors, device).fit(
        image, audio, problem.keys, truth.result.seeds, initial=truth.initial
    )
    least = truth.result.cross_entropy.sort(2).values
    clear = least[..., 1] - least[..., 0] > MARGIN
    masks = [chosen_mask(result) for result in (fast, truth.result)]
    overlap = (masks[0] & masks[1]).sum(2) / (masks[0] | masks[1]).sum(2)
    relative = (fast.objective[..., -1].double() / truth.result.objective[..., -1] - 1).abs()
    found = {
        "objective": float(relative.max()),
        "objective_median": float(relative.median()),
        "k_star": float((fast.k_star == truth.result.k_star)[clear].double().mean()),
        "clear": int(clear.sum()),
        "iou": float(overlap.mean()),
    }
    held = {
        "objective": found["objective"] < GATES["objective"],
        **{name: found[name] >= GATES[name] for name in TRAINED},
    }
    return found | {"passed": all(held[name] for name in problem.gates)}


def chosen_mask(result: Result) -> Tensor:
    """The chosen factor's activations [R, S, N], min-max normalised and cut at 0.5."""
    index = result.k_star[..., None, None].expand(*result.image_activations.shape[:3], 1)
    chosen = result.image_activations.gather(3, index).squeeze(3)
    low, high = chosen.amin(2, keepdim=True), chosen.amax(2, keepdim=True)
    return chosen - low > 0.5 * (high - low)


def compare(ways: Mapping[str, Mapping[str, object]], tokens: str | Path | None, device: str) -> list[dict]:
    """Deviation of each way on planted tokens, at the paper's size too on a GPU, and on those of a suite."""
    if not ways:
        return []
    cuda = torch.device(device).type == "cuda"
    seeds = range(3) if cuda else range(1)
    problems = {}
    for size, samples in (("miniature", GATE_SAMPLES), ("paper", 4 * GATE_SAMPLES))[: 1 + cuda]:
        image, audio, anchors = problem(SIZES[size], samples)
        keys = [f"planted/{i}" for i in range(samples)]
        problems[f"planted, {size}"] = Problem(image.half(), audio.half(), anchors, keys, PLANTED)
    if tokens is not None:
        datasets = sorted(path.name for path in Path(tokens, "features").iterdir())
        problems |= {name: suite_problem(tokens, name, GATE_SAMPLES) for name in datasets}
    found = []
    for name, case in problems.items():
        truth = exact(case, seeds=seeds, device=device)
        found += [
            {"tokens": name, "version": version} | deviation(case, truth, device, way)
            for version, way in ways.items()
        ]
    return found
