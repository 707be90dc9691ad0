"""From per-sample rows to numbers: one value per seed, mean ± population std over seeds, scores by image.

Rows and their columns are described in `taco.metrics`. Everything sorts rows by sample before it sums, so
the split over shards and the order of files never change a bit of a result. Values are fractions;
`taco.results.tables` prints percent.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from taco import metrics
from taco.metrics.tasks import TASKS
from taco.results import counts, pools
from taco.results.ours import GATED
from taco.results.score_files import CELL, AggregateError, cells


@dataclass(frozen=True)
class Conventions:
    """What the tables' binary metrics do where people differ; the defaults are the paper's.

    Attributes
    ----------
    empty_truth : {"background", "skip"}
        of `taco.metrics.best_mask_iou`
    f_aggregation : {"set", "image"}
        of `taco.metrics.best_f`
    """

    empty_truth: str = "background"
    f_aggregation: str = "set"

    @classmethod
    def of(cls, settings):
        """From the configuration's section ``tables``."""
        return cls(settings["empty_truth"], settings["f_aggregation"])

    def notes(self):
        """What a table must say where they are not the paper's; list of str."""
        notes = []
        if self.empty_truth == "skip":
            notes.append(
                "Images with empty truth are left out of mask-IoU (the paper counts their background)."
            )
        if self.f_aggregation == "image":
            notes.append(
                "F is the mean of each image's own maximum (the paper takes one threshold for the set)."
            )
        return notes


PAPER = Conventions()


# ------------------------------------------------------------------------- one value for each seed


def per_seed(rows, pooled=None, conventions=PAPER):
    """Every metric of every cell, for each seed.

    Parameters
    ----------
    rows : DataFrame
        from `taco.results.score_files.load_rows`
    pooled : DataFrame, optional
        rows of pools, from `taco.results.pools.load` or with the scores themselves; needed where rows hold ADE SP
    conventions : Conventions

    Returns
    -------
    DataFrame: the columns of `CELL`, seed, metric, value (fraction), threshold (NaN where none is chosen),
    n_samples. Metrics: mask-IoU and F (binary and pooled tasks), mIoU and mAP (pooled), mIoU and F,
    with " (corrected)" for the second convention (semantic).

    Raises
    ------
    AggregateError
        unknown task, seeds or methods of one task that were scored on different samples, missing pools.
    """
    unknown = sorted(set(rows["task"]) - set(TASKS))
    if unknown:
        raise AggregateError(f"unknown tasks {unknown}: expected some of {sorted(TASKS)}")
    of_cell = {} if pooled is None or pooled.empty else dict(tuple(pooled.groupby([*CELL, "seed"])))
    records, first = [], {}
    for key, group in cells(rows):
        task = TASKS[key[0]]
        if task.kind == "pooled" and key[3] == GATED:
            continue  # pools hold no single images
        group = group.sort_values("sample_id", kind="stable")
        _require_samples(key, group["sample_id"], *first.setdefault(key[0], (key, group["sample_id"])))
        values = _semantic(group, task) if task.kind == "semantic" else _binary(group, conventions)
        if task.kind == "pooled":
            values += _pooled(of_cell.get(key), group, key)
        for metric, value, threshold in values:
            records.append((*key, metric, value, threshold, len(group)))
    return pd.DataFrame(records, columns=[*CELL, "seed", "metric", "value", "threshold", "n_samples"])


def _require_samples(key, samples, first_key, first):
    """Refuse a cell that was scored on other samples than the first one of its task."""
    if not np.array_equal(samples.to_numpy(), first.to_numpy()):
        found, expected = set(samples), set(first)
        raise AggregateError(
            f"{key[0]}: {written(key[2:])} was scored on {len(found)} samples, "
            f"{written(first_key[2:])} on {len(expected)}, "
            f"first difference {min(found ^ expected)!r}: score the missing samples"
        )


def written(key):
    """Part of a cell's identity, for messages: its values, whatever their types."""
    return ", ".join(map(str, key))


def threshold_counts(rows):
    """Portions of binary rows as `taco.metrics.best_mask_iou` takes them: pixels, positives, tp, fp."""
    for part in counts.portions(rows):
        yield part["pixels"], part["positives"], counts.table(part, "tp"), counts.table(part, "fp")


def f_counts(rows):
    """Portions of binary rows as `taco.metrics.best_f` takes them: positives, f_tp, f_pp."""
    for part in counts.portions(rows):
        yield part["positives"], counts.table(part, "f_tp"), counts.table(part, "f_pp")


def _binary(group, conventions):
    iou, i = metrics.best_mask_iou(threshold_counts(group), conventions.empty_truth)
    f, j = metrics.best_f(f_counts(group), conventions.f_aggregation)
    return [
        ("mask-IoU", iou, float(metrics.THRESHOLDS[i])),
        ("F", f, np.nan if j is None else float(metrics.F_THRESHOLDS[j])),
    ]


def _pooled(rows, group, key):
    """Mean over classes, of one cell's rows of pools; one class is in memory at a time."""
    expected = group["class_name"].value_counts().to_dict()
    found = {} if rows is None else rows.groupby("class_name")["n_samples"].sum().to_dict()
    if expected != found:
        odd = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        name = odd[0]
        raise AggregateError(
            f"{written(key)}: pools do not match the rows in {len(odd)} classes, first {name!r}: "
            f"{expected.get(name, 0)} samples expected, {found.get(name, 0)} found; score the task again"
        )
    values = class_values(rows)
    return [
        (metric, float(np.mean(values[name].to_numpy())), np.nan)
        for metric, name in (("mIoU", "iou"), ("mAP", "ap"))
    ]


