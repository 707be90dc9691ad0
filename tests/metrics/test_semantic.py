"""Semantic metrics: both conventions by their definition and by another library."""

import numpy as np
import pytest

from taco import metrics


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
