"""Binary tasks: counts of one map at every threshold, mask-IoU and F of many (S4, MS3; ADE SP by image)."""

import numpy as np

from .rows import BETA2, pair

THRESHOLDS = (np.arange(1, 20) / 20).astype(np.float32)
"""Mask-IoU: 0.05, 0.10 … 0.95, compared with strict >."""
F_THRESHOLDS = np.linspace(0, 1 - 1e-10, 255).astype(np.float32)
"""F on S4 and MS3: compared with >=; the last one is 1 in float32, so a pixel of 1 passes."""


def binary_row(scores, truth):
    """Count true and false positives of one map at every threshold.

    Parameters
    ----------
    scores : array [H, W], finite; soft map or binary mask, compared in float32
    truth : array [H, W], bool or {0, 1}

    Returns
    -------
    dict with `BINARY_COLUMNS` (see the module's table)

    Examples
    --------
    >>> row = binary_row([[0.9, 0.2], [0.5, 0.0]], [[1, 0], [0, 0]])
    >>> row["positives"], row["tp"][[0, 17]].tolist(), row["fp"][[0, 17]].tolist()
    (1, [1, 0], [2, 0])
    """
    scores, truth = pair(scores, truth)
    inside = np.sort(scores[truth])
    outside = np.sort(scores[~truth])
    f_tp = _count(inside, F_THRESHOLDS, "left")
    return {
        "pixels": int(scores.size),
        "positives": int(inside.size),
        "tp": _count(inside, THRESHOLDS, "right"),
        "fp": _count(outside, THRESHOLDS, "right"),
        "f_tp": f_tp,
        "f_pp": f_tp + _count(outside, F_THRESHOLDS, "left"),
    }


def mask_iou(pixels, positives, tp, fp):
    """Foreground IoU of each image at each threshold.

    Parameters
    ----------
    pixels, positives : int [S]
    tp, fp : int [S, 19]

    Returns
    -------
    float64 [S, 19]: tp / (positives + fp + 1e-7). An image with empty truth scores the background
    that the prediction leaves, (pixels - fp) / (pixels + 1e-7).

    Examples
    --------
    >>> mask_iou([4, 4], [2, 0], [[1]], [[1], [3]]).round(4).tolist()
    [[0.3333], [0.25]]
    """
    pixels, positives = (np.asarray(x, dtype=np.float64)[:, None] for x in (pixels, positives))
    tp, fp = (np.asarray(x, dtype=np.float64) for x in (tp, fp))
    empty = positives == 0
    overlap = np.where(empty, pixels - fp, tp)
    union = np.where(empty, pixels, positives + fp)
    return overlap / (union + 1e-7)


def f_curves(positives, f_tp, f_pp):
    """F of each image at each threshold, β² = 0.3.

    Parameters
    ----------
    positives : int [S], each > 0
    f_tp, f_pp : int [S, 255]

    Returns
    -------
    float64 [S, 255]. (1+β²)·P·R / (β²·P + R) is (1+β²)·tp / (β²·positives + predicted), which is 0
    where the quotient of the definition is NaN (nothing predicted, or nothing hit).

    Examples
    --------
    >>> f_curves([2], [[1, 0]], [[4, 0]]).round(4).tolist()
    [[0.2826, 0.0]]
    """
    positives = np.asarray(positives, dtype=np.float64)[:, None]
    f_tp, f_pp = (np.asarray(x, dtype=np.float64) for x in (f_tp, f_pp))
    return (1 + BETA2) * f_tp / (BETA2 * positives + f_pp)


EMPTY_TRUTHS = ("background", "skip")
F_AGGREGATIONS = ("set", "image")


def mean_curve(portions):
    """Mean over images of curves [S, L] that come in portions: as of all at once, bit for bit.

    Returns
    -------
    float64 [L]; None where no portion holds an image

    Examples
    --------
    >>> mean_curve([np.array([[0.1, 1.0]]), np.array([[0.2, 3.0]])]).tolist()
    [0.15000000000000002, 2.0]
    """
    total, count = None, 0
    for curves in portions:
        if len(curves):
            above = curves if total is None else np.concatenate([total[None], curves])
            total, count = above.sum(axis=0), count + len(curves)
    return None if total is None else total / count


def best_mask_iou(portions, empty_truth="background"):
    """Mean over images at each threshold, then the best: chosen on the scored set itself.

    Parameters
    ----------
    portions : iterable of (pixels, positives, tp, fp)
        as in `mask_iou`, of some of the images each; in memory one after another
    empty_truth : {"background", "skip"}
        an image with empty truth scores the background that is left free (the paper), or is left out

    Returns
    -------
    (value, index) : float in [0, 1], int into `THRESHOLDS` (the lowest of equals)

    Raises
    ------
    ValueError
        when every image is left out, or for another convention.

    Examples
    --------
    >>> counts = [4, 4], [2, 0], [[1], [0]], [[1], [3]]
    >>> [round(best_mask_iou([counts], how)[0], 4) for how in EMPTY_TRUTHS]
    [0.2917, 0.3333]
    """
    if empty_truth not in EMPTY_TRUTHS:
        raise ValueError(f"empty_truth must be one of {EMPTY_TRUTHS}, not {empty_truth!r}")
    curves = (
        mask_iou(pixels, positives, tp, fp)[slice(None) if empty_truth == "background" else _some(positives)]
        for pixels, positives, tp, fp in portions
    )
    return _best(mean_curve(curves))


def best_f(portions, aggregation="set"):
    """Greatest F; images with empty truth are left out.

    Parameters
    ----------
    portions : iterable of (positives, f_tp, f_pp)
        as in `f_curves`, of some of the images each; in memory one after another
    aggregation : {"set", "image"}
        maximum of the mean curve, one threshold for the set (the paper); or the mean of every image's own maximum

    Returns
    -------
    (value, index) : float in [0, 1], int into `F_THRESHOLDS` (the lowest of equals), None without a common one

    Raises
    ------
    ValueError
        when every image has an empty truth: F is then undefined; or for another convention.

    Examples
    --------
    >>> counts = [2, 2], [[2, 1], [1, 2]], [[2, 1], [4, 2]]
    >>> [round(best_f([counts], how)[0], 4) for how in F_AGGREGATIONS]
    [0.9062, 1.0]
    """
    if aggregation not in F_AGGREGATIONS:
        raise ValueError(f"aggregation must be one of {F_AGGREGATIONS}, not {aggregation!r}")
    curves = (f_curves(*(np.asarray(x)[_some(part[0])] for x in part)) for part in portions)
    if aggregation == "set":
        return _best(mean_curve(curves))
    best = np.concatenate([part.max(axis=1) for part in curves])
    return float((best if len(best) else _undefined()).mean()), None


def _some(positives):
    """Which images have a foreground pixel in their truth, bool [S]."""
    return np.asarray(positives) > 0


def _undefined():
    raise ValueError("undefined: none of the images has a foreground pixel in its truth")


def _count(ascending, thresholds, side):
    """How many values are > (side right) or >= (side left) each threshold; int32."""
    return (ascending.size - np.searchsorted(ascending, thresholds, side)).astype(np.int32)


def _best(mean):
    """Greatest value of a mean curve [L], and its index."""
    if mean is None:
        _undefined()
    index = int(np.argmax(mean))
    return float(mean[index]), index
