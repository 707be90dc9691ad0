"""The written rules by which figures choose their samples, so that nobody picks them. No torch."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from taco.data.datasets.ade import class_ids
from taco.figures.examples import Source
from taco.runtime import generator

MISSED, FOUND = 0.1, 0.6
SMALLEST_PART = 0.05


def nearest_quantile(scores: pd.Series, quantile: float) -> str | None:
    """Sample whose score is closest to a quantile of all scores; of equals, the first by sample id; None of none."""
    if scores.empty:
        return None
    distance = (scores - scores.quantile(quantile)).abs().sort_index()
    return str(distance.idxmin())


def draw(table: pd.DataFrame, n: int, seed: int, purpose: str) -> list[str]:
    """Draw n samples, at most one of a clip, uniformly by seed; sorted by sample id (all, where there are fewer clips).

    Parameters
    ----------
    table : DataFrame
        Indexed by sample_id, with clip_id.
    """
    rng = generator(seed, purpose)
    clips = sorted(set(table["clip_id"]))
    chosen = rng.permutation(len(clips))[:n]
    members = {clip: sorted(rows.index) for clip, rows in table.groupby("clip_id")}
    return sorted(members[clips[i]][int(rng.integers(len(members[clips[i]])))] for i in chosen)


def other_objects(annotation: str | Path) -> int:
    """Number of further classes in an ADE20K annotation beside one: classes it shows, less one (never below 0)."""
    ids = np.unique(class_ids(annotation))
    return max(int((ids > 0).sum()) - 1, 0)


def parts(truth: np.ndarray) -> list[np.ndarray]:
    """Connected parts of a truth [H, W] as masks, without those below 5 % of it."""
    labels, count = ndimage.label(truth)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    return [labels == i for i in range(1, count + 1) if sizes[i] >= SMALLEST_PART * sizes[1:].sum()]


def missed_source(truth: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a mask covers one part of the truth (>= 60 %) and leaves another out (<= 10 %); see `parts`."""
    share = np.array([mask[part].mean() for part in parts(truth)])
    return bool((share >= FOUND).any() and (share <= MISSED).any())


FAILURES = {
    "right factor, poor mask": "U alone lies furthest above TACO in IoU",
    "no clear factor": "greatest cross-entropy of factor k* among images below the median IoU",
    "one source missed": "several parts in the truth, one covered by at least 60 %, another by at most 10 %",
}


def failures(source: Source) -> dict[str, str | None]:
    """One sample for each kind of failure (`FAILURES`), or None where no sample fits its rule."""
    table = source.table.sort_index()
    table = table[[bool(source.truth(sample).any()) for sample in table.index]]
    found: dict[str, str | None] = dict.fromkeys(FAILURES)
    if table.empty:
        return found
    excess = table["u_only"] - table["taco"]
    if excess.max() > 0:
        found["right factor, poor mask"] = str(excess.idxmax())
    poor = table.index[table["taco"] <= table["taco"].median()]
    entropy = pd.Series([float(source.stored("cross_entropy", s).min()) for s in poor], poor)
    found["no clear factor"] = str(entropy.idxmax())
    for sample in table["taco"].sort_values(kind="stable").index:
        soft = source.stored("prediction", sample) / 255
        if missed_source(source.truth(sample), soft > source.thresholds["taco"]):
            found["one source missed"] = str(sample)
            break
    return found
