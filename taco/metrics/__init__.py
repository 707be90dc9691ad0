"""Scores. Takes a map and its truth; gives a row of counts, and of many rows a metric. NumPy only, no files.

A map is scored once into a **row** of small integers (counts), and every metric is computed from
rows. Counts are sums over pixels and rows are kept per sample, so any split of the work over shards
gives the same numbers as one pass, bit for bit (`taco.results.aggregate` sorts rows by sample before it sums).

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

ADE SP has, beside its binary rows, **pools**, one row or more per (class, method, variant, word bank,
seed) and shard: `POOL_IDENTITY` (the identity without sample and clip) plus ``n_samples`` int32 and
the scores of all pixels, ``positives`` and ``negatives`` int32, sorted (`ScorePool.to_row`).

Comparisons
-----------
Maps and thresholds are compared **in float32**, as the authors' tensors are: a pixel that equals
``float32(0.05)`` is not above the threshold 0.05. All values here are fractions; percent belongs to
`taco.results.tables`.
"""

from .binary import (
    EMPTY_TRUTHS,
    F_AGGREGATIONS,
    F_THRESHOLDS,
    THRESHOLDS,
    best_f,
    best_mask_iou,
    binary_row,
    f_curves,
    mask_iou,
    mean_curve,
)
from .pooled import ScorePool, from_ordered, ordered
from .rows import (
    BETA2,
    BINARY_COLUMNS,
    IDENTITY,
    OWN,
    POOL_COLUMNS,
    POOL_IDENTITY,
    SEMANTIC_COLUMNS,
    min_max,
)
from .semantic import (
    CONVENTIONS,
    class_ratios,
    convention_ids,
    image_miou,
    semantic_row,
    semantic_scores,
)

__all__ = [
    "BETA2",
    "BINARY_COLUMNS",
    "CONVENTIONS",
    "EMPTY_TRUTHS",
    "F_AGGREGATIONS",
    "F_THRESHOLDS",
    "IDENTITY",
    "OWN",
    "POOL_COLUMNS",
    "POOL_IDENTITY",
    "SEMANTIC_COLUMNS",
    "THRESHOLDS",
    "ScorePool",
    "best_f",
    "best_mask_iou",
    "binary_row",
    "class_ratios",
    "convention_ids",
    "f_curves",
    "from_ordered",
    "image_miou",
    "mask_iou",
    "mean_curve",
    "min_max",
    "ordered",
    "semantic_row",
    "semantic_scores",
]
