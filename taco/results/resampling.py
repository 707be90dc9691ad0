"""Paired statistics over clips: a bootstrap interval and a permutation test of a mean difference. numpy only.

Images of one clip are alike, so the clip is what is drawn or exchanged, never the single image.
"""

import numpy as np

_INDICES_AT_ONCE = 2_000_000  # bounds memory: about 16 MB


def _by_clip(difference, clips):
    """Sum of differences and number of images of each clip, clips in ascending order."""
    _, index = np.unique(np.asarray(clips), return_inverse=True)
    return np.bincount(index, weights=np.asarray(difference, dtype=np.float64)), np.bincount(index)


def _portions(draws, width):
    step = max(1, _INDICES_AT_ONCE // width)
    return [min(step, draws - start) for start in range(0, draws, step)]


def paired_bootstrap(difference, clips, draws=10_000, seed=0, level=0.95):
    """Percentile interval of a mean difference when whole clips are drawn with replacement.

    Parameters
    ----------
    difference : float [S]
        score of a minus score of b, by image
    clips : sequence [S]
        the image's clip: images of one clip are drawn together
    draws, seed : int
    level : float

    Returns
    -------
    (low, high) : floats. The mean is over images, so a drawn set's value is Σ differences / Σ images.
    """
    sums, sizes = _by_clip(difference, clips)
    rng = np.random.default_rng(seed)
    means = []
    for count in _portions(draws, len(sums)):
        drawn = rng.integers(len(sums), size=(count, len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_permutation(difference, clips, draws=10_000, seed=0):
    """Two-sided p-value of a mean difference when the two methods are exchanged in whole clips.

    If the methods were alike, exchanging them in a clip, which turns the sign of its differences, would change
    nothing. All 2^C exchanges are counted where they are no more than ``draws``; else ``draws`` of them are drawn
    and the observed one is counted with them, so that p is never 0.

    Parameters
    ----------
    difference : float [S]
        score of a minus score of b, by image
    clips : sequence [S]
    draws, seed : int

    Returns
    -------
    float in (0, 1], not adjusted for the number of comparisons

    References
    ----------
    Phipson and Smyth (2010), Permutation p-values should never be zero, https://doi.org/10.2202/1544-6115.1585

    Examples
    --------
    >>> paired_permutation([1.0, 1.0, 1.0], ["a", "b", "c"])  # 2 of the 8 exchanges are as far from 0
    0.25
    """
    sums, _ = _by_clip(difference, clips)
    sums = sums[sums != 0]  # turning a zero changes nothing
    observed = abs(sums.sum())
    as_far = observed * (1 - 1e-12)  # equal sums may differ by rounding
    if 2 ** len(sums) <= draws:
        codes = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))
        return float(np.mean(np.abs((1 - 2 * (codes & 1)) @ sums) >= as_far))
    rng = np.random.default_rng(seed)
    extreme = 0
    for count in _portions(draws, len(sums)):
        signs = rng.integers(0, 2, size=(count, len(sums)), dtype=np.int8) * 2.0 - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ sums) >= as_far))
    return (1 + extreme) / (1 + draws)
