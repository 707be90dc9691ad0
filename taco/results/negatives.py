"""Does a method notice that the sound is not of this image? A test on un-normalised maps.

The paper's metrics stretch every map to 0 … 1, so some pixel is always marked. Here the map's own range counts
(columns ``floor`` and ``peak`` of the score rows: its least and greatest value before stretching). Positives are images
with their own sound; negatives are of several kinds:

* off-screen: the image with another clip's sound, of other classes wherever possible (variant "shuffled audio");
* silence, noise: the image with digital silence, or with white noise (`taco.method.stimuli`);
* no source: images whose own sound has no source, so that their truth is empty (MS3).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from taco import metrics
from taco.metrics.tasks import TASKS
from taco.results import counts
from taco.results.aggregate import marked_at, population_std, threshold_counts
from taco.results.score_files import cells

OFF_SCREEN, SILENCE, NOISE, NO_SOURCE = "off-screen sound", "silence", "noise", "frames without a source"
EXCHANGED = {OFF_SCREEN: "shuffled audio", SILENCE: "silence", NOISE: "noise"}
"""Kinds of negatives whose sound was put in place of the image's own, and their variants."""
KINDS = (*EXCHANGED, NO_SOURCE)
ALL = "all kinds"
METHODS = ("TACO", "U only")
CANDIDATES = 200
COLUMNS = (
    *("table", "dataset", "method", "word_bank", "negatives", "metric"),
    *("mean", "std", "n_seeds", "n_positive", "n_negative", "source"),
)
KEYS = ["task", "method", "word_bank", "negatives", "metric"]
AUROC = "AUROC"
MARKED, MARKED_STRETCHED = "falsely marked", "falsely marked, stretched"


def auroc(positives, negatives):
    """Probability that a positive's readout is above a negative's; ties count half.

    Parameters
    ----------
    positives, negatives : float [P], [N], not empty

    Returns
    -------
    float in [0, 1], the area under the ROC curve (0.5 is chance)

    Examples
    --------
    >>> auroc([3.0, 2.0], [1.0, 2.0])
    0.875
    """
    positives, negatives = np.asarray(positives), np.asarray(negatives)
    ranks = pd.Series(np.concatenate([positives, negatives])).rank().to_numpy()[: len(positives)].sum()
    pairs = len(positives) * len(negatives)
    return float((ranks - len(positives) * (len(positives) + 1) / 2) / pairs)


class Marks:
    """What un-normalised thresholds mark in some images, from counts of the stretched maps.

    Parameters
    ----------
    rows : DataFrame
        binary rows with floor and peak
    """

    def __init__(self, rows):
        self.rows = rows
        self.positives, self.pixels = rows["positives"].to_numpy(), rows["pixels"].to_numpy()

    def above(self, thresholds):
        """Pixels of truth and pixels in all above thresholds [T].

        Returns
        -------
        hit, marked : int [T, S]. Counts are kept at 255 levels of each map's range; the next level above is taken.
        """
        parts = [self._above(part, thresholds) for part in counts.portions(self.rows)]
        return [np.concatenate(found, axis=1) for found in zip(*parts, strict=True)]

    @staticmethod
    def _above(rows, thresholds):
        levels, thresholds = len(metrics.F_THRESHOLDS), np.asarray(thresholds)[:, None]
        floor, span = rows["floor"].to_numpy(), (rows["peak"] - rows["floor"]).to_numpy()
        above = np.full((len(thresholds), len(span)), np.inf)
        np.divide(thresholds - floor, span, out=above, where=span > 0)
        # a constant map at or above the threshold marks every pixel
        flat = (span <= 0) & (floor >= thresholds)
        place = np.ceil(np.clip(above, 0, 2) * (levels - 1) - 1e-9).astype(int)
        for name, whole in (("f_tp", "positives"), ("f_pp", "pixels")):
            kept = np.take_along_axis(counts.table(rows, name).T, np.minimum(place, levels - 1), axis=0)
            yield np.where(flat, rows[whole].to_numpy(), np.where(place < levels, kept, 0))


