"""Objects of the miniature world: what is painted lies where `inside` says, at any time, and within its window."""

import numpy as np
import pytest

from taco.miniature import objects

SIZE = 124


@pytest.mark.parametrize("name", objects.CLASSES)
def test_what_is_painted_is_what_lies_inside(name):
    item = objects.sample_object(np.random.default_rng(0), name, True, objects.MAX_RADIUS, SIZE, True)
    x, y = np.meshgrid(*2 * [np.arange(SIZE, dtype=np.float32)])
    for time in (0.0, 3.5):
        window, coverage, colour = objects.paint(item, time, SIZE)
        painted = np.zeros((SIZE, SIZE), dtype=bool)
        painted[window] = coverage > 0.5
        assert np.array_equal(painted, objects.inside(item, x, y, time, SIZE))
        assert painted.any() and colour.shape == (*coverage.shape, 3)
        assert coverage.min() >= 0 and coverage.max() <= 1


@pytest.mark.parametrize("name", objects.CLASSES)
def test_pictures_are_in_single_precision_whatever_numpy_makes_of_numbers(name):
    item = objects.sample_object(np.random.default_rng(1), name, True, objects.MAX_RADIUS, SIZE, True)
    _, coverage, colour = objects.paint(item, 1.0, SIZE)
    assert coverage.dtype == colour.dtype == np.float32
    u, v = np.random.default_rng(2).uniform(-1, 1, (2, 8, 8)).astype(np.float32)
    assert objects._SHAPES[name](u, v).dtype == np.float32
