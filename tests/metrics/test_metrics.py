"""Each convention of the paper's metrics: by hand, by its definition spelt out, by other libraries."""

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, jaccard_score

from taco import metrics

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def soft_map(rng, shape=(20, 30)):
    """A map with many exact threshold values, ties, zeros and ones, and overshoot."""
    values = np.concatenate([metrics.THRESHOLDS, metrics.F_THRESHOLDS, [0, 1, -0.2, 1.2], rng.random(100)])
    return rng.choice(values, shape).astype(np.float32)


def blob(rng, shape=(20, 30), share=0.3):
    return rng.random(shape) < share


def stack(rows, name):
    return np.stack([row[name] for row in rows])


def test_doctests():
    parts = [doctest.testmod(getattr(metrics, name)) for name in ("rows", "binary", "pooled", "semantic")]
    assert sum(part.attempted for part in parts) >= 15
    assert sum(part.failed for part in parts) == 0


DOCUMENTED = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / "taco").rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8") and "import torch" not in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_in_docstrings_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


# ------------------------------------------------------------------------------------------- min_max


def test_min_max_stretches_to_0_and_1(rng):
    out = metrics.min_max(rng.normal(5, 3, (8, 9)))
    assert out.dtype == np.float32
    assert (out.min(), out.max()) == (0, 1)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_min_max_of_a_constant_map_is_zero(value):
    assert not metrics.min_max(np.full((4, 5), value)).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("score", [metrics.min_max, metrics.quantise, lambda m: metrics.binary_row(m, m > 2)])
def test_a_map_with_nan_is_refused(score, bad):
    with pytest.raises(ValueError, match="finite"):
        score(np.array([[0.0, bad]]))


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
    value, index = metrics.best_mask_iou(pixels, positives, tp, fp)
    assert (round(value, 6), index) == (0.75, 0)


def test_an_empty_truth_counts_its_free_background_or_not_at_all():
    counts = [20, 20], [10, 0], [[4], [0]], [[2], [3]]
    iou = metrics.mask_iou(*counts)[:, 0]
    assert metrics.best_mask_iou(*counts)[0] == metrics.best_mask_iou(*counts, "background")[0] == iou.mean()
    assert metrics.best_mask_iou(*counts, "skip")[0] == iou[0]
    with pytest.raises(ValueError, match="none of the images"):
        metrics.best_mask_iou([20], [0], [[0]], [[3]], "skip")
    with pytest.raises(ValueError, match="empty_truth must be one of"):
        metrics.best_mask_iou(*counts, "zero")


def test_f_of_the_set_or_of_every_image(rng):
    rows = [metrics.binary_row(soft_map(rng), blob(rng)) for _ in range(6)]
    counts = [row["positives"] for row in rows], stack(rows, "f_tp"), stack(rows, "f_pp")
    curves = metrics.f_curves(*counts)
    value, index = metrics.best_f(*counts)
    assert value == curves.mean(axis=0).max() == curves.mean(axis=0)[index]
    assert metrics.best_f(*counts, "image") == (curves.max(axis=1).mean(), None)
    assert metrics.best_f(*counts, "image")[0] >= value
    with pytest.raises(ValueError, match="aggregation must be one of"):
        metrics.best_f(*counts, "batch")


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
    value, _ = metrics.best_f([row["positives"] for row in rows], stack(rows, "f_tp"), stack(rows, "f_pp"))
    assert value == pytest.approx(reference_f(maps, truths), abs=1e-12)


def test_f_by_hand():
    # precision 1/2, recall 1/4, β² 0.3: 1.3 · 0.125 / (0.15 + 0.25)
    assert metrics.f_curves([4], [[1]], [[2]])[0, 0] == pytest.approx(1.3 * 0.125 / 0.4)


def test_f_is_undefined_without_any_foreground():
    row = metrics.binary_row(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="none of the images"):
        metrics.best_f([row["positives"]], row["f_tp"][None], row["f_pp"][None])


# --------------------------------------------------------------------------------- pools of a class


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


# ------------------------------------------------------------------------------------------ semantic


def reference_semantic(predictions, truths, ids):
    """Class by class, image by image, as method.md words it."""
    class_iou, class_f = [], []
    for c in ids:
        ious, fs = [], []
        for prediction, truth in zip(predictions, truths, strict=True):
            inter = ((prediction == c) & (truth == c)).sum()
            union = ((prediction == c) | (truth == c)).sum()
            if not union:
                continue
            ious.append(inter / union)
            with np.errstate(invalid="ignore", divide="ignore"):
                precision, recall = (
                    inter / np.float64((prediction == c).sum()),
                    inter / np.float64((truth == c).sum()),
                )
                fs.append(np.nan_to_num(1.3 * precision * recall / (0.3 * precision + recall)))
        if ious:
            class_iou.append(np.mean(ious))
            class_f.append(np.mean(fs))
    return np.mean(class_iou), np.mean(class_f)


