"""Thresholds for people's own pairs, chosen on the validation split: of the mask, and below which a mask is empty.

The readout is the one of `taco.results.negatives`: the greatest value of a map before it is stretched. Positives are
images with their own sound, negatives the same images with another clip's sound, silence or noise, and images whose own
sound has no source.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from taco import metrics
from taco.metrics.tasks import TASKS
from taco.results import negatives
from taco.results.aggregate import stack
from taco.results.score_files import AggregateError

COLUMNS = (
    *("method", "mask_threshold", "mask_iou", "confidence_threshold", "kept", "balanced_accuracy"),
    *("negatives", "emptied", "auroc", "n_positive", "n_negative"),
)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Thresholds of each method, and what they do to each kind of negatives.

    Parameters
    ----------
    rows : DataFrame
        Score rows of the validation split, from `taco.results.aggregate.load_rows`: the binary tasks with their default
        word banks, all seeds.

    Returns
    -------
    DataFrame
        `COLUMNS`, a row for each method and kind of negatives. ``mask_threshold`` has the greatest mean mask-IoU over tasks;
        ``confidence_threshold`` the greatest balanced accuracy: the mean of ``kept``, the share of positives above it, and
        the mean of ``emptied``, the shares of each kind of negatives below it. All shares are fractions.

    Raises
    ------
    AggregateError
        Where no positive or no negative was scored.
    """
    wanted = [rows["method"].isin(negatives.METHODS) & (rows["task"] == task) & (rows["word_bank"] == form.word_bank)
              for task, form in TASKS.items() if form.kind != "semantic"]  # fmt: skip
    rows = rows[np.logical_or.reduce(wanted) & rows["peak"].notna()]
    records = []
    for method, group in rows.groupby("method", sort=False):
        own = group[group["variant"] == "proposed"]
        positives = own[own["positives"] > 0]
        kinds = {kind: group[group["variant"] == name] for kind, name in negatives.EXCHANGED.items()}
        kinds[negatives.NO_SOURCE] = own[own["positives"] == 0]
        kinds = {kind: found for kind, found in kinds.items() if len(found)}
        if positives.empty or not kinds:
            raise AggregateError(
                f"calibration: expected {method} with own and with exchanged sounds, found {len(positives)} and "
                f"{sum(map(len, kinds.values()))} rows. Run the variants shuffled-audio, silence and noise."
            )
        level, iou = mask_threshold(positives)
        least, kept, emptied = confidence_threshold(positives, kinds)
        balanced = (kept + np.mean(list(emptied.values()))) / 2
        for kind, found in kinds.items():
            area = negatives.auroc(positives["peak"], found["peak"])
            shared = (method, level, iou, least, kept, balanced)
            records.append((*shared, kind, emptied[kind], area, len(positives), len(found)))
    return pd.DataFrame(records, columns=COLUMNS)


def mask_threshold(positives: pd.DataFrame) -> tuple[float, float]:
    """The threshold of stretched maps with the greatest mask-IoU, and that IoU (fraction): the mean over tasks."""
    curves = [
        metrics.mask_iou(rows["pixels"], rows["positives"], stack(rows["tp"]), stack(rows["fp"])).mean(axis=0)
        for _, rows in positives.groupby("task")
    ]
    mean = np.mean(curves, axis=0)
    return float(metrics.THRESHOLDS[mean.argmax()]), float(mean.max())


def confidence_threshold(
    positives: pd.DataFrame, kinds: Mapping[str, pd.DataFrame]
) -> tuple[float, float, dict[str, float]]:
    """The least peak with the greatest balanced accuracy; the share of positives kept; of each kind of negatives emptied."""
    peaks = [positives["peak"], *(rows["peak"] for rows in kinds.values())]
    candidates = np.unique(np.concatenate(peaks))

    def below(found: pd.Series) -> np.ndarray:
        return np.searchsorted(np.sort(found), candidates) / len(found)

    kept = 1 - below(positives["peak"])
    emptied = {kind: below(rows["peak"]) for kind, rows in kinds.items()}
    best = int((kept + np.mean(list(emptied.values()), axis=0)).argmax())
    return float(candidates[best]), float(kept[best]), {kind: float(v[best]) for kind, v in emptied.items()}


def overlay(found: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """The section ``segment`` of a configuration with these thresholds, to three digits."""
    methods = found.drop_duplicates("method").set_index("method")
    names = ("mask_threshold", "confidence_threshold")
    return {
        "segment": {
            name: {method: float(f"{value:.3g}") for method, value in methods[name].items()} for name in names
        }
    }
