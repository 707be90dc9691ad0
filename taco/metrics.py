"""Scores of one image, and how scores of many images become a metric: numpy only, no files.

A map is scored once into a **row** of small integers (counts), and every metric is computed from
rows. Counts are sums over pixels and rows are kept per sample, so any split of the work over shards
gives the same numbers as one pass, bit for bit (`taco.aggregate` sorts rows by sample before it sums).

Row schema
----------
Every row starts with the columns of `IDENTITY`, which the caller fills:

==============  =======  =====================================================================
column          type     meaning
==============  =======  =====================================================================
task            str      s4, ms3, ade_sp (binary); avss, ade_sp_semantic (semantic)
dataset         str      s4, ms3, ade, avss
sample_id       str      the manifest's
clip_id         str      the manifest's; the unit of the bootstrap
class_name      str      prompted or sounding class ("" where unknown); pools ADE SP
method          str      "TACO", "U only", "A-FC-CLIP", "A⁺-FC-CLIP", "whole image", "random mask", …
variant         str      "proposed", "no-min", …, "shuffled audio", "list", "control"
word_bank       str      "general", "specific"; "none" where no bank is used (controls)
seed            int32    0, 1, 2; -1 for a deterministic method
==============  =======  =====================================================================

`binary_row` adds `BINARY_COLUMNS`:

==============  ===========  =================================================================
pixels          int32        pixels of the image
positives       int32        pixels of the truth
tp, fp          int32[19]    true / false positives of ``map > THRESHOLDS[i]``
f_tp, f_pp      int32[255]   true / all positives of ``map >= F_THRESHOLDS[i]``
==============  ===========  =================================================================

`semantic_row` adds `SEMANTIC_COLUMNS` (aligned lists over the ids with a non-empty union):

==============  ===========  =================================================================
pixels          int32        pixels of the image
n_labels        int32        J, the dataset's number of labels
first_id        int32        id of the first label: 0 (background is a label) or 1
class_ids       int16[C]     ids in prediction or truth, ascending, background (0) included
intersection    int32[C]     pixels where both are the id
predicted       int32[C]     pixels predicted as the id
truth           int32[C]     pixels whose truth is the id
==============  ===========  =================================================================

ADE SP has, beside its binary rows, one **histogram row** per (class, method, variant, word bank,
seed) and shard: `HISTOGRAM_IDENTITY` (the identity without sample and clip) plus ``n_samples``
int32 and the aligned sparse lists ``bins`` uint16, ``positives`` and ``negatives`` int64
(`ScoreHistogram.to_row`).

Comparisons
-----------
Maps and thresholds are compared **in float32**, as the authors' tensors are: a pixel that equals
``float32(0.05)`` is not above the threshold 0.05. All values here are fractions; percent belongs to
`taco.tables`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
HISTOGRAM_IDENTITY = tuple(name for name in IDENTITY if name not in ("sample_id", "clip_id"))
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
HISTOGRAM_COLUMNS = ("n_samples", "bins", "positives", "negatives")

THRESHOLDS = (np.arange(1, 20) / 20).astype(np.float32)
"""Mask-IoU: 0.05, 0.10 … 0.95, compared with strict >."""
F_THRESHOLDS = np.linspace(0, 1 - 1e-10, 255).astype(np.float32)
"""F on S4 and MS3: compared with >=; the last one is 1 in float32, so a pixel of 1 passes."""
BETA2 = 0.3
"""β² of every F score."""
POOLED_THRESHOLDS = 20
"""ADE SP mIoU: thresholds from the pool's least to its greatest score."""

BINS = 65536
BINS_PER_UNIT = 32768
LOWEST_SCORE = -0.5
"""Scores are kept as round((score + 0.5) · 32768), 16 bits: from -0.5 to 1.49997 in steps of 2^-15.

Bicubic interpolation (a = -0.75) of values in [0, 1] stays within [-0.446, 1.446], so no score of ours is
cut; 0 and 1 are kept exactly.
"""


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
    scores = _finite(np.asarray(scores, dtype=np.float32))
    low, high = scores.min(), scores.max()
    if low == high:
        return np.zeros_like(scores)
    return (scores - low) / (high - low)


# ---------------------------------------------------------------- binary: S4, MS3 (and ADE SP by image)


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
    scores, truth = _pair(scores, truth)
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


def best_mask_iou(pixels, positives, tp, fp):
    """Mean over images at each threshold, then the best: chosen on the scored set itself.

    Returns
    -------
    (value, index) : float in [0, 1], int into `THRESHOLDS` (the lowest of equals)
    """
    return _best(mask_iou(pixels, positives, tp, fp))


def best_f(positives, f_tp, f_pp):
    """Greatest value of the mean F curve; images with empty truth are left out.

    Returns
    -------
    (value, index) : float in [0, 1], int into `F_THRESHOLDS` (the lowest of equals)

    Raises
    ------
    ValueError
        when every image has an empty truth: F is then undefined.
    """
    some = np.asarray(positives) > 0
    if not some.any():
        raise ValueError("F is undefined: none of the images has a foreground pixel in its truth")
    return _best(f_curves(np.asarray(positives)[some], np.asarray(f_tp)[some], np.asarray(f_pp)[some]))


# ------------------------------------------------------------------------- pooled by class: ADE SP


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
    scores = _finite(np.asarray(scores, dtype=np.float32))
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
        scores, truth = _pair(scores, truth)
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


# -------------------------------------------------------------------- semantic: AVSS, ADE SP Semantic


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


# --------------------------------------------------------------------------------------- small helpers


def _finite(scores):
    if not np.isfinite(scores).all():
        raise ValueError("the map holds NaN or infinite values: scores must be finite")
    return scores


def _pair(scores, truth):
    """Check one map and its truth; float32 [H, W] and bool [H, W]."""
    scores, truth = np.asarray(scores, dtype=np.float32), np.asarray(truth)
    if scores.shape != truth.shape or scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"map {scores.shape} and truth {truth.shape} must be one non-empty shape [H, W]")
    if truth.dtype != bool:
        if not np.isin(truth, (0, 1)).all():
            raise ValueError("truth must be bool or hold only 0 and 1")
        truth = truth.astype(bool)
    return _finite(scores), truth


def _count(ascending, thresholds, side):
    """How many values are > (side right) or >= (side left) each threshold; int32."""
    return (ascending.size - np.searchsorted(ascending, thresholds, side)).astype(np.int32)


def _best(curves):
    mean = curves.mean(axis=0)
    index = int(np.argmax(mean))
    return float(mean[index]), index
