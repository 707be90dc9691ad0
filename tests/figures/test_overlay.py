"""Overlays: what is inside is tinted, outlined and bright, the rest dimmed."""

import numpy as np

from taco.figures.overlay import overlay


def test_inside_outline_and_outside():
    image = np.full((60, 80, 3), 200, dtype=np.uint8)
    mask = np.zeros((60, 80), dtype=bool)
    mask[10:30, 20:50] = True
    found = overlay(image, mask)
    assert found.dtype == np.uint8 and found.shape == image.shape
    assert (found[9, 20:50] == 255).all() and (found[10:30, 19] == 255).all()
    assert (found[0, 0] < 200).all() and len(set(found[0, 0].tolist())) == 1
    inside = found[20, 30].astype(int)
    assert inside[2] > inside[0] + 30  # bluish
    assert (image == 200).all()


def test_an_empty_mask_dims_the_whole_and_a_full_one_has_no_line():
    image = np.full((5, 7, 3), 200, dtype=np.uint8)
    assert (overlay(image, np.zeros((5, 7), dtype=bool)) == 144).all()
    assert not (overlay(image, np.ones((5, 7), dtype=bool)) == 255).all(axis=-1).any()
