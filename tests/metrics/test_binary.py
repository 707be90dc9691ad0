"""Binary metrics: counts on either side of each threshold, mask-IoU and F by hand, by definition, by other libraries."""

import numpy as np
import pytest
from maps import blob, soft_map
from sklearn.metrics import jaccard_score

from taco import metrics


def stack(rows, name):
    return np.stack([row[name] for row in rows])


# ---------------------------------------------------------------------------------------- thresholds


def test_thresholds_are_those_of_the_paper():
    assert metrics.THRESHOLDS.tolist() == [np.float32(f"0.{i:02d}") for i in range(5, 100, 5)]
    assert len(metrics.F_THRESHOLDS) == 255
    assert (metrics.F_THRESHOLDS[0], metrics.F_THRESHOLDS[-1]) == (0, 1)


def test_binary_row_counts_what_the_comparisons_say(rng):
    scores, truth = soft_map(rng), blob(rng)
    row = metrics.binary_row(scores, truth)
    above = scores[None] > metrics.THRESHOLDS[:, None, None]
    reached = scores[None] >= metrics.F_THRESHOLDS[:, None, None]
    assert (row["pixels"], row["positives"]) == (600, truth.sum())
    np.testing.assert_array_equal(row["tp"], (above & truth).sum((1, 2)))
    np.testing.assert_array_equal(row["fp"], (above & ~truth).sum((1, 2)))
    np.testing.assert_array_equal(row["f_tp"], (reached & truth).sum((1, 2)))
    np.testing.assert_array_equal(row["f_pp"], reached.sum((1, 2)))
    assert {row[name].dtype for name in ("tp", "fp", "f_tp", "f_pp")} == {np.dtype(np.int32)}


@pytest.mark.parametrize("index", [0, 1, 9, 18])
def test_a_pixel_on_the_threshold_is_not_above_it(index):
    exact = metrics.THRESHOLDS[index]
    for value, expected in [
        (exact, 0),
        (np.nextafter(exact, np.float32(2)), 1),
        (np.nextafter(exact, np.float32(0)), 0),
    ]:
        assert metrics.binary_row([[value]], [[1]])["tp"][index] == expected
    # float64 values are rounded to float32 first, whichever side of the threshold they come from
    assert metrics.binary_row(np.array([[float(exact) + 1e-12]]), [[1]])["tp"][index] == 0


@pytest.mark.parametrize("index", [0, 1, 127, 254])
def test_a_pixel_on_an_f_threshold_reaches_it(index):
    exact = metrics.F_THRESHOLDS[index]
    assert metrics.binary_row([[exact]], [[1]])["f_tp"][index] == 1
    assert metrics.binary_row([[np.nextafter(exact, np.float32(-1))]], [[1]])["f_tp"][index] == 0


def test_a_binary_mask_scores_the_same_at_every_threshold(rng):
    mask, truth = blob(rng), blob(rng)
    row = metrics.binary_row(mask, truth)
    assert set(row["tp"]) == {(mask & truth).sum()}
    assert set(row["fp"]) == {(mask & ~truth).sum()}
    assert set(row["f_pp"][1:]) == {mask.sum()}


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (np.zeros((4, 4)), np.zeros((4, 5)), "one non-empty shape"),
        (np.zeros((0, 4)), np.zeros((0, 4)), "one non-empty shape"),
        (np.zeros(4), np.zeros(4), "one non-empty shape"),
        (np.zeros((2, 2)), np.full((2, 2), 255), "0 and 1"),
    ],
)
def test_binary_row_refuses_a_pair_that_does_not_fit(scores, truth, message):
    with pytest.raises(ValueError, match=message):
        metrics.binary_row(scores, truth)


# ------------------------------------------------------------------------------------ mask-IoU and F


def test_mask_iou_by_hand():
    # 4 of 10 truth pixels found, 2 more marked: 4 / 12; perfect; empty truth with 3 of 20 marked: 17 / 20
    iou = metrics.mask_iou([100, 100, 20], [10, 5, 0], [[4], [5], [0]], [[2], [0], [3]])
    np.testing.assert_allclose(iou[:, 0], [4 / 12, 1, 17 / 20], rtol=1e-7)
    assert iou[1, 0] < 1  # the union's 1e-7


def test_mask_iou_is_the_jaccard_index_of_the_foreground(rng):
    scores, truth = soft_map(rng), blob(rng)
    row = metrics.binary_row(scores, truth)
    iou = metrics.mask_iou([row["pixels"]], [row["positives"]], row["tp"][None], row["fp"][None])[0]
    expected = [jaccard_score(truth.ravel(), (scores > t).ravel()) for t in metrics.THRESHOLDS]
    np.testing.assert_allclose(iou, expected, atol=1e-8)


