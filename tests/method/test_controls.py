"""Controls: what they mark, that the oracle bounds, that shuffled audio is never a clip's own sound."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from taco.method import controls


def iou(mask, truth):
    return (mask & truth).sum() / max((mask | truth).sum(), 1)


def test_whole_image_marks_everything():
    mask = controls.whole_image((3, 5))
    assert mask.dtype == bool and mask.shape == (3, 5) and mask.all()


# ------------------------------------------------------------------------------------------- random


def test_random_mask_is_a_rectangle_inside_the_image():
    for key in range(50):
        mask = controls.random_mask(0, f"s4/{key}", (40, 60))
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.any()
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert mask.sum() == len(rows) * len(columns)


def test_random_masks_area_is_uniform():
    shares = [controls.random_mask(0, f"s4/{key}", (100, 100)).mean() for key in range(800)]
    observed = np.histogram(shares, bins=[0, 0.25, 0.5, 0.75, 1.001])[0] / 800
    np.testing.assert_allclose(observed, 0.25, atol=0.06)  # four standard deviations


def test_random_mask_depends_on_seed_and_key_alone():
    first = controls.random_mask(1, "s4/a", (30, 30))
    controls.random_mask(1, "s4/b", (30, 30))
    assert np.array_equal(first, controls.random_mask(1, "s4/a", (30, 30)))
    assert not np.array_equal(first, controls.random_mask(2, "s4/a", (30, 30)))
    assert not np.array_equal(first, controls.random_mask(1, "s4/b", (30, 30)))


def test_random_class_draws_every_label():
    drawn = {controls.random_class(0, f"ade/{key}", 5, first_id=1) for key in range(200)}
    assert drawn == {1, 2, 3, 4, 5}


# ------------------------------------------------------------------------------------------- oracle


@pytest.mark.parametrize("seed", range(8))
def test_oracle_lies_between_the_best_proposal_and_the_best_union(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random((12, 12)) < 0.4
    noise = rng.random((6, 12, 12)) < 0.15
    parts = rng.random((6, 12, 12)) < 0.4
    masks = (truth & parts) | noise
    exhaustive = max(
        iou(masks[list(chosen)].any(0), truth) for n in range(1, 7) for chosen in combinations(range(6), n)
    )
    found = iou(controls.oracle_union(masks, truth), truth)
    assert max(iou(mask, truth) for mask in masks) <= found <= exhaustive


def test_oracle_puts_an_object_together_from_its_parts():
    truth = np.zeros((8, 8), bool)
    truth[2:6, 2:6] = True
    left, right, other = (np.zeros((8, 8), bool) for _ in range(3))
    left[2:6, 2:4] = right[2:6, 4:6] = other[0:2] = True
    assert np.array_equal(controls.oracle_union(np.stack([other, left, right]), truth), truth)


@pytest.mark.parametrize("case", ["empty truth", "no overlap", "no proposal"])
def test_oracle_marks_nothing_where_nothing_helps(case):
    truth = np.zeros((4, 4), bool)
    truth[0] = case != "empty truth"
    masks = np.zeros((0 if case == "no proposal" else 2, 4, 4), bool)
    masks[:, 3] = True
    assert not controls.oracle_union(masks, truth).any()


def test_oracle_refuses_masks_of_another_size():
    with pytest.raises(ValueError, match=r"\[Q, H, W\]"):
        controls.oracle_union(np.zeros((2, 4, 5), bool), np.zeros((4, 4), bool))


def test_oracle_class_is_the_truths_most_frequent_foreground():
    assert controls.oracle_class(np.array([[0, 0, 0], [2, 2, 5]])) == 2
    assert controls.oracle_class(np.zeros((2, 2), int)) == 0


# ----------------------------------------------------------------------------------- shuffled audio


@pytest.mark.parametrize("n", [2, 3, 40])
def test_derangement_gives_each_clip_another_and_uses_each_once(n):
    clips = [f"clip{i}" for i in range(n)]
    pairs = controls.derangement(clips, seed=3)
    assert set(pairs) == set(pairs.values()) == set(clips)
    assert all(clip != other for clip, other in pairs.items())


def test_derangement_is_fixed_by_the_seed_whatever_the_order():
    clips = [f"clip{i}" for i in range(20)]
    assert controls.derangement(clips, 0) == controls.derangement(clips[::-1], 0)
    assert controls.derangement(clips, 0) != controls.derangement(clips, 1)


def test_derangement_takes_another_class_where_it_can():
    classes = {f"clip{i}": [f"class{i % 4}"] for i in range(24)}
    pairs = controls.derangement(classes, 0, classes)
    assert all(classes[clip] != classes[other] for clip, other in pairs.items())
    # several sources: no shared source where a pairing without one exists
    sources = {"a": ["dog", "man"], "b": ["dog", "cat"], "c": ["piano", "gun"], "d": ["lion", "baby"]}
    for clip, other in controls.derangement(sources, 0, sources).items():
        assert not set(sources[clip]) & set(sources[other])


def test_derangement_never_falls_back_to_a_clips_own_sound():
    # three of four clips share a class: one pair must share it, none may keep its own sound
    classes = {"a": ["x"], "b": ["x"], "c": ["x"], "d": ["y"]}
    pairs = controls.derangement(classes, 0, classes)
    assert all(clip != other for clip, other in pairs.items())
    assert sum(classes[clip] == classes[other] for clip, other in pairs.items()) == 2


def test_one_clip_cannot_be_shuffled():
    with pytest.raises(ValueError, match="at least two clips"):
        controls.derangement(["only"], 0)
    with pytest.raises(ValueError, match="unique"):
        controls.derangement(["a", "a"], 0)


def test_shuffled_samples_follow_frames_and_keep_the_manifests_order():
    lengths = {"p": 3, "q": 2, "r": 3}
    manifest = pd.DataFrame(
        [
            {
                "sample_id": f"{clip}_{frame}",
                "clip_id": clip,
                "frame": frame,
                "classes": [clip] if frame else [],
            }
            for clip, n in lengths.items()
            for frame in range(n)
        ]
    )
    sounds = controls.shuffled_samples(manifest, seed=0)
    assert sounds.index.tolist() == manifest["sample_id"].tolist()
    partners = controls.derangement(lengths, 0, {clip: [clip] for clip in lengths})
    for sample, sound in sounds.items():
        clip, frame = sample.split("_")
        assert sound == f"{partners[clip]}_{int(frame) % lengths[partners[clip]]}"
    shuffled = manifest.sample(frac=1, random_state=1)
    assert controls.shuffled_samples(shuffled, seed=0).to_dict() == sounds.to_dict()
