"""Whether scores agree with published ones, with the uncertainty that few clips have: checks of a short run."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from taco.metrics.tasks import TASKS
from taco.results import aggregate, pools
from taco.results.score_files import CELL
from taco.results.tables import TOLERANCE, Reported
from taco.results.verify import Check, verdict


def published(
    reported: Reported, task: str, cell: Sequence[str], metric: str
) -> list[tuple[float, float, str]]:
    """Published numbers of one cell (method, variant, word bank) and metric: (mean, std or NaN, source)."""
    found = [value for key, value in reported.paper.items() if key[1:] == (task, *cell, metric)]
    release = reported.release.get((task, *cell, metric))
    return [*([release] if release else []), *found]


def score_checks(
    rows: pd.DataFrame, pooled: pd.DataFrame, reported: Reported, draws: int = 200, seed: int = 0
) -> Iterator[Check]:
    """Scores against published ones, each with the uncertainty of a sample of so few clips.

    Clips are drawn with replacement (for ADE SP's pooled metrics, classes), and the metric is computed anew each time.
    A published number agrees where it lies inside the 95 % interval widened by its own tolerance, max(2 · std, 1.0) point.
    """
    values = aggregate.per_seed(rows, pooled)
    for key, part in values.groupby([*CELL, "metric"], sort=False):
        task, cell, metric = key[0], key[2:5], key[5]
        numbers = published(reported, task, cell, metric)
        if not numbers:
            continue
        group = rows[(rows[list(CELL)] == list(key[:5])).all(axis=1)]
        drawn = _drawn(group, pooled, key, draws, seed)
        low, high = (float(100 * np.quantile(drawn, q)) for q in (0.025, 0.975))
        finding = f"{100 * part['value'].mean():.1f} ({group['clip_id'].nunique()} clips, 95 % interval {low:.1f} to {high:.1f})"
        for mean, std, source in dict.fromkeys(numbers):
            margin = np.fmax(2 * std, TOLERANCE)
            text = f"{mean:.2f}" + ("" if np.isnan(std) else f" ± {std:.2f}") + f" ({source})"
            agrees = low - margin <= mean <= high + margin
            yield Check(TASKS[task].title, f"{metric}: {', '.join(cell)}", text, finding, verdict(agrees))


def _drawn(group: pd.DataFrame, pooled: pd.DataFrame, key: tuple, draws: int, seed: int) -> np.ndarray:
    """A cell's metric, averaged over seeds, in sets of clips or classes drawn with replacement: [draws]."""
    rng = np.random.default_rng(seed)
    if TASKS[key[0]].kind == "pooled" and key[5] in ("mIoU", "mAP"):
        by_class = _class_values(pooled[(pooled[list(CELL)] == list(key[:5])).all(axis=1)], key[5])
        return by_class[rng.integers(len(by_class), size=(draws, len(by_class)))].mean(axis=1)
    clips = [part for _, part in group.groupby("clip_id", sort=True)]
    found = []
    for _ in range(draws):
        chosen = pd.concat([clips[i] for i in rng.integers(len(clips), size=len(clips))])
        values = aggregate.per_seed(chosen)
        found.append(values.loc[values["metric"] == key[5], "value"].mean())
    return np.array(found)


def _class_values(pooled: pd.DataFrame, metric: str) -> np.ndarray:
    """ADE SP's metric of each class, averaged over seeds."""
    values: dict[str, list[float]] = {}
    for (name, _), part in pooled.groupby(["class_name", "seed"], sort=True):
        pool = pools.pool(part.to_dict("records"))
        values.setdefault(name, []).append(pool.best_iou() if metric == "mIoU" else pool.average_precision())
    return np.array([np.mean(seeds) for seeds in values.values()])
