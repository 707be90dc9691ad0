"""Columns of rows, and the stretch that all maps share."""

import numpy as np
import pytest

from taco import metrics


def test_min_max_stretches_to_0_and_1(rng):
    out = metrics.min_max(rng.normal(5, 3, (8, 9)))
    assert out.dtype == np.float32
    assert (out.min(), out.max()) == (0, 1)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_min_max_of_a_constant_map_is_zero(value):
    assert not metrics.min_max(np.full((4, 5), value)).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("score", [metrics.min_max, metrics.ordered, lambda m: metrics.binary_row(m, m > 2)])
def test_a_map_with_nan_is_refused(score, bad):
    with pytest.raises(ValueError, match="finite"):
        score(np.array([[0.0, bad]]))
