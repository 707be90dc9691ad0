"""Made-up soft maps and truths."""

import numpy as np

from taco import metrics


def soft_map(rng, shape=(20, 30)):
    """A map with many exact threshold values, ties, zeros and ones, and overshoot."""
    values = np.concatenate([metrics.THRESHOLDS, metrics.F_THRESHOLDS, [0, 1, -0.2, 1.2], rng.random(100)])
    return rng.choice(values, shape).astype(np.float32)


def blob(rng, shape=(20, 30), share=0.3):
    """Truth in which each pixel is foreground with the probability ``share``."""
    return rng.random(shape) < share
