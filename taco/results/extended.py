"""Beyond the paper's metrics: IoU by image, by class and of the whole set, at thresholds chosen here or elsewhere.

All measures come from the rows of `taco.metrics`. A threshold that is best for the scored set itself flatters;
beside it stands, where a validation run exists, the score at the threshold that was best there. Each run leaves
its best thresholds in a file, which another run may take as its given ones.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from taco import metrics
from taco.metrics.tasks import TASKS
from taco.results import aggregate
from taco.results.aggregate import population_std, written
from taco.results.ours import GATED
from taco.results.score_files import CELL, AggregateError, cells

BY_IMAGE = "IoU by image"
BY_CLASS = "IoU by class"
WHOLE_SET = "IoU of the whole set"
F_BY_IMAGE = "F by image"
MEASURES = (BY_IMAGE, BY_CLASS, WHOLE_SET, F_BY_IMAGE)
NO_THRESHOLD = "none"
THRESHOLD_COLUMNS = ("suite", "split", *CELL, "seed", "metric", "threshold")
_KEYS = [*CELL, "seed", "metric"]


def curves(group):
    """Every measure of one binary cell and seed at every threshold.

    Parameters
    ----------
    group : DataFrame
        rows of kind binary, one for each image

    Returns
    -------
    dict measure → (thresholds [L], values float64 [L])

    Notes
    -----
    By image: the mean of `taco.metrics.mask_iou` (an empty truth scores the background left free). By class: pixels of
    all images with the same sounding classes are pooled, then the mean over these pools; a pool without a single pixel
    of truth has no IoU and is left out. Whole set: all pixels are one pool, so large objects weigh more.
    """
    if not group["positives"].any():
        raise AggregateError(
            f"{group['task'].iloc[0]}: no image has a pixel of truth, so no pool has an IoU; check the masks"
        )
    tp, fp, truth = _class_pools(group)
    seen = truth > 0
    by_class = tp[seen] / (truth[seen, None] + fp[seen])
    by_image = metrics.mean_curve(metrics.mask_iou(*part) for part in aggregate.threshold_counts(group))
    f = (metrics.f_curves(*part) for part in aggregate.f_counts(group[group["positives"] > 0]))
    return {
        BY_IMAGE: (metrics.THRESHOLDS, by_image),
        BY_CLASS: (metrics.THRESHOLDS, by_class.mean(axis=0)),
        WHOLE_SET: (metrics.THRESHOLDS, tp.sum(axis=0) / (truth.sum() + fp.sum(axis=0))),
        F_BY_IMAGE: (metrics.F_THRESHOLDS, metrics.mean_curve(f)),
    }


def _class_pools(group):
    """True and false positives of each pool at each threshold, int64 [C, 19], and its pixels of truth [C]."""
    names, index = np.unique(group["class_name"].to_numpy(dtype=str), return_inverse=True)
    tp, fp = np.zeros((2, len(names), len(metrics.THRESHOLDS)), dtype=np.int64)
    start = 0
    for pixels, _, *found in aggregate.threshold_counts(group):
        for pool, counts in zip((tp, fp), found, strict=True):
            np.add.at(pool, index[start : start + len(pixels)], counts)
        start += len(pixels)
    return tp, fp, np.bincount(index, weights=group["positives"].to_numpy())


def semantic_measures(group):
    """The measures of one semantic cell and seed; exactly the dataset's labels count.

    By image: mean over the labels of the union, then over images. By class: the table's metric (ratios of a class
    averaged over its images, then over classes). Whole set: intersections and unions of a class summed over all
    images, then the mean over classes.

    Returns
    -------
    dict measure → float in [0, 1]
    """
    counted = metrics.convention_ids("corrected", *aggregate.label_range(group))
    by_image = np.mean(aggregate.image_miou(group))
    ids, *lists = aggregate.entries(group)
    by_class = metrics.semantic_scores(ids, *lists, counted)["mIoU"]
    inter, predicted, truth = (np.bincount(ids, weights=x, minlength=counted.stop) for x in lists)
    union = (predicted + truth - inter)[counted.start : counted.stop]
    seen = union > 0
    whole = np.mean(inter[counted.start : counted.stop][seen] / union[seen])
    return {BY_IMAGE: float(by_image), BY_CLASS: by_class, WHOLE_SET: float(whole)}


def own_metrics(group):
    """Metrics of one's own: the mean over the images that have a value, by name."""
    columns = [name for name in group if name.startswith(metrics.OWN) and group[name].notna().any()]
    return {name.removeprefix(metrics.OWN): float(group[name].mean()) for name in columns}


