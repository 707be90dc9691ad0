"""Backgrounds of the miniature world."""

import numpy as np
import pytest

from taco.miniature import backgrounds


@pytest.mark.parametrize("name", backgrounds.NAMES)
def test_a_background_is_drawn_from_its_stream_alone(name):
    first, again, other = (backgrounds.paint(np.random.default_rng(seed), name, 124) for seed in (0, 0, 1))
    assert first.shape == (124, 124, 3) and first.dtype == np.float32
    assert 0 <= first.min() < first.max() <= 1
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_light_is_a_gain_near_one():
    gain = np.stack([backgrounds.light(np.random.default_rng(seed), 32) for seed in range(20)])
    assert gain.shape == (20, 32, 32, 3)
    assert gain.min() > 0.5 and gain.max() < 1.5
