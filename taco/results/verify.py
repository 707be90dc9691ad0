"""Checks of a short run, the first thing to do with real weights: expectation, finding, verdict.

Each function takes what an ordinary run has left (arrays of its caches, score rows) and returns `Check`s. What can be
known exactly is expected exactly; what the models must be able to do is tested against chance. `taco.results.agreement`
compares scores to published ones.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from taco.metrics.tasks import TASKS
from taco.results import comparisons
from taco.results.pages import Grid, Page
from taco.results.resampling import paired_bootstrap
from taco.results.tables import suite_title

OK, DEVIATES, UNCLEAR, UNCHECKED = "ok", "deviates", "unclear", "not checked"
CHANCE = 0.01
"""One-sided probability below which a result is not chance."""


class Check(NamedTuple):
    """One line of the table."""

    part: str
    check: str
    expectation: str
    finding: str
    verdict: str


def verdict(holds: bool) -> str:
    """``ok`` or ``deviates``."""
    return OK if holds else DEVIATES


# ---------------------------------------------------------------- tokens and masks


def token_statistics(tokens: np.ndarray) -> dict[str, Any]:
    """What `token_checks` needs of one sample's tokens [N, C]: bounds, zeros, rows without a value, mean row."""
    tokens = np.asarray(tokens, dtype=np.float32)
    return {
        "finite": bool(np.isfinite(tokens).all()),
        "least": float(tokens.min()),
        "zeros": float((tokens == 0).mean()),
        "empty": int((~tokens.any(axis=1)).sum()),
        "count": len(tokens),
        "mean": tokens.mean(axis=0),
    }


