"""Pools of a class: quantised scores, IoU and average precision of all pixels together."""

import numpy as np
import pytest
from maps import blob, soft_map
from sklearn.metrics import average_precision_score, jaccard_score

from taco import metrics


def test_quantisation_covers_bicubic_overshoot():
    import torch

    # signs chosen to push one output value up (and, negated, down) as far as four weights by four can
    sign = np.array([0, 1, 1, 0], dtype=np.float32)
    up = 1 - np.abs(sign[:, None] - sign[None])
    extremes = []
    for tile in (up, 1 - up):
        resized = torch.nn.functional.interpolate(
            torch.from_numpy(tile)[None, None], size=(1201, 1201), mode="bicubic", align_corners=True
        )[0, 0].numpy()
        metrics.quantise(resized)
        extremes += [resized.min(), resized.max()]
    assert (
        max(extremes) > 1.4 and min(extremes) < -0.4
    )  # the map does reach the bound that the docstring states
    assert max(extremes) <= 1.446 and min(extremes) >= -0.446


def test_quantisation_keeps_order_and_refuses_what_it_cannot_hold(rng):
    scores = np.sort(rng.uniform(-0.5, 1.4999, 1000)).astype(np.float32)
    codes = metrics.quantise(scores)
    assert codes.dtype == np.uint16
    assert (np.diff(codes.astype(int)) >= 0).all()
    assert np.abs(metrics.dequantise(codes) - scores).max() <= 0.5 / metrics.BINS_PER_UNIT + 1e-7
    for value in (-0.51, 1.51):
        with pytest.raises(ValueError, match="min_max"):
            metrics.quantise([value])


def pool_of(maps, truths):
    pool = metrics.ScoreHistogram()
    for scores, truth in zip(maps, truths, strict=True):
        pool.update(scores, truth)
    return pool


def test_average_precision_is_scikit_learns(rng):
    maps = [soft_map(rng), rng.random((20, 30)).astype(np.float32), np.round(rng.random((20, 30)), 1)]
    truths = [blob(rng), blob(rng, share=0.05), blob(rng, share=0.6)]
    pool = pool_of(maps, truths)
    scores = metrics.dequantise(metrics.quantise(np.concatenate([m.ravel() for m in maps])))
    truth = np.concatenate([t.ravel() for t in truths])
    assert pool.average_precision() == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert pool.n_samples == 3


def test_pooled_iou_at_twenty_thresholds_of_the_pools_range(rng):
    maps, truths = [soft_map(rng), rng.random((20, 30))], [blob(rng), blob(rng)]
    pool = pool_of(maps, truths)
    codes = np.concatenate([metrics.quantise(m).ravel() for m in maps]).astype(int)
    truth = np.concatenate([t.ravel() for t in truths])
    low, high = codes.min(), codes.max()
    expected = [
        jaccard_score(truth, (codes - low) * 19 > i * (high - low), zero_division=0) for i in range(20)
    ]
    np.testing.assert_allclose(pool.iou_curve(), expected, atol=1e-12)
    assert pool.best_iou() == max(expected)
    assert pool.iou_curve()[-1] == 0  # nothing is strictly above the maximum


def test_pooled_iou_agrees_with_floating_thresholds_where_no_score_meets_one(rng):
    scores, truth = rng.random((40, 40)), blob(rng, (40, 40))
    kept = metrics.dequantise(metrics.quantise(scores))
    thresholds = np.linspace(kept.min(), kept.max(), 20)
    expected = [jaccard_score(truth.ravel(), (kept > t).ravel(), zero_division=0) for t in thresholds]
    np.testing.assert_allclose(pool_of([scores], [truth]).iou_curve(), expected, atol=1e-12)


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


def test_an_empty_pool_is_an_error():
    with pytest.raises(ValueError, match="no pixel"):
        metrics.ScoreHistogram().best_iou()


def test_histograms_merge_and_survive_their_row(rng):
    maps, truths = [soft_map(rng) for _ in range(4)], [blob(rng) for _ in range(4)]
    whole = pool_of(maps, truths)
    merged = metrics.ScoreHistogram.from_row(pool_of(maps[:1], truths[:1]).to_row())
    merged.merge(metrics.ScoreHistogram.from_row(pool_of(maps[1:], truths[1:]).to_row()))
    np.testing.assert_array_equal(merged.positives, whole.positives)
    np.testing.assert_array_equal(merged.negatives, whole.negatives)
    assert merged.n_samples == 4