@pytest.mark.parametrize(
    ("first_id", "convention"), [(0, "paper"), (0, "corrected"), (1, "paper"), (1, "corrected")]
)
def test_semantic_scores_agree_with_their_definition(rng, first_id, convention):
    n_labels = 6
    size = first_id + n_labels
    # few classes per image, one class never seen, the last class present
    pairs = [rng.choice([0, 2, 3, size - 1], (2, 12, 10), p=[0.5, 0.2, 0.2, 0.1]) for _ in range(6)]
    rows = [metrics.semantic_row(p, t, n_labels, first_id) for p, t in pairs]
    counted = metrics.convention_ids(convention, n_labels, first_id)
    lists = [
        np.concatenate([row[n] for row in rows]) for n in ("class_ids", "intersection", "predicted", "truth")
    ]
    scores = metrics.semantic_scores(*lists, counted)
    expected = reference_semantic(*zip(*pairs, strict=True), counted)
    assert (scores["mIoU"], scores["F"]) == pytest.approx(expected, abs=1e-12)


def test_paper_convention_loses_the_last_class_and_counts_background():
    # ADE with two classes: the image is class 2 and found perfectly, over a wrong speck of class 1
    truth = np.array([[0, 0, 2, 2]])
    prediction = np.array([[0, 1, 2, 2]])
    row = metrics.semantic_row(prediction, truth, n_labels=2, first_id=1)
    lists = [row[name] for name in ("class_ids", "intersection", "predicted", "truth")]
    paper = metrics.semantic_scores(*lists, metrics.convention_ids("paper", 2, 1))
    corrected = metrics.semantic_scores(*lists, metrics.convention_ids("corrected", 2, 1))
    assert (paper["class_ids"].tolist(), paper["class_iou"].tolist()) == ([0, 1], [0.5, 0])
    assert (corrected["class_ids"].tolist(), corrected["class_iou"].tolist()) == ([1, 2], [0, 1])
    assert metrics.image_miou(*lists, metrics.convention_ids("corrected", 2, 1)) == 0.5


def test_class_iou_agrees_with_torchmetrics_on_one_image(rng):
    import torch
    from torchmetrics import functional

    prediction, truth = rng.integers(0, 5, (2, 30, 30))
    row = metrics.semantic_row(prediction, truth, n_labels=5)
    lists = [row[name] for name in ("class_ids", "intersection", "predicted", "truth")]
    ours = metrics.semantic_scores(*lists, range(5))
    theirs = functional.jaccard_index(
        torch.from_numpy(prediction), torch.from_numpy(truth), task="multiclass", num_classes=5, average=None
    )
    np.testing.assert_allclose(ours["class_iou"], theirs.numpy(), rtol=1e-6)
    f = functional.fbeta_score(
        torch.from_numpy(prediction),
        torch.from_numpy(truth),
        task="multiclass",
        num_classes=5,
        average=None,
        beta=0.3**0.5,
    )
    np.testing.assert_allclose(ours["class_f"], f.numpy(), rtol=1e-6)


def test_image_miou_of_nothing_where_nothing_was_to_be_found():
    row = metrics.semantic_row(np.zeros((2, 2), int), np.zeros((2, 2), int), n_labels=3, first_id=1)
    lists = [row[name] for name in ("class_ids", "intersection", "predicted", "truth")]
    assert metrics.image_miou(*lists, range(1, 4)) == 1
    with pytest.raises(ValueError, match="no class"):
        metrics.semantic_scores(*lists, range(1, 4))


@pytest.mark.parametrize("bad", [-1, 4])
@pytest.mark.parametrize("which", ["prediction", "truth"])
def test_an_id_outside_the_labels_is_refused(bad, which):
    images = {"prediction": np.ones((2, 2), int), "truth": np.ones((2, 2), int)}
    images[which][0, 0] = bad
    with pytest.raises(ValueError, match=f"{which}: ids must lie in 0 … 3, found"):
        metrics.semantic_row(**images, n_labels=3, first_id=1)


def test_an_unknown_convention_is_refused():
    with pytest.raises(ValueError, match="paper"):
        metrics.convention_ids("official", 3, 0)