def token_checks(part: str, samples: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Checks of the `token_statistics` of some samples; samples that share a sound or image come once."""
    zeros = np.array([sample["zeros"] for sample in samples])
    means = np.stack([sample["mean"] for sample in samples])
    finite = all(sample["finite"] for sample in samples) and min(s["least"] for s in samples) >= 0
    empty = sum(sample["empty"] for sample in samples)
    checks = [
        Check(part, "tokens after the clamp", "finite, at least 0", _holds(finite), verdict(finite)),
        Check(
            part,
            "share of zeros",
            "5 to 95 % (the clamp takes some, not all)",
            f"{100 * zeros.mean():.0f} % ({100 * zeros.min():.0f} to {100 * zeros.max():.0f})",
            verdict(0.05 <= zeros.mean() <= 0.95),
        ),
        Check(part, "tokens that are all 0", "none", str(empty), verdict(empty == 0)),
    ]
    if len(samples) > 1:
        likeness = cosines(means, means)[np.triu_indices(len(means), 1)]
        finding = f"{np.median(likeness):.3f} (at most {likeness.max():.4f})"
        checks.append(
            Check(part, "likeness of samples' mean tokens", "median below 0.999", finding,
                  verdict(np.median(likeness) < 0.999))
        )  # fmt: skip
    return checks


def mask_statistics(logits: np.ndarray) -> dict[str, float]:
    """What `mask_checks` needs of one image's mask logits [Q, h, w]."""
    logits = np.asarray(logits, dtype=np.float32)
    marked = (logits > 0).reshape(len(logits), -1)
    return {
        "finite": float(np.isfinite(logits).all()),
        "decided": float((np.abs(logits) > np.log(9)).mean()),  # probability below 0.1 or above 0.9
        "marking": float(marked.any(axis=1).mean()),
        "covered": float(marked.any(axis=0).mean()),
    }


def mask_checks(part: str, samples: Sequence[Mapping[str, float]]) -> list[Check]:
    """Checks of the `mask_statistics` of some images."""
    frame = pd.DataFrame(samples)
    finite = bool(frame["finite"].all())
    decided, marking, covered = (frame[name].mean() for name in ("decided", "marking", "covered"))
    return [
        Check(part, "mask logits", "finite", _holds(finite), verdict(finite)),
        Check(
            part,
            "mask probabilities below 0.1 or above 0.9",
            "most (over 50 %): a trained decoder is decided",
            f"{100 * decided:.0f} %",
            verdict(decided > 0.5),
        ),
        Check(
            part,
            "proposals that mark something; pixels in some proposal",
            "some",
            f"{100 * marking:.0f} %; {100 * covered:.0f} %",
            verdict(marking > 0),
        ),
    ]


def _holds(holds: bool) -> str:
    return "yes" if holds else "no"


# ---------------------------------------------------------------- what the models must be able to do


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines [A, B] of rows a [A, C] and b [B, C]; 0 for a zero row."""
    unit = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (a, b)]
    return unit[0] @ unit[1].T


def anchor_checks(
    part: str, clip: np.ndarray, clap: np.ndarray, draws: int = 999, seed: int = 0
) -> list[Check]:
    """Two text encoders that know language agree about which labels are alike (a Mantel test).

    Parameters
    ----------
    part : str
    clip, clap : float [J, C]
        Anchors of the same labels in both spaces.
    draws : int
        Exchanges of labels that give the distribution under chance.
    seed : int

    Notes
    -----
    A wrong tokenizer or text tower gives unrelated likenesses; one that cuts texts gives equal anchors.
    """
    pairs = np.triu_indices(len(clip), 1)
    alike = [cosines(rows, rows) for rows in (clip, clap)]
    distinct = [len(np.unique(rows.astype(np.float32), axis=0)) for rows in (clip, clap)]
    ranks = [stats.rankdata(matrix[pairs]) for matrix in alike]
    square = np.zeros_like(alike[1])
    square[pairs] = ranks[1]
    square += square.T
    observed = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(len(clip)) for _ in range(draws))
    found = [np.corrcoef(ranks[0], square[np.ix_(order, order)][pairs])[0, 1] for order in orders]
    p = (1 + sum(value >= observed for value in found)) / (1 + draws)
    return [
        Check(part, "anchors that differ, CLIP's and CLAP's", f"all {len(clip)}", f"{distinct[0]} and {distinct[1]}",
              verdict(min(distinct) == len(clip))),
        Check(part, "labels alike for CLIP's text are alike for CLAP's", f"correlation above 0, p < {CHANCE}",
              f"{observed:+.2f}, p = {p:.3f}", verdict(observed > 0 and p < CHANCE)),
    ]  # fmt: skip


def zero_shot_check(part: str, check: str, hits: Sequence[bool], chances: Sequence[float]) -> Check:
    """Right answers against guessing, one-sided; independent trials (one for each clip).

    Parameters
    ----------
    part, check : str
    hits : bool [n]
    chances : float [n]
        Probability that a guess is right.
    """
    if not len(hits):
        return Check(part, check, "above chance", "no sample with a known class", UNCHECKED)
    hits, chance = np.asarray(hits, dtype=bool), float(np.mean(chances))
    test = stats.binomtest(int(hits.sum()), len(hits), chance, alternative="greater")
    low, high = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    finding = f"{hits.sum()} of {len(hits)} (95 % interval {100 * low:.0f} to {100 * high:.0f} %), p = {test.pvalue:.3g}"
    if test.pvalue < CHANCE:
        outcome = OK
    else:
        # So few that even all right could not have told, or simply no better than guessing.
        outcome = UNCLEAR if chance ** len(hits) >= CHANCE or hits.mean() > chance else DEVIATES
    return Check(part, check, f"above chance ({100 * chance:.1f} %), p < {CHANCE}", finding, outcome)


def heard_classes(rows: pd.DataFrame, n_labels: int) -> tuple[list[bool], list[float]]:
    """Whether CLAP's most likely class is among the sample's, for the first image of each clip; and chance.

    Parameters
    ----------
    rows : DataFrame
        Score rows of one task, with ``class_name`` (classes parted by ", ") and ``clap_label``.
    n_labels : int
        Classes among which CLAP chooses.
    """
    first = rows[rows["class_name"] != ""].sort_values("sample_id").groupby("clip_id", sort=True).first()
    # A class may have a comma in its own name.
    hits = [
        f", {label}, " in f", {names}, " for label, names in zip(first["clap_label"], first["class_name"])
    ]
    return hits, [len(name.split(", ")) / n_labels for name in first["class_name"]]


def class_inside(tokens: np.ndarray, grid: tuple[int, int], mask: np.ndarray, anchors: np.ndarray) -> int:
    """Class whose text is closest to the mean image token under a mask.

    Parameters
    ----------
    tokens : float [N, C]
        Row-major over ``grid``, after the clamp.
    grid : (h, w)
    mask : bool [H, W]
        Must mark something; a token counts by the share of its cell that is marked.
    anchors : float [J, C]

    Returns
    -------
    int
    """
    shares = np.stack(
        [band.mean(axis=0) for band in np.array_split(mask.astype(np.float32), grid[0], axis=0)]
    )
    shares = np.stack([band.mean(axis=1) for band in np.array_split(shares, grid[1], axis=1)], axis=1)
    mean = shares.ravel() @ np.asarray(tokens, dtype=np.float32)
    return int(cosines(mean[None], anchors)[0].argmax())


def region_checks(part: str, frame: pd.DataFrame, seed: int = 0) -> list[Check]:
    """FC-CLIP told the right name finds the object better than the whole image does.

    Parameters
    ----------
    part : str
    frame : DataFrame
        ``clip_id``, ``iou`` of the region that FC-CLIP gives the true class among all classes, ``whole`` of the image.
    seed : int
        Of the bootstrap by clip.
    """
    check = "IoU of the true class's region, all classes as prompts, against the whole image's"
    if not len(frame):
        return [Check(part, check, "greater", "no sample with a known class", UNCHECKED)]
    difference = (frame["iou"] - frame["whole"]).to_numpy()
    low, high = paired_bootstrap(difference, frame["clip_id"], 2000, seed)
    finding = (
        f"{100 * frame['iou'].mean():.1f} against {100 * frame['whole'].mean():.1f} "
        f"(95 % interval of the difference {100 * low:+.1f} to {100 * high:+.1f})"
    )
    return [Check(part, check, "greater, interval above 0", finding, _side_of_zero(low, high))]


def _side_of_zero(low: float, high: float) -> str:
    return OK if low > 0 else DEVIATES if high < 0 else UNCLEAR


def mask_file_checks(part: str, masks: Mapping[str, Any] | None) -> Iterator[Check]:
    """What the truth's files are, as the manifest records it: their kinds, and pixels that another rule reads otherwise."""
    masks = masks or {"kinds": {}, "pixels": {}}
    kinds = "; ".join(f"{count} × {kind}" for kind, count in masks["kinds"].items() if kind)
    if kinds:
        yield Check(part, "mask files", "recorded at first contact", kinds, OK)
    for rule, count in masks["pixels"].items():
        yield Check(part, f"truth: pixels {rule}", "none", str(count), verdict(count == 0))


# ---------------------------------------------------------------- factors and scores


def factor_checks(part: str, factors: Mapping[str, np.ndarray]) -> list[Check]:
    """Checks of factors (see ``workflow_scripts/factorize.py``), arrays over samples and seeds in any order of both."""
    finite = all(bool(np.isfinite(values).all()) for values in factors.values())
    bounded = all(
        bool(((factors[name] >= 0) & (factors[name] <= 1)).all())
        for name in ("image_activations", "audio_activations")
    ) and all(bool((factors[name] >= 0).all()) for name in ("image_factors", "audio_factors"))
    objective = factors["objective"]
    checks = [
        Check(part, "activations in 0 … 1, factors at least 0, all finite", "yes", _holds(finite and bounded),
              verdict(finite and bounded))
    ]  # fmt: skip
    if objective.shape[-1] > 1:
        fallen = float((objective[..., -1] < objective[..., 0]).mean())
        checks.append(
            Check(
                part,
                "runs whose objective has fallen",
                "100 %",
                f"{100 * fallen:.0f} %",
                verdict(fallen == 1),
            )
        )
    return checks


def comparison_checks(rows: pd.DataFrame, seed: int = 0) -> Iterator[Check]:
    """What must be better than what, paired by clip."""
    side = comparisons.Side
    control = {name: side(name, "control", "none") for name in ("oracle mask", "whole image")}
    pairs = [
        comparisons.Pair(control["oracle mask"], control["whole image"]),
        comparisons.Pair(side("TACO"), control["whole image"]),
        comparisons.Pair(side("TACO"), side("TACO", "shuffled audio")),
    ]
    for row in comparisons.intervals(rows, pairs, draws=2000, seed=seed).to_dict("records"):
        names = [f"{row[f'method_{s}']}, {row[f'variant_{s}']}" for s in "ab"]
        low, high = (100 * row[name] for name in ("low", "high"))
        finding = (
            f"{100 * row['mean_a']:.1f} against {100 * row['mean_b']:.1f} ({row['n_clips']} clips, 95 % interval of "
            f"the difference {low:+.1f} to {high:+.1f})"
        )
        yield Check(
            TASKS[row["task"]].title, f"{row['metric']}: {names[0]} against {names[1]}", "greater", finding,
            _side_of_zero(low, high),
        )  # fmt: skip


# ---------------------------------------------------------------- the table


def table(checks: Iterable[Check], suite: str) -> pd.DataFrame:
    """The checks as a frame whose first column is the suite."""
    return pd.DataFrame([{"suite": suite, **check._asdict()} for check in checks])


def page(frame: pd.DataFrame, suite: str, notes: Sequence[str] = ()) -> Page:
    """The checks as a page, what deviates first."""
    order = {DEVIATES: 0, UNCLEAR: 1, OK: 2, UNCHECKED: 3}
    ranked = frame.drop(columns="suite").sort_values("verdict", key=lambda v: v.map(order), kind="stable")
    counts = frame["verdict"].value_counts()
    summary = ", ".join(f"{counts[name]} {name}" for name in order if name in counts)
    notes = [
        f"{len(frame)} checks: {summary}.",
        "unclear: so few clips could not tell. not checked: nothing here to check it with.",
        *notes,
    ]
    grids = [Grid.of(ranked.to_dict("records"), left=ranked.shape[1])]
    return Page("verify", "First checks with these weights", suite_title(suite), grids, notes)