def per_seed(rows, split, given=None):
    """Every measure of every cell and seed, at the threshold best on these rows and at the given one.

    Parameters
    ----------
    rows : DataFrame
        from `taco.results.score_files.load_rows`
    split : str
        the split that the rows belong to; it names the rule "best on <split>"
    given : DataFrame, optional
        from `read_thresholds`; adds the rule "best on <its split>"

    Returns
    -------
    DataFrame: `CELL`, seed, metric, rule ("none" where no threshold is needed), threshold, value (fraction),
    n_samples
    """
    chosen = {} if given is None else given.set_index(_KEYS)["threshold"].to_dict()
    other = None if given is None else f"best on {given['split'].iloc[0]}"
    records = []
    for key, group in cells(rows, sort=False):
        if TASKS[key[0]].kind == "semantic":
            found = [(m, NO_THRESHOLD, np.nan, value) for m, value in semantic_measures(group).items()]
        else:
            found = []
            for measure, (thresholds, values) in curves(group).items():
                best = int(values.argmax())
                found.append((measure, f"best on {split}", float(thresholds[best]), float(values[best])))
                if given is not None:
                    index = _index(chosen, (*_ungated(key), measure), thresholds)
                    found.append((measure, other, float(thresholds[index]), float(values[index])))
        found += [(name, NO_THRESHOLD, np.nan, value) for name, value in own_metrics(group).items()]
        records += [(*key, *entry, len(group)) for entry in found]
    columns = [*CELL, "seed", "metric", "rule", "threshold", "value", "n_samples"]
    return pd.DataFrame(records, columns=columns)


def _ungated(key):
    """The cell and seed that a gate stands on: it changes no threshold."""
    return tuple("proposed" if part == GATED else part for part in key)


def _index(chosen, key, thresholds):
    """Place of the given threshold of a cell, seed and measure among the measure's own."""
    if key not in chosen:
        raise AggregateError(
            f"no threshold is given for {written(key)}: run the same methods, banks and seeds on the split that gives "
            "thresholds, or set tables.thresholds to null"
        )
    index = int(np.abs(thresholds - chosen[key]).argmin())
    if abs(thresholds[index] - chosen[key]) > 1e-6:
        raise AggregateError(f"{written(key)}: {chosen[key]} is none of the thresholds; make the file again")
    return index


def over_seeds(values):
    """Mean, population standard deviation and mean threshold over seeds (std NaN for a single value)."""
    groups = values.groupby([*CELL, "metric", "rule"], sort=False)
    result = groups.agg(
        threshold=("threshold", "mean"),
        mean=("value", "mean"),
        std=("value", population_std),
        n_seeds=("value", "size"),
        n_samples=("n_samples", "first"),
    )
    return result.reset_index()


def table(values, suite):
    """The extended table for CSV: `over_seeds` in percent, with the dataset's name and the suite.

    Rows follow the order of the tasks; within a task that of the rows.
    """
    frame = over_seeds(values)
    order = {task: number for number, task in enumerate(TASKS)}
    frame = frame.sort_values("task", key=lambda tasks: tasks.map(order), kind="stable", ignore_index=True)
    frame["dataset"] = [TASKS[task].title for task in frame.pop("task")]
    frame.insert(0, "table", "extended")
    frame[["mean", "std"]] *= 100
    return frame.assign(source=f"measured: {suite} suite")


# ------------------------------------------------------------------------------- thresholds as a file


def thresholds(values, suite, split):
    """The best thresholds of these rows, for another run to take: columns `THRESHOLD_COLUMNS`."""
    best = values[values["rule"] == f"best on {split}"]
    return best.assign(suite=suite, split=split)[list(THRESHOLD_COLUMNS)]


def read_thresholds(path, split):
    """Read another run's best thresholds.

    Parameters
    ----------
    path : path
        CSV of `thresholds`
    split : str
        the split that is scored now

    Raises
    ------
    AggregateError
        for a file of another form, or one that was chosen on the very split that is scored.
    """
    try:
        frame = pd.read_csv(Path(path), keep_default_na=False)
    except (OSError, ValueError) as error:
        raise AggregateError(f"{path}: expected a CSV of thresholds, found: {error}") from error
    missing = [name for name in THRESHOLD_COLUMNS if name not in frame]
    if missing or frame.empty:
        raise AggregateError(
            f"{path}: expected columns {', '.join(THRESHOLD_COLUMNS)}, found no {missing or 'row'}"
        )
    if split in set(frame["split"]) or frame["split"].nunique() > 1:
        raise AggregateError(
            f"{path}: expected thresholds of one split other than {split!r}, which is scored now; found "
            f"{sorted(set(frame['split']))}. Run the workflow with `split: val` and a suite name of its own first."
        )
    if frame.duplicated(_KEYS).any():
        raise AggregateError(f"{path}: a threshold is given twice; make the file again")
    return frame
