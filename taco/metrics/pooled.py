"""Pixels pooled by class, as histograms of 16-bit scores: mIoU and average precision (ADE SP)."""

from dataclasses import dataclass, field

import numpy as np

from .rows import finite, pair

POOLED_THRESHOLDS = 20
"""ADE SP mIoU: thresholds from the pool's least to its greatest score."""

BINS = 65536
BINS_PER_UNIT = 32768
LOWEST_SCORE = -0.5
"""Scores are kept as round((score + 0.5) · 32768), 16 bits: from -0.5 to 1.49997 in steps of 2^-15.

Bicubic interpolation (a = -0.75) of values in [0, 1] stays within [-0.446, 1.446], so no score of ours is
cut; 0 and 1 are kept exactly.
"""


def quantise(scores):
    """Keep scores as 16-bit integers.

    Parameters
    ----------
    scores : array, values in [-0.5, 1.49997]

    Returns
    -------
    uint16, same shape; step 2^-15, so a score moves by at most 1.6e-5

    Raises
    ------
    ValueError
        for a score outside the range (nothing is clipped in silence).

    Examples
    --------
    >>> quantise([-0.5, 0.0, 1.0]).tolist()
    [0, 16384, 49152]
    """
    scores = finite(np.asarray(scores, dtype=np.float32))
    codes = np.rint((scores.astype(np.float64) - LOWEST_SCORE) * BINS_PER_UNIT)
    if codes.size and (codes.min() < 0 or codes.max() >= BINS):
        raise ValueError(
            f"scores must lie in [-0.5, 1.49997], found [{scores.min()}, {scores.max()}]: "
            "stretch the map with min_max before it is resized and scored"
        )
    return codes.astype(np.uint16)


def dequantise(codes):
    """Score of each 16-bit code, float64: code / 32768 - 0.5."""
    return np.asarray(codes, dtype=np.float64) / BINS_PER_UNIT + LOWEST_SCORE


@dataclass
class ScoreHistogram:
    """Scores of all pixels of one class, as a 16-bit histogram: bounded memory, exact for those scores.

    Examples
    --------
    >>> pool = ScoreHistogram()
    >>> pool.update([[0.9, 0.8], [0.7, 0.1]], [[1, 0], [1, 0]])
    >>> round(pool.average_precision(), 4), round(pool.best_iou(), 4)
    (0.8333, 0.6667)
    """

    n_samples: int = 0
    positives: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    negatives: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))

    def update(self, scores, truth):
        """Add one image: scores [H, W] in [-0.5, 1.49997], truth [H, W] bool or {0, 1}."""
        scores, truth = pair(scores, truth)
        codes = quantise(scores)
        self.positives += np.bincount(codes[truth], minlength=BINS)
        self.negatives += np.bincount(codes[~truth], minlength=BINS)
        self.n_samples += 1

    def merge(self, other):
        """Add another histogram's counts (of another shard) to this one."""
        self.positives += other.positives
        self.negatives += other.negatives
        self.n_samples += other.n_samples

    def to_row(self):
        """Sparse lists of the occupied bins: dict with `HISTOGRAM_COLUMNS`."""
        bins = np.flatnonzero(self.positives + self.negatives)
        return {
            "n_samples": self.n_samples,
            "bins": bins.astype(np.uint16),
            "positives": self.positives[bins],
            "negatives": self.negatives[bins],
        }

    @classmethod
    def from_row(cls, row):
        """The histogram that `to_row` wrote."""
        result = cls(n_samples=int(row["n_samples"]))
        bins = np.asarray(row["bins"], dtype=np.int64)
        result.positives[bins] = row["positives"]
        result.negatives[bins] = row["negatives"]
        return result

    def average_precision(self):
        """Σ (R_n - R_{n-1})·P_n over distinct scores, descending: scikit-learn's definition.

        0 when no pixel of the pool is positive (scikit-learn's value, too).
        """
        tp, fp = (np.cumsum(counts[::-1]) for counts in (self.positives, self.negatives))
        if tp[-1] == 0:
            return 0.0
        hits = np.flatnonzero(self.positives[::-1])
        precision = tp[hits] / (tp[hits] + fp[hits])
        return float(np.sum(precision * self.positives[::-1][hits]) / tp[-1])

    def iou_curve(self):
        """IoU of the pool at 20 thresholds from its least to its greatest score, strict >.

        A pool of one single value c (a whole-image control, or nothing but constant maps) has no range:
        its thresholds run from score 0 to c, so that a pool of 1 counts as marked and a pool of 0 as not.

        Returns
        -------
        float64 [20], 0 where the union is empty
        """
        occupied = np.flatnonzero(self.positives + self.negatives)
        if occupied.size == 0:
            raise ValueError("no pixel was added to this pool: nothing to score")
        low, high = int(occupied[0]), int(occupied[-1])
        if low == high:
            low = min(low, int(quantise(0.0)))
        # code > low + (high - low)·i/19, in whole numbers: no rounding at equal values
        first = low + (high - low) * np.arange(POOLED_THRESHOLDS) // (POOLED_THRESHOLDS - 1) + 1
        tp, fp = (np.append(np.cumsum(c[::-1])[::-1], 0) for c in (self.positives, self.negatives))
        union = tp[0] + fp[first]
        return np.divide(tp[first], union, out=np.zeros(len(first)), where=union > 0)

    def best_iou(self):
        """Greatest value of `iou_curve`: the threshold is chosen on the scored pool itself."""
        return float(self.iou_curve().max())
