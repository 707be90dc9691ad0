"""Thresholds chosen on the validation split: of the mask, and below which a mask is empty (`taco.results.gating`).

The readout is the one of `taco.results.negatives`: the greatest value of a map before it is stretched. Positives are
images with their own sound, negatives the same images with another clip's sound, silence or noise, and images whose own
sound has no source.
"""

import numpy as np
import pandas as pd

from taco import metrics
from taco.results import gating, negatives
from taco.results.aggregate import threshold_counts
from taco.results.score_files import AggregateError

COLUMNS = (
    *("method", "mask_threshold", "mask_iou", "confidence_threshold", "kept", "cost", "negatives"),
    *("marked", "marked_ungated", "emptied", "auroc", "n_positive", "n_negative"),
)


def table(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Thresholds of each method, and what they do to each kind of negatives.

    Parameters
    ----------
    rows : DataFrame
        Score rows of the validation split, from `taco.results.score_files.load_rows`: the binary tasks with their default
        word banks, all seeds.

    Returns
    -------
    chosen : DataFrame
        `COLUMNS`, a row for each method and kind of negatives. ``mask_threshold`` has the greatest mean mask-IoU over tasks;
        ``confidence_threshold`` is the greatest one that costs positives at most one point of it: ``cost`` is what they lose,
        ``kept`` the share of them above it; ``emptied`` is the share of negatives below it, ``marked`` the share of their
        pixels that stays marked, ``marked_ungated`` that without a gate. All are fractions.
    curves : DataFrame
        `taco.results.gating.frontier` of each ``method``.

    Raises
    ------
    AggregateError
        Where no positive or no negative was scored.
    """
    records, curves = [], []
    for method in negatives.METHODS:
        parts = [part for part in negatives.grouped(rows) if part.method == method]
        if not parts:
            continue
        positives = pd.concat([part.positives for part in parts])
        kinds = {kind: [part.kinds[kind] for part in parts if kind in part.kinds] for kind in negatives.KINDS}
        kinds = {kind: pd.concat(found) for kind, found in kinds.items() if found}
        level, iou = mask_threshold(positives)
        curve = gating.frontier(positives, kinds, level)
        chosen, first = gating.choose(curve), curve.iloc[0]
        shared = (method, float(metrics.THRESHOLDS[level]), iou, *chosen[["threshold", "kept", "cost"]])
        for kind, found in kinds.items():
            emptied = float((found["peak"] < chosen["threshold"]).mean())
            area = negatives.auroc(positives["peak"], found["peak"])
            counts = len(positives), len(found)
            records.append((*shared, kind, chosen[kind], first[kind], emptied, area, *counts))
        curves.append(curve.assign(method=method))
    if not records:
        raise AggregateError(
            "calibration: expected images with own and with exchanged sounds, found none of one of them. Run the variants "
            "shuffled-audio, silence and noise."
        )
    return pd.DataFrame(records, columns=COLUMNS), pd.concat(curves, ignore_index=True)


def mask_threshold(positives: pd.DataFrame) -> tuple[int, float]:
    """The threshold of stretched maps with the greatest mask-IoU, an index, and that IoU (fraction): the mean over tasks."""
    curves = [
        metrics.mean_curve(metrics.mask_iou(*part) for part in threshold_counts(rows))
        for _, rows in positives.groupby("task")
    ]
    mean = np.mean(curves, axis=0)
    return int(mean.argmax()), float(mean.max())


def overlay(found: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """The section ``segment`` of a configuration with these thresholds, to six digits."""
    methods = found.drop_duplicates("method").set_index("method")
    names = ("mask_threshold", "confidence_threshold")
    return {
        "segment": {
            name: {method: float(f"{value:.6g}") for method, value in methods[name].items()} for name in names
        }
    }
