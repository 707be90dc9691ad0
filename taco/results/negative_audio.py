"""Figures of the negative-audio benchmark of sound source localisation, under its names, so that others can compare.

The benchmark asks what a model marks when nothing in the image sounds: silence, noise, off-screen sound. It thresholds
un-normalised maps with one **universal threshold** for all images, the third quartile of the greatest values that maps of
negatives reach. At that threshold, as its authors' evaluation code computes them:

==========  =================================================================================================
cIoU        mean IoU over positives
AUC         area under the share of positives with an IoU of at least t, t = 0, 0.05 … 1
pIA         mean share of the image that is marked ("percentage of image area"), for each kind of negatives
AUC_N       area under the share of negatives with a pIA of at most t, t = 0, 0.05 … 1, for each kind
F_LOC       harmonic mean of cIoU and of 1 − pIA, averaged over the kinds
F_AUC       harmonic mean of AUC and of AUC_N, averaged over the kinds
==========  =================================================================================================

Here the threshold is found on every second clip and the figures on the others, as no figure may choose its own
threshold. The benchmark's data (VGG-SS, Flickr) and its noise are not those of this suite.

References
----------
Juanola, Haro and Fuentes (2024), A critical assessment of visual sound source localization models including negative audio,
https://arxiv.org/abs/2410.01020; the authors' code, https://github.com/xavijuanola/vssl_eval
"""

import numpy as np
import pandas as pd

from taco.results.negatives import ALL, EXCHANGED, Marks, grouped, halves

WHOLE = UNIVERSAL, CIOU, AUC, F_LOC, F_AUC = ("universal threshold", "cIoU", "AUC", "F_LOC", "F_AUC")
BY_KIND = PIA, AUC_N = ("pIA", "AUC_N")
NAMES = (*WHOLE, *BY_KIND)
STEPS = np.arange(21) / 20
THIRD_QUARTILE = 0.75


def area_under(shares: np.ndarray) -> float:
    """Area under a curve of 21 values over 0, 0.05 … 1, by the trapezoidal rule."""
    return float(np.trapezoid(shares, STEPS))


def success_auc(ious: np.ndarray) -> float:
    """AUC: area under the share of images with an IoU of at least t.

    Examples
    --------
    >>> round(success_auc(np.array([0.5, 1.0])), 4)
    0.7625
    """
    return area_under((np.asarray(ious)[:, None] >= STEPS).mean(axis=0))


def free_auc(areas: np.ndarray) -> float:
    """AUC_N: area under the share of images with a marked share of at most t; 1 where nothing is marked.

    Examples
    --------
    >>> free_auc(np.array([0.0, 0.0])), round(free_auc(np.array([0.0, 1.0])), 4)
    (1.0, 0.5125)
    """
    return area_under((np.asarray(areas)[:, None] <= STEPS).mean(axis=0))


def harmonic(a: float, b: float) -> float:
    """Harmonic mean of two fractions, 0 where both are.

    Examples
    --------
    >>> harmonic(0.5, 1.0), harmonic(0.0, 0.0)
    (0.6666666666666666, 0.0)
    """
    return 2 * a * b / (a + b) if a + b else 0.0


def figures(positives: pd.DataFrame, negatives: pd.DataFrame) -> list[tuple[str, str, float]]:
    """Every figure of one method, task and seed.

    Parameters
    ----------
    positives : DataFrame
        Binary rows with floor and peak; images with their own sound and some truth.
    negatives : DataFrame
        The same of images with exchanged sounds; ``variant`` tells their kind.

    Returns
    -------
    list of (kind or "all kinds", figure, value)
        Values are fractions, the threshold is on the map's own scale. Empty where half of the clips is nothing.
    """
    (_, seen), (fit, held_out) = halves(positives, negatives)
    if not min(map(len, (seen, fit, held_out))):
        return []
    threshold = float(np.quantile(fit["peak"], THIRD_QUARTILE))
    found = Marks(seen)
    (hit,), (marked,) = found.above([threshold])
    ious = hit / np.maximum(found.positives + marked - hit, 1)
    names = {variant: kind for kind, variant in EXCHANGED.items()}
    areas = {
        names[variant]: Marks(rows).above([threshold])[1][0] / rows["pixels"].to_numpy()
        for variant, rows in held_out.groupby("variant", sort=False)
    }
    pia = {kind: float(area.mean()) for kind, area in areas.items()}
    auc_n = {kind: free_auc(area) for kind, area in areas.items()}
    ciou, auc = float(ious.mean()), success_auc(ious)
    return [
        (ALL, UNIVERSAL, threshold),
        (ALL, CIOU, ciou),
        (ALL, AUC, auc),
        *((kind, PIA, value) for kind, value in pia.items()),
        *((kind, AUC_N, value) for kind, value in auc_n.items()),
        (ALL, F_LOC, harmonic(ciou, 1 - float(np.mean(list(pia.values()))))),
        (ALL, F_AUC, harmonic(auc, float(np.mean(list(auc_n.values()))))),
    ]


def per_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """`figures` of every task, method and seed; arguments and columns of `taco.results.negatives.per_seed`."""
    records = []
    for part in grouped(rows):
        exchanged = [found for kind, found in part.kinds.items() if kind in EXCHANGED]
        if exchanged:
            negatives = pd.concat(exchanged)
            for kind, figure, value in figures(part.positives, negatives):
                count = len(part.kinds[kind]) if kind in part.kinds else len(negatives)
                records.append(part.record(kind, figure, value, count))
    return pd.DataFrame(records)
