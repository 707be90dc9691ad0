"""Pixels pooled by class: average precision and IoU of all of them, by other libraries, and exact for float32 scores."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, jaccard_score

from taco import metrics
from taco.metrics.pooled import POOLED_THRESHOLDS


def smooth_map(rng, side=40):
    """A map whose scores crowd together, as those of real maps do: most differ by far less than 2^-15."""
    x = np.linspace(0, 1, side)
    bump = np.exp(-8 * ((x[:, None] - rng.random()) ** 2 + (x - rng.random()) ** 2))
    return (bump**4 + 1e-6 * rng.standard_normal((side, side))).astype(np.float32)


def tied_map(rng, side=40):
    """A map with many equal scores, zeros and ones, and overshoot."""
    return rng.choice([0, 0.05, 0.3, 0.5, 1, -0.2, 1.2], (side, side)).astype(np.float32)


def truth_of(rng, share=0.3, side=40):
    return rng.random((side, side)) < share


def pool_of(maps, truths):
    pool = metrics.ScorePool()
    for scores, truth in zip(maps, truths, strict=True):
        pool.update(scores, truth)
    return pool


def flat(arrays):
    return np.concatenate([np.asarray(array).ravel() for array in arrays])


@pytest.mark.parametrize("draw", [smooth_map, tied_map])
@pytest.mark.parametrize("share", [0.002, 0.3, 0.9])
def test_average_precision_is_scikit_learns_on_all_pixels(rng, draw, share):
    maps, truths = [draw(rng) for _ in range(3)], [truth_of(rng, share) for _ in range(3)]
    expected = average_precision_score(flat(truths), flat(maps))
    pool = pool_of(maps, truths)
    assert pool.average_precision() == pytest.approx(expected, abs=1e-12)
    assert (pool.n_samples, pool.n_pixels) == (3, 4800)


def test_scores_that_differ_in_the_last_bit_are_told_apart():
    """Codes of any fixed step would tie them: here the positive is above every negative by one part in 2^24."""
    scores = np.full((4, 4), 0.7, dtype=np.float32)
    scores[0, 0] = np.nextafter(scores[0, 0], np.float32(1))
    truth = np.zeros((4, 4), bool)
    truth[0, 0] = True
    assert pool_of([scores], [truth]).average_precision() == 1


@pytest.mark.parametrize("draw", [smooth_map, tied_map])
def test_pooled_iou_at_twenty_thresholds_of_the_pools_range(rng, draw):
    maps, truths = [draw(rng), draw(rng)], [truth_of(rng), truth_of(rng)]
    pool, scores, truth = pool_of(maps, truths), flat(maps), flat(truths)
    thresholds = np.linspace(scores.min(), scores.max(), POOLED_THRESHOLDS).astype(np.float32)
    expected = [jaccard_score(truth, scores > threshold, zero_division=0) for threshold in thresholds]
    np.testing.assert_allclose(pool.iou_curve(), expected, atol=1e-12)
    assert pool.best_iou() == max(expected)
    assert pool.iou_curve()[-1] == 0  # nothing is strictly above the maximum


@pytest.mark.parametrize(("value", "iou"), [(1.0, 0.25), (0.0, 0.0)])
def test_a_pool_of_one_value_counts_as_marked_or_not(value, iou):
    truth = np.zeros((4, 4), bool)
    truth[0] = True
    pool = pool_of([np.full((4, 4), value)], [truth])
    assert pool.best_iou() == iou
    assert pool.average_precision() == 0.25


def test_a_pool_without_positives_scores_zero():
    pool = pool_of([np.eye(3)], [np.zeros((3, 3), bool)])
    assert (pool.average_precision(), pool.best_iou()) == (0, 0)


def test_a_pool_of_positives_alone_scores_one():
    pool = pool_of([np.eye(3)], [np.ones((3, 3), bool)])
    assert pool.average_precision() == 1


def test_an_empty_pool_is_an_error():
    with pytest.raises(ValueError, match="no pixel"):
        metrics.ScorePool().best_iou()


def test_pools_merge_and_survive_their_row_bit_for_bit(rng):
    maps, truths = [tied_map(rng), *(smooth_map(rng) for _ in range(3))], [truth_of(rng) for _ in range(4)]
    whole = pool_of(maps, truths)
    merged = metrics.ScorePool.from_row(pool_of(maps[:1], truths[:1]).to_row())
    merged.merge(metrics.ScorePool.from_row(pool_of(maps[1:], truths[1:]).to_row()))
    for found, expected in zip(merged.sorted_scores(), whole.sorted_scores(), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
    assert (merged.n_samples, merged.n_pixels) == (4, whole.n_pixels)
    assert merged.average_precision() == whole.average_precision() and merged.best_iou() == whole.best_iou()


def test_a_pool_goes_on_after_it_was_asked(rng):
    maps, truths = [smooth_map(rng) for _ in range(3)], [truth_of(rng) for _ in range(3)]
    pool = metrics.ScorePool()
    for number, (scores, truth) in enumerate(zip(maps, truths, strict=True), start=1):
        pool.update(scores, truth)
        assert pool.average_precision() == pool_of(maps[:number], truths[:number]).average_precision()


def test_whole_numbers_keep_the_order_and_every_bit_of_scores(rng):
    special = [0, 1e-45, 1e-38, 1, np.nextafter(np.float32(1), np.float32(2)), 3.4e38]
    scores = np.sort(np.float32([*special, *np.negative(special[1:]), *rng.normal(0, 1, 100)]))
    numbers = metrics.ordered(scores)
    assert numbers.dtype == np.int32
    assert (np.diff(numbers.astype(np.int64)) > 0).all()
    np.testing.assert_array_equal(metrics.from_ordered(numbers), scores)
    assert metrics.from_ordered(metrics.ordered([-0.0])).view(np.int32) == np.float32(-0.0).view(np.int32)
