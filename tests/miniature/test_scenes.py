"""Scenes of the miniature world: exact masks, motion, looks of the classes, and what captions name."""

import colorsys
import dataclasses

import numpy as np
import pytest

from taco.miniature import scenes, vocabulary

CLASSES = vocabulary.SOUNDING + vocabulary.SILENT


def rng(seed=0):
    return np.random.default_rng(seed)


def test_equal_seeds_give_equal_pictures():
    def draw(seed):
        scene = scenes.sample_scene(rng(seed), sounding=["bell", "drum"], silent=["kite"])
        return scenes.render(scene)

    (image, masks), (again, masks_again), (other, _) = draw(5), draw(5), draw(6)
    assert np.array_equal(image, again) and np.array_equal(masks, masks_again)
    assert not np.array_equal(image, other)


def test_shapes_types_and_disjoint_masks():
    scene = scenes.sample_scene(rng(7), sounding=["gong", "harp"], silent=["lamp", "bell"], size=124)
    image, masks = scenes.render(scene)
    assert image.shape == (124, 124, 3) and image.dtype == np.uint8
    assert masks.shape == (4, 124, 124) and masks.dtype == bool
    assert masks.sum(0).max() == 1
    assert {o.name for o in scene.objects if o.sounding} == {"gong", "harp"}


def test_objects_stay_visible_in_moving_scenes():
    for seed in range(12):
        draw = rng(seed)
        names = [CLASSES[i] for i in draw.permutation(18)[:4]]
        scene = scenes.sample_scene(draw, sounding=names[:2], silent=names[2:], moving=True)
        for time in (0.5, 4.5, 9.5):
            _, masks = scenes.render(scene, time)
            for item, mask in zip(scene.objects, masks, strict=True):
                alone = scenes.render(dataclasses.replace(scene, objects=(item,)), time)[1][0]
                assert mask.sum() >= scenes.MIN_VISIBLE * alone.sum()


def test_objects_move_smoothly():
    scene = scenes.sample_scene(rng(8), sounding=["mower"], moving=True)
    centres = [np.argwhere(scenes.render(scene, t)[1][0]).mean(0) for t in np.arange(0.5, 9.5)]
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert steps.max() < 16 and steps.sum() > 16


def test_a_still_does_not_move():
    scene = scenes.sample_scene(rng(9), sounding=["mower"])
    assert np.array_equal(scenes.render(scene, 0.0)[1], scenes.render(scene, 3.0)[1])


@pytest.mark.parametrize("name", CLASSES)
def test_the_mask_holds_the_class_hue(name):
    """Inside the mask the class's own hue prevails: the mask lies where the object is drawn."""
    scene = scenes.sample_scene(rng(10), sounding=[name])
    image, masks = scenes.render(scene)
    hue = colorsys.rgb_to_hsv(*scene.objects[0].base)[0]
    inside = np.array([colorsys.rgb_to_hsv(*p) for p in image[masks[0]] / 255])
    gap = np.abs((inside[:, 0] - hue + 0.5) % 1 - 0.5)
    assert np.mean(gap[inside[:, 1] > 0.3] < 0.06) > 0.75
    assert 0.05 < masks[0].mean() < 0.3


def test_bad_requests():
    with pytest.raises(ValueError, match="distinct classes"):
        scenes.sample_scene(rng(), sounding=["bell", "bell"])
    with pytest.raises(ValueError, match="unicorn"):
        scenes.sample_scene(rng(), sounding=["unicorn"])
    with pytest.raises(ValueError, match="found no place"):
        scenes.sample_scene(rng(), sounding=CLASSES)


# ---------------------------------------------------------------- captions


def test_every_word_is_known():
    known, draw = set(vocabulary.vocabulary()), rng(1)
    for _ in range(150):
        names = [CLASSES[i] for i in draw.permutation(18)[: draw.integers(1, 4)]]
        caption = scenes.describe(draw, scenes.sample_scene(draw, sounding=names))
        assert set(vocabulary.words(caption)) <= known


def test_image_caption_names_only_what_is_there():
    draw = rng(2)
    scene = scenes.sample_scene(draw, sounding=["bell"], silent=["vase"])
    allowed = {"bell", "vase", *vocabulary.SYNONYMS["bell"], *vocabulary.SYNONYMS["vase"]}
    allowed |= set(vocabulary.FAMILY_WORDS["struck metal"])
    others = set(vocabulary.general_bank()) - allowed
    others = {phrase for phrase in others if not any(phrase in good for good in allowed)}
    for _ in range(200):
        caption = f" {scenes.describe(draw, scene)} "
        assert not [phrase for phrase in others if f" {phrase} " in caption], caption


def test_nothing_to_describe():
    with pytest.raises(ValueError, match="empty"):
        scenes.describe(rng(), scenes.Scene("sky", (), 124, 0))