def choose_threshold(positives, negatives):
    """Threshold on the un-normalised map with the greatest mean of IoU (positives) and share left free (negatives)."""
    peaks = np.concatenate([positives["peak"], positives["floor"], negatives["peak"]])
    candidates = np.quantile(peaks, np.linspace(0, 1, CANDIDATES))
    seen, unseen = Marks(positives), Marks(negatives)
    # As many at once as take no more room than the counts of a portion.
    room = counts.at_once(positives) * len(metrics.F_THRESHOLDS)
    scores = []
    for some in np.array_split(candidates, -(-CANDIDATES * max(len(positives), len(negatives)) // room)):
        for (hit, marked), (_, free) in zip(
            zip(*seen.above(some), strict=True), zip(*unseen.above(some), strict=True), strict=True
        ):
            iou = np.mean(hit / np.maximum(seen.positives + marked - hit, 1))
            scores.append(iou + 1 - np.mean(free / unseen.pixels))
    return float(candidates[np.argmax(scores)])


def halves(positives, negatives):
    """Split rows by clip: every second clip (in order of names) chooses the threshold, the others are held out.

    Clips with negatives are dealt out first, on their own, so that both halves have some.
    """
    with_negatives = sorted(set(negatives["clip_id"]))
    others = sorted(set(positives["clip_id"]) - set(with_negatives))
    first = {*with_negatives[::2], *others[::2]}
    return [
        (group[group["clip_id"].isin(first)], group[~group["clip_id"].isin(first)])
        for group in (positives, negatives)
    ]


def _measures(positives, negatives):
    """The measures of one seed as pairs (metric, fraction); falsely marked pixels only where both halves have rows."""
    yield AUROC, auroc(positives["peak"], negatives["peak"])
    (fit, _), (fit_negative, held_out) = halves(positives, negatives)
    if not min(len(fit), len(fit_negative), len(held_out)):
        return
    threshold = choose_threshold(fit, fit_negative)
    yield MARKED, float(np.mean(Marks(held_out).above([threshold])[1][0] / held_out["pixels"]))
    _, best = metrics.best_mask_iou(threshold_counts(fit))
    yield MARKED_STRETCHED, float(np.mean(marked_at(held_out, best)))


class Part(NamedTuple):
    """One method, task and seed: rows of its positives, and of each kind of negatives that it has."""

    task: str
    method: str
    word_bank: str
    seed: int
    positives: pd.DataFrame
    kinds: dict[str, pd.DataFrame]

    def record(self, kind, metric, value, n_negative):
        """One value, as a row of `per_seed`."""
        return {
            **{name: getattr(self, name) for name in ("task", "method", "word_bank", "seed")},
            "negatives": kind,
            "metric": metric,
            "value": value,
            "n_positive": len(self.positives),
            "n_negative": n_negative,
        }


def grouped(rows):
    """Yield a `Part` for each method, task and seed that has positives and some kind of negatives.

    Parameters
    ----------
    rows : DataFrame
        from `taco.results.score_files.load_rows`; of each task its default word bank is taken
    """
    for task, form in TASKS.items():
        if form.kind == "semantic" or "peak" not in rows:
            continue
        wanted = (rows["task"] == task) & (rows["word_bank"] == form.word_bank) & rows["peak"].notna()
        wanted &= rows["method"].isin(METHODS) & rows["variant"].isin(["proposed", *EXCHANGED.values()])
        for (method, seed), group in cells(rows, ("method", "seed"), where=wanted):
            own = group[group["variant"] == "proposed"]
            seen = own["positives"] > 0
            kinds = {kind: group[group["variant"] == variant] for kind, variant in EXCHANGED.items()}
            kinds[NO_SOURCE] = own[~seen]
            kinds = {kind: negatives for kind, negatives in kinds.items() if len(negatives)}
            if kinds and seen.any():
                yield Part(task, method, form.word_bank, seed, own[seen], kinds)


def per_seed(rows):
    """Every measure of every method, kind of negatives and seed, on each task's default word bank.

    Parameters
    ----------
    rows : DataFrame
        from `taco.results.score_files.load_rows`

    Returns
    -------
    DataFrame: task, method, word_bank, seed, negatives, metric, value (fraction), n_positive, n_negative; empty where
    no task has negatives
    """
    return pd.DataFrame(
        [
            part.record(kind, metric, value, len(negatives))
            for part in grouped(rows)
            for kind, negatives in part.kinds.items()
            for metric, value in _measures(part.positives, negatives)
        ],
        columns=[*KEYS, "seed", "value", "n_positive", "n_negative"],
    )


def table(values, suite, unscaled=()):
    """`per_seed` for CSV: mean and population std over seeds, in percent, with the dataset's name and the suite.

    Metrics in ``unscaled`` are thresholds on a map's own scale and stay as they are.
    """
    frame = (
        values.groupby(KEYS, sort=False)
        .agg(
            mean=("value", "mean"),
            std=("value", population_std),
            n_seeds=("value", "size"),
            n_positive=("n_positive", "first"),
            n_negative=("n_negative", "first"),
        )
        .reset_index()
    )
    scale = np.where(frame["metric"].isin(unscaled), 1, 100)
    frame[["mean", "std"]] = frame[["mean", "std"]].mul(scale, axis=0)
    frame["dataset"] = [TASKS[task].title for task in frame["task"]]
    return frame.assign(table="negatives", source=f"measured: {suite} suite")[list(COLUMNS)]
