"""Pixels pooled by class: mIoU and average precision over all of them, exact on float32 scores (ADE SP)."""

import numpy as np

from .rows import finite, pair

POOLED_THRESHOLDS = 20
"""ADE SP mIoU: thresholds from the pool's least to its greatest score."""


class ScorePool:
    """Scores of all pixels of one class, as they are: four bytes a pixel.

    Attributes
    ----------
    n_samples, n_pixels : int
        Images added, and their pixels.

    Examples
    --------
    >>> pool = ScorePool()
    >>> pool.update([[0.9, 0.8], [0.7, 0.1]], [[1, 0], [1, 0]])
    >>> round(pool.average_precision(), 4), round(pool.best_iou(), 4)
    (0.8333, 0.6667)
    """

    def __init__(self):
        self.n_samples = self.n_pixels = 0
        self._parts = ([], [])  # of positives and of negatives, float32 each

    def update(self, scores, truth):
        """Add one image: scores [H, W], finite, compared in float32; truth [H, W] bool or {0, 1}."""
        scores, truth = pair(scores, truth)
        for part, found in zip(self._parts, (scores[truth], scores[~truth]), strict=True):
            part.append(found)
        self.n_samples += 1
        self.n_pixels += scores.size

    def merge(self, other):
        """Add another pool (of another shard) to this one."""
        for part, found in zip(self._parts, other._parts, strict=True):
            part.extend(found)
        self.n_samples += other.n_samples
        self.n_pixels += other.n_pixels

    def sorted_scores(self):
        """Scores of the positives and of the negatives, float32, each ascending."""
        for part in self._parts:
            if len(part) != 1 or not (part[0][1:] >= part[0][:-1]).all():
                part[:] = [np.sort(np.concatenate([np.empty(0, np.float32), *part]))]
        return tuple(part[0] for part in self._parts)

    def to_row(self):
        """Dict with `POOL_COLUMNS`: both sorted lists as whole numbers (`ordered`), whose small differences pack well."""
        positives, negatives = self.sorted_scores()
        return {"n_samples": self.n_samples, "positives": ordered(positives), "negatives": ordered(negatives)}

    @classmethod
    def from_row(cls, row):
        """The pool that `to_row` wrote."""
        pool = cls()
        pool.n_samples = int(row["n_samples"])
        for part, name in zip(pool._parts, ("positives", "negatives"), strict=True):
            part.append(from_ordered(row[name]))
            pool.n_pixels += len(row[name])
        return pool

    def average_precision(self):
        """Σ (R_n - R_{n-1})·P_n over distinct scores, descending: scikit-learn's definition.

        0 when no pixel of the pool is positive (scikit-learn's value, too).
        """
        positives, negatives = self.sorted_scores()
        if len(positives) == 0:
            return 0.0
        first = np.flatnonzero(np.r_[True, positives[1:] > positives[:-1]])  # of each distinct score
        tp = len(positives) - first
        fp = len(negatives) - np.searchsorted(negatives, positives[first], "left")
        hits = np.diff(np.r_[first, len(positives)])
        return float(np.sum(tp / (tp + fp) * hits) / len(positives))

    def iou_curve(self):
        """IoU of the pool at 20 thresholds from its least to its greatest score, strict > in float32.

        A pool of one single value c (a whole-image control, or nothing but constant maps) has no range:
        its thresholds run from score 0 to c, so that a pool of 1 counts as marked and a pool of 0 as not.

        Returns
        -------
        float64 [20], 0 where the union is empty
        """
        both = self.sorted_scores()
        ends = [part[[0, -1]] for part in both if len(part)]
        if not ends:
            raise ValueError("no pixel was added to this pool: nothing to score")
        low, high = float(np.min(ends)), float(np.max(ends))
        if low == high:
            low = min(low, 0.0)
        thresholds = np.linspace(low, high, POOLED_THRESHOLDS).astype(np.float32)
        tp, fp = (len(part) - np.searchsorted(part, thresholds, "right") for part in both)
        union = len(both[0]) + fp
        return np.divide(tp, union, out=np.zeros(len(union)), where=union > 0)

    def best_iou(self):
        """Greatest value of `iou_curve`: the threshold is chosen on the scored pool itself."""
        return float(self.iou_curve().max())


def ordered(scores):
    """Float32 scores as whole numbers in the same order, one for each number that float32 has.

    Parameters
    ----------
    scores : float32 array, finite

    Returns
    -------
    int32, same shape; `from_ordered` gives the scores back, bit for bit

    Examples
    --------
    >>> ordered([-0.5, 0.0, 1.0]).tolist()
    [-1056964609, 0, 1065353216]
    """
    return _swap(finite(np.ascontiguousarray(scores, dtype=np.float32)).view(np.int32))


def from_ordered(numbers):
    """Scores, float32, of which `ordered` made ``numbers``."""
    return _swap(np.asarray(numbers, dtype=np.int32)).view(np.float32)


def _swap(bits):
    """Bits of negative float32 numbers descend as the numbers ascend: turn all but their sign, or turn them back."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
