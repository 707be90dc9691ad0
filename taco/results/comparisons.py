"""Paired comparisons of methods, by clip: which are made, their bootstrap intervals and permutation tests."""

from dataclasses import dataclass

import pandas as pd

from taco.metrics.tasks import TASKS
from taco.results.aggregate import image_scores
from taco.results.ours import BY_PROPOSAL, GATED
from taco.results.resampling import paired_bootstrap, paired_permutation
from taco.results.score_files import AggregateError


@dataclass(frozen=True)
class Side:
    """One side of a comparison; word_bank None = the task's default."""

    method: str
    variant: str = "proposed"
    word_bank: str | None = None


@dataclass(frozen=True)
class Pair:
    """A comparison, made on each task that has both sides; tables say which runs may not be missing."""

    a: Side
    b: Side


PAIRS = (
    Pair(Side("TACO"), Side("TACO", "shuffled audio")),
    Pair(Side("U only"), Side("U only", "shuffled audio")),
    Pair(Side("TACO"), Side("U only")),
    Pair(Side("TACO"), Side("A-FC-CLIP", "list", "specific")),
    Pair(Side("A-FC-CLIP", "list", "specific"), Side("A⁺-FC-CLIP", "list", "specific")),
    Pair(Side("TACO"), Side("TACO", "no-min")),
    Pair(Side("TACO"), Side("TACO", "w/o component")),
    Pair(Side("TACO"), Side("TACO", "w/o penalty")),
    Pair(Side("TACO", BY_PROPOSAL), Side("TACO")),
    Pair(Side("A-FC-CLIP", BY_PROPOSAL, "specific"), Side("A-FC-CLIP", "list", "specific")),
    Pair(Side("TACO", BY_PROPOSAL), Side("A-FC-CLIP", BY_PROPOSAL, "specific")),
    Pair(Side("TACO", GATED), Side("TACO")),
)


def intervals(rows, pairs=PAIRS, draws=10_000, seed=0):
    """Paired bootstrap and permutation test of every comparison on every task that the rows hold.

    Thresholds stay those chosen on the whole set; they are not chosen anew in a drawn set. Every comparison
    starts from the same seed, so its interval does not depend on the others.

    Returns
    -------
    DataFrame: task, metric, method_a, variant_a, word_bank_a, method_b, variant_b, word_bank_b, mean_a,
    mean_b, difference, low, high, p_value, n_clips, n_samples, n_seeds_a, n_seeds_b, draws (fractions)

    Raises
    ------
    AggregateError
        where no task has both sides of any.
    """
    records = []
    places = rows.groupby(["task", "method", "variant", "word_bank"]).indices
    for task in (name for name in TASKS if name in set(rows["task"])):
        cells = {key[1:]: found for key, found in places.items() if key[0] == task}
        scores = {}
        for pair in (*pairs, *_contributed(cells)):
            keys = [(s.method, s.variant, s.word_bank or TASKS[task].word_bank) for s in (pair.a, pair.b)]
            if any(key not in cells for key in keys):
                continue
            for key in keys:
                if key not in scores:
                    scores[key] = image_scores(rows.iloc[cells[key]])
            seeds = [rows["seed"].iloc[cells[key]].nunique() for key in keys]
            records.append(_compare(task, keys, [scores[key] for key in keys], seeds, draws, seed))
    if not records:
        raise AggregateError("no comparison can be made: the rows hold both sides of none of the pairs")
    return pd.DataFrame(records)


def _contributed(cells):
    """TACO against each contributed method that a task has."""
    return [Pair(Side("TACO"), Side(*key)) for key in sorted(cells) if key[1] == "contributed"]


def _compare(task, keys, scores, seeds, draws, seed):
    a, b = scores
    if not a.index.equals(b.index):
        raise AggregateError(
            f"{task}: {keys[0]} and {keys[1]} were scored on different samples: score the missing ones"
        )
    difference = (a["score"] - b["score"]).to_numpy()
    low, high = paired_bootstrap(difference, a["clip_id"], draws, seed)
    record = {"task": task, "metric": "mIoU by image" if TASKS[task].kind == "semantic" else "mask-IoU"}
    for side, key in zip("ab", keys, strict=True):
        record |= {
            f"{name}_{side}": value
            for name, value in zip(("method", "variant", "word_bank"), key, strict=True)
        }
    return record | {
        "mean_a": a["score"].mean(),
        "mean_b": b["score"].mean(),
        "difference": difference.mean(),
        "low": low,
        "high": high,
        "p_value": paired_permutation(difference, a["clip_id"], draws, seed),
        "n_clips": a["clip_id"].nunique(),
        "n_samples": len(a),
        "n_seeds_a": seeds[0],
        "n_seeds_b": seeds[1],
        "draws": draws,
    }
