"""The columns of score rows, checks of one map, and what the parts of the package share."""

import numpy as np

IDENTITY = (
    "task",
    "dataset",
    "sample_id",
    "clip_id",
    "class_name",
    "method",
    "variant",
    "word_bank",
    "seed",
)
POOL_IDENTITY = tuple(name for name in IDENTITY if name not in ("sample_id", "clip_id"))
BINARY_COLUMNS = ("pixels", "positives", "tp", "fp", "f_tp", "f_pp")
SEMANTIC_COLUMNS = (
    "pixels",
    "n_labels",
    "first_id",
    "class_ids",
    "intersection",
    "predicted",
    "truth",
)
POOL_COLUMNS = ("n_samples", "positives", "negatives")
OWN = "own: "
"""What the column of a metric of one's own begins with, before the metric's name; a value for each image, NaN for none."""

BETA2 = 0.3
"""β² of every F score."""


def min_max(scores):
    """Stretch a map to [0, 1].

    Parameters
    ----------
    scores : array [H, W], any finite values

    Returns
    -------
    float32 [H, W] in [0, 1]; all zeros when the map is constant (0/0 is defined so).

    Examples
    --------
    >>> min_max([[1.0, 2.0], [3.0, 5.0]]).tolist()
    [[0.0, 0.25], [0.5, 1.0]]
    >>> min_max([[7.0, 7.0]]).tolist()
    [[0.0, 0.0]]
    """
    scores = finite(np.asarray(scores, dtype=np.float32))
    low, high = scores.min(), scores.max()
    if low == high:
        return np.zeros_like(scores)
    return (scores - low) / (high - low)


def finite(scores):
    if not np.isfinite(scores).all():
        raise ValueError("the map holds NaN or infinite values: scores must be finite")
    return scores


def pair(scores, truth):
    """Check one map and its truth; float32 [H, W] and bool [H, W]."""
    scores, truth = np.asarray(scores, dtype=np.float32), np.asarray(truth)
    if scores.shape != truth.shape or scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"map {scores.shape} and truth {truth.shape} must be one non-empty shape [H, W]")
    if truth.dtype != bool:
        if not np.isin(truth, (0, 1)).all():
            raise ValueError("truth must be bool or hold only 0 and 1")
        truth = truth.astype(bool)
    return finite(scores), truth
