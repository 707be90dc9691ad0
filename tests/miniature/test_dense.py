"""Where dense tokens look, on a CLIP that is made by hand."""

import numpy as np
import pytest
import torch

from taco.miniature import dense


class Eye:
    """Tokens are the image's colours in squares of four pixels; names are red, green and blue."""

    image_size = 32
    logit_scale = 10.0

    def prepare(self, images):
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
        return pixels, [(32, 32)]

    def pyramid(self, pixels):
        return {"dense": torch.nn.functional.avg_pool2d(pixels, 4)}

    def tokens(self, found):
        return found.flatten(2).transpose(1, 2) / 10


def seen(inside, outside):
    image = np.full((32, 32, 3), outside, dtype=np.uint8)
    image[4:17, 8:24] = inside  # covers a quarter of the squares of its last row: neither in nor out
    mask = np.zeros((32, 32), dtype=bool)
    mask[4:17, 8:24] = True
    return dense.look(Eye(), image, mask, torch.eye(3), 0)


def test_an_object_that_alone_has_its_colour_is_found():
    found = seen((200, 0, 0), (0, 0, 100))
    assert found["cosine_auc"] == found["probability_auc"] == 1.0
    assert found["names_cosine"] == 0.0
    assert (found["tokens_inside"], found["tokens_outside"]) == pytest.approx((20.0, 10.0))
    assert (found["features_inside"], found["features_outside"]) == pytest.approx((200.0, 100.0))
    assert found["mean_inside"] == pytest.approx(1 / 3)


def test_one_colour_everywhere_is_chance():
    assert seen((200, 0, 0), (200, 0, 0))["cosine_auc"] == 0.5


def test_the_paragraph_has_the_means():
    found = dense.Localisation.of([seen((200, 0, 0), (0, 0, 100)), seen((0, 0, 100), (200, 0, 0))])
    assert found.cosine_auc == 0.5 and found.images == 2
    assert "with a chance of 0.50" in dense.paragraph(found) and "15" in dense.paragraph(found)
