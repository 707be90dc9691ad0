"""Nothing sounds, nothing is marked: an empty mask where the un-normalised map stays low. Not of the paper.

The paper stretches every map to 0 … 1, so something is marked on every image, whatever is heard. The gate leaves the mask
empty where the greatest value of the map before stretching (``peak`` of the score rows) lies below a threshold, and leaves
it as it is elsewhere. A gated answer follows exactly from the row of the answer without a gate, so no map is made again.

The threshold is one for all tasks and comes from the validation split (`choose`, by `snakemake calibrate`): the greatest
one that costs positives at most one point of mask-IoU, which is the one of these that leaves least marked on negatives.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from taco import metrics
from taco.metrics.tasks import TASKS
from taco.results.aggregate import iou_at, marked_at, threshold_counts
from taco.results.counts import EMPTIED
from taco.results.negatives import ALL, METHODS, grouped
from taco.results.ours import GATED

MOST_COST = 0.01
"""Mask-IoU (fraction) that a gate may cost positives on the validation split."""
WITHOUT, WITH = "mask-IoU", "mask-IoU, gated"
KEPT, MARKED_WITHOUT, MARKED_WITH = "kept", "falsely marked, no gate", "falsely marked, gated"
NAMES = (WITHOUT, WITH, KEPT, MARKED_WITHOUT, MARKED_WITH)


def rows(scored: pd.DataFrame, thresholds: Mapping[str, float | None]) -> pd.DataFrame:
    """Score rows of the gated variant.

    Parameters
    ----------
    scored : DataFrame
        From `taco.results.score_files.load_rows`.
    thresholds : mapping method → float or None
        Below which peak a mask is empty; None: the method has no gate.

    Returns
    -------
    DataFrame
        A row with variant `taco.results.tables.GATED` for each of the proposed variant's on a binary task, in the default
        word bank; those whose peak is below the threshold are marked `taco.results.counts.EMPTIED`. Pooled scores and
        metrics of one's own do not follow from rows.
    """
    if "peak" not in scored:
        return scored.iloc[:0]
    banks = {name: task.word_bank for name, task in TASKS.items() if task.kind != "semantic"}
    found = scored[
        (scored["word_bank"] == scored["task"].map(banks))
        & (scored["variant"] == "proposed")
        & scored["method"].isin([method for method in METHODS if thresholds.get(method) is not None])
        & scored["peak"].notna()
    ]
    gated = found.assign(variant=GATED, **{EMPTIED: found["peak"] < found["method"].map(thresholds)})
    own = [name for name in gated if name.startswith(metrics.OWN)]
    return gated.assign(**dict.fromkeys(own, np.nan))


def frontier(positives: pd.DataFrame, kinds: Mapping[str, pd.DataFrame], level: int) -> pd.DataFrame:
    """What every threshold costs positives and leaves marked on negatives; means over tasks.

    Parameters
    ----------
    positives : DataFrame
        Binary rows of one method with peaks; own sound, some truth; any tasks and seeds.
    kinds : mapping kind → DataFrame
        The same of negatives.
    level : int
        Of the mask, an index into `taco.metrics.THRESHOLDS` of stretched maps.

    Returns
    -------
    DataFrame
        By ascending ``threshold`` (every peak there is): ``cost``, mask-IoU that positives lose; ``kept``, the share of them
        with a mask; ``marked``, the mean over kinds of the share of pixels marked; and that share by kind. Fractions.
    """
    candidates = np.unique(np.concatenate([found["peak"] for found in (positives, *kinds.values())]))
    iou = iou_at(positives, level)
    marked = {kind: _left(found, marked_at(found, level), candidates) for kind, found in kinds.items()}
    return pd.DataFrame(
        {
            "threshold": candidates,
            "cost": _left(positives, iou, candidates[:1]) - _left(positives, iou, candidates),
            "kept": _left(positives, np.ones(len(positives)), candidates),
            "marked": np.mean(list(marked.values()), axis=0),
            **marked,
        }
    )


def _left(found: pd.DataFrame, values: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Mean over tasks of a value that is 0 on images with a peak below each candidate."""
    means = []
    for places in found.groupby("task").indices.values():
        peaks, some = found["peak"].to_numpy()[places], np.asarray(values)[places]
        order = np.argsort(peaks, kind="stable")
        gone = np.r_[0.0, np.cumsum(some[order])]
        means.append((gone[-1] - gone[np.searchsorted(peaks[order], candidates)]) / len(places))
    return np.mean(means, axis=0)


def choose(found: pd.DataFrame) -> pd.Series:
    """The row of `frontier` with the greatest threshold that costs at most `MOST_COST`."""
    return found[found["cost"] <= MOST_COST].iloc[-1]


def per_seed(scored: pd.DataFrame, thresholds: Mapping[str, float | None]) -> pd.DataFrame:
    """What the gate does to each task, at the mask threshold that is best for its positives without a gate.

    Parameters
    ----------
    scored, thresholds
        As of `rows`; thresholds of another split.

    Returns
    -------
    DataFrame
        As `taco.results.negatives.per_seed`: mask-IoU of positives without and with the gate, the share of them with a mask,
        and of each kind of negatives the share of pixels marked without and with it.
    """
    records = []
    for part in grouped(scored):
        threshold = thresholds.get(part.method)
        if threshold is None:
            continue
        seen, n_negative = part.positives, sum(map(len, part.kinds.values()))
        _, level = metrics.best_mask_iou(threshold_counts(seen))
        iou, open_ = iou_at(seen, level), (seen["peak"] >= threshold).to_numpy()
        for name, value in ((WITHOUT, iou), (WITH, iou * open_), (KEPT, open_)):
            records.append(part.record(ALL, name, float(value.mean()), n_negative))
        for kind, found in part.kinds.items():
            area = marked_at(found, level)
            left = area * (found["peak"] >= threshold).to_numpy()
            for name, value in ((MARKED_WITHOUT, area), (MARKED_WITH, left)):
                records.append(part.record(kind, name, float(value.mean()), len(found)))
    return pd.DataFrame(records)