def test_mask_iou_takes_the_best_threshold_of_the_mean_not_the_mean_of_the_best():
    # image 1 is perfect below 0.5, image 2 above it: together neither
    pixels, positives = [4, 4], [2, 2]
    tp = np.array([[2, 0], [2, 2]])
    fp = np.array([[0, 0], [2, 0]])
    value, index = metrics.best_mask_iou([(pixels, positives, tp, fp)])
    assert (round(value, 6), index) == (0.75, 0)


def test_an_empty_truth_counts_its_free_background_or_not_at_all():
    counts = [20, 20], [10, 0], [[4], [0]], [[2], [3]]
    iou = metrics.mask_iou(*counts)[:, 0]
    assert (
        metrics.best_mask_iou([counts])[0] == metrics.best_mask_iou([counts], "background")[0] == iou.mean()
    )
    assert metrics.best_mask_iou([counts], "skip")[0] == iou[0]
    with pytest.raises(ValueError, match="none of the images"):
        metrics.best_mask_iou([([20], [0], [[0]], [[3]])], "skip")
    with pytest.raises(ValueError, match="empty_truth must be one of"):
        metrics.best_mask_iou([counts], "zero")


def test_f_of_the_set_or_of_every_image(rng):
    rows = [metrics.binary_row(soft_map(rng), blob(rng)) for _ in range(6)]
    counts = [row["positives"] for row in rows], stack(rows, "f_tp"), stack(rows, "f_pp")
    curves = metrics.f_curves(*counts)
    value, index = metrics.best_f([counts])
    assert value == curves.mean(axis=0).max() == curves.mean(axis=0)[index]
    assert metrics.best_f([counts], "image") == (curves.max(axis=1).mean(), None)
    assert metrics.best_f([counts], "image")[0] >= value
    with pytest.raises(ValueError, match="aggregation must be one of"):
        metrics.best_f([counts], "batch")


def test_portions_are_as_the_whole_bit_for_bit(rng):
    curves = rng.random((2_003, 19))
    for size in (1, 7, 1_000):
        parts = (curves[start : start + size] for start in range(0, len(curves), size))
        np.testing.assert_array_equal(metrics.mean_curve(parts), curves.mean(axis=0))
    counts = [rng.integers(1, 9, 40), *rng.integers(0, 9, (2, 40, 255))]
    counts[0][::3] = 0
    parts = [[x[start : start + 6] for x in counts] for start in range(0, 40, 6)]
    for how in metrics.F_AGGREGATIONS:
        assert metrics.best_f(parts, how) == metrics.best_f([counts], how)
    counts = [np.full(40, 99), counts[0], *counts[1:]]
    parts = [[x[start : start + 6] for x in counts] for start in range(0, 40, 6)]
    for how in metrics.EMPTY_TRUTHS:
        assert metrics.best_mask_iou(parts, how) == metrics.best_mask_iou([counts], how)


def reference_f(maps, truths):
    """The definition spelt out: precision and recall, NaN → 0, mean over images with foreground, maximum."""
    curves = []
    for scores, truth in zip(maps, truths, strict=True):
        if not truth.any():
            continue
        curve = []
        for threshold in metrics.F_THRESHOLDS:
            marked = scores >= threshold
            with np.errstate(invalid="ignore", divide="ignore"):
                precision = np.float64((marked & truth).sum()) / marked.sum()
                recall = np.float64((marked & truth).sum()) / truth.sum()
                f = 1.3 * precision * recall / (0.3 * precision + recall)
            curve.append(np.nan_to_num(f))
        curves.append(curve)
    return np.mean(curves, axis=0).max()


def test_f_agrees_with_its_definition(rng):
    maps = [soft_map(rng) for _ in range(5)] + [np.zeros((20, 30), np.float32)]
    truths = [
        blob(rng),
        blob(rng, share=0.02),
        np.zeros((20, 30), bool),
        blob(rng),
        blob(rng, share=0.9),
        blob(rng),
    ]
    rows = [metrics.binary_row(m, t) for m, t in zip(maps, truths, strict=True)]
    value, _ = metrics.best_f(
        [([row["positives"] for row in rows], stack(rows, "f_tp"), stack(rows, "f_pp"))]
    )
    assert value == pytest.approx(reference_f(maps, truths), abs=1e-12)


def test_f_by_hand():
    # precision 1/2, recall 1/4, β² 0.3: 1.3 · 0.125 / (0.15 + 0.25)
    assert metrics.f_curves([4], [[1]], [[2]])[0, 0] == pytest.approx(1.3 * 0.125 / 0.4)


def test_f_is_undefined_without_any_foreground():
    row = metrics.binary_row(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="none of the images"):
        metrics.best_f([([row["positives"]], row["f_tp"][None], row["f_pp"][None])])