def class_values(rows):
    """Best IoU and average precision of each class, from one cell's rows of pools: class_name, iou, ap (fractions)."""
    values = []
    for name, part in rows.groupby("class_name", sort=True):
        pool = pools.pool(part.to_dict("records"))
        values.append((name, pool.best_iou(), pool.average_precision()))
    return pd.DataFrame(values, columns=["class_name", "iou", "ap"])


def label_range(group):
    """n_labels and first_id of a group of semantic rows; they must agree."""
    pairs = group[["n_labels", "first_id"]].drop_duplicates()
    if len(pairs) != 1:
        raise AggregateError(
            f"{group['task'].iloc[0]}: rows disagree about the number of labels: {pairs.to_dict('list')}"
        )
    return (int(x) for x in pairs.iloc[0])


ENTRIES = ("class_ids", "intersection", "predicted", "truth")
"""Aligned lists of a semantic row, one entry for each class of the union."""


def entries(group):
    """`ENTRIES` of all rows of a group, each one array [E]."""
    parts = [
        [np.concatenate(counts.lists(part, name)) for name in ENTRIES] for part in counts.portions(group)
    ]
    return [np.concatenate(lists) for lists in zip(*parts, strict=True)]


def image_miou(group):
    """`taco.metrics.image_miou` of semantic rows, over the dataset's labels: float64 [S]."""
    counted = metrics.convention_ids("corrected", *label_range(group))
    return np.array(
        [
            metrics.image_miou(*entry, counted)
            for part in counts.portions(group)
            for entry in zip(*(counts.lists(part, name) for name in ENTRIES), strict=True)
        ]
    )


def _semantic(group, task):
    n_labels, first_id = label_range(group)
    lists = entries(group)
    values = []
    for convention in task.conventions:
        counted = metrics.convention_ids(convention, n_labels, first_id)
        scores = metrics.semantic_scores(*lists, counted)
        suffix = "" if convention == task.conventions[0] else f" ({convention})"
        values += [(metric + suffix, scores[metric], np.nan) for metric in ("mIoU", "F")]
    return values


# ---------------------------------------------------------------------------------------- over seeds


def population_std(values):
    """Standard deviation of a Series of one value for each seed, with divisor n; NaN for a single value."""
    return values.std(ddof=0) if len(values) > 1 else np.nan


def over_seeds(values):
    """Mean and population standard deviation (divisor n) over seeds.

    Parameters
    ----------
    values : DataFrame
        from `per_seed`

    Returns
    -------
    DataFrame: `CELL`, metric, mean, std, n_seeds, n_samples. std is NaN where there is one value only
    (deterministic methods, seed -1).
    """
    mixed = values.groupby([*CELL, "metric"])["seed"].agg(lambda seeds: -1 in set(seeds) and len(seeds) > 1)
    if mixed.any():
        raise AggregateError(
            f"{mixed[mixed].index[0]}: has both a deterministic row (seed -1) and seeds; keep one"
        )
    groups = values.groupby([*CELL, "metric"], sort=False)
    result = groups.agg(
        mean=("value", "mean"),
        std=("value", population_std),
        n_seeds=("value", "size"),
        n_samples=("n_samples", "first"),
    )
    return result.reset_index()


def summarise(rows, pooled=None, conventions=PAPER):
    """`per_seed`, then `over_seeds`."""
    return over_seeds(per_seed(rows, pooled, conventions))


# ------------------------------------------------------------------------------------- by image


def iou_at(rows, level):
    """mask-IoU of binary rows at one threshold, an index: float64 [S]."""
    return np.concatenate([metrics.mask_iou(*part)[:, level] for part in threshold_counts(rows)])


def marked_at(rows, level):
    """Share of each image that is marked at one threshold, an index: float64 [S]."""
    return np.concatenate(
        [((tp + fp)[:, level] / pixels).to_numpy() for pixels, _, tp, fp in threshold_counts(rows)]
    )


def image_scores(rows):
    """One score per image for one cell (all of its seeds), averaged over seeds.

    Binary and pooled tasks: mask-IoU at the threshold that is best for the whole set, chosen for each seed.
    Semantic: the mean IoU over the labels of the union (`taco.metrics.image_miou`).

    Returns
    -------
    DataFrame indexed by sample_id (ascending): clip_id, score
    """
    seeds = []
    for _, group in rows.groupby("seed", sort=True):
        group = group.sort_values("sample_id", kind="stable")
        if TASKS[group["task"].iloc[0]].kind == "semantic":
            score = image_miou(group)
        else:
            score = iou_at(group, metrics.best_mask_iou(threshold_counts(group))[1])
        seeds.append(
            pd.DataFrame({"clip_id": group["clip_id"].to_numpy(), "score": score}, group["sample_id"])
        )
    if any(not frame.index.equals(seeds[0].index) for frame in seeds):
        raise AggregateError("the seeds of one method were scored on different samples")
    return seeds[0].assign(score=np.mean([frame["score"] for frame in seeds], axis=0))
