"""Semantic tasks: counts of one map by class, mean IoU and F of many (AVSS, ADE SP Semantic)."""

import numpy as np

from .rows import BETA2


def semantic_row(prediction, truth, n_labels, first_id=0):
    """Count intersection and areas of every class of one image.

    Parameters
    ----------
    prediction, truth : int [H, W], 0 = background
    n_labels : int
        J. Labels have the ids first_id … first_id + J - 1.
    first_id : {0, 1}
        0 where background is itself a label (AVSS: 71 labels, ids 0 … 70), else 1 (ADE: ids 1 … J, 0 = none).

    Returns
    -------
    dict with `SEMANTIC_COLUMNS` (see the module's table); one row serves every convention

    Examples
    --------
    >>> row = semantic_row([[0, 2], [2, 2]], [[0, 0], [2, 2]], n_labels=3)
    >>> row["class_ids"].tolist(), row["intersection"].tolist(), row["predicted"].tolist()
    ([0, 2], [1, 2], [1, 3])
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape or prediction.ndim != 2:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} must be one shape [H, W]")
    size = first_id + n_labels
    for name, ids in (("prediction", prediction), ("truth", truth)):
        if ids.size and (ids.min() < 0 or ids.max() >= size):
            raise ValueError(f"{name}: ids must lie in 0 … {size - 1}, found {ids.min()} … {ids.max()}")
    flat = truth.astype(np.int64).ravel() * size + prediction.ravel()
    joint = np.bincount(flat, minlength=size * size).reshape(size, size)  # [truth, prediction]
    predicted, area = joint.sum(axis=0), joint.sum(axis=1)
    ids = np.flatnonzero(predicted + area)
    counts = {"intersection": joint.diagonal(), "predicted": predicted, "truth": area}
    return {
        "pixels": int(truth.size),
        "n_labels": int(n_labels),
        "first_id": int(first_id),
        "class_ids": ids.astype(np.int16),
        **{name: values[ids].astype(np.int32) for name, values in counts.items()},
    }


CONVENTIONS = ("paper", "corrected")


def convention_ids(convention, n_labels, first_id):
    """Ids that a convention counts.

    ``paper``: the authors' histogram has as many bins as labels and starts at id 0. Where ids run from 1
    (ADE), the last class falls out and background is counted. ``corrected``: exactly the labels. Where
    background is a label (AVSS) the two agree.

    Examples
    --------
    >>> convention_ids("paper", 3, 1), convention_ids("corrected", 3, 1), convention_ids("paper", 3, 0)
    (range(0, 3), range(1, 4), range(0, 3))
    """
    if convention == "paper":
        return range(n_labels)
    if convention == "corrected":
        return range(first_id, first_id + n_labels)
    raise ValueError(f"convention must be one of {CONVENTIONS}, not {convention!r}")


def class_ratios(intersection, predicted, truth):
    """IoU and F (β² = 0.3) of each (image, class) entry with a non-empty union.

    Returns
    -------
    iou, f : float64, shape of the arguments; F is 0 where its definition gives NaN
    """
    inter, predicted, truth = (np.asarray(x, dtype=np.float64) for x in (intersection, predicted, truth))
    return inter / (predicted + truth - inter), (1 + BETA2) * inter / (BETA2 * truth + predicted)


def semantic_scores(class_ids, intersection, predicted, truth, counted):
    """Class-wise mean IoU and F of many images.

    The ratios of a class are summed over images and divided by the number of images in which its union is not
    empty; then the mean over the classes seen.

    Parameters
    ----------
    class_ids, intersection, predicted, truth : int [E]
        lists of all rows, concatenated
    counted : range
        from `convention_ids`

    Returns
    -------
    dict: "mIoU", "F" floats; "class_ids" int [C] (classes seen), "class_iou", "class_f" float64 [C]

    Examples
    --------
    >>> scores = semantic_scores([0, 1, 1], [4, 1, 0], [4, 2, 0], [4, 1, 3], range(2))
    >>> scores["class_iou"].tolist(), scores["mIoU"]
    ([1.0, 0.25], 0.625)
    """
    class_ids = np.asarray(class_ids, dtype=np.int64)
    keep = (class_ids >= counted.start) & (class_ids < counted.stop)
    if not keep.any():
        raise ValueError("mIoU is undefined: no class appears in the truth or the prediction of any image")
    arrays = (np.asarray(x)[keep] for x in (intersection, predicted, truth))
    iou, f = class_ratios(*arrays)
    ids = class_ids[keep]
    images = np.bincount(ids)
    seen = np.flatnonzero(images)
    class_iou, class_f = (np.bincount(ids, weights=ratio)[seen] / images[seen] for ratio in (iou, f))
    return {
        "mIoU": float(class_iou.mean()),
        "F": float(class_f.mean()),
        "class_ids": seen,
        "class_iou": class_iou,
        "class_f": class_f,
    }


def image_miou(class_ids, intersection, predicted, truth, counted):
    """Mean IoU of one image over the counted classes of its union (not the table's metric: for paired tests).

    1 when the union holds no counted class: nothing was to be found, and nothing was marked.

    Examples
    --------
    >>> image_miou([0, 1, 2], [2, 1, 0], [2, 2, 0], [3, 1, 1], range(1, 3))
    0.25
    """
    class_ids = np.asarray(class_ids)
    keep = (class_ids >= counted.start) & (class_ids < counted.stop)
    if not keep.any():
        return 1.0
    return float(class_ratios(*(np.asarray(x)[keep] for x in (intersection, predicted, truth)))[0].mean())
