"""Ways to run the frozen models: every way has a row, and what is compared is the same. Nothing here asserts a time."""

import pytest
import torch
from models import configuration, shipped

from taco.bench import frozen
from taco.method import features


@pytest.fixture(scope="module")
def models():
    return shipped(configuration("miniature"))


@pytest.fixture(scope="module")
def images():
    return 255 * torch.rand(2, 3, 124, 124, generator=torch.Generator().manual_seed(0))


def test_every_way_has_a_row_and_precisions_come_back(models, images, monkeypatch):
    for name, value in {
        "BATCHES": (1, 2),
        "SOUNDS": (1, 2),
        "REPEATS": 1,
        "TRUNK": ("float32", "tf32"),
    }.items():
        monkeypatch.setattr(frozen, name, value)
    waves = torch.rand(1, models.clap.window) - 0.5
    found = frozen.ways(models, images, waves, lambda _: None)
    parts = {way.part for way in found}
    assert {"CLIP trunk", "proposals", "head", "trunk and proposals", "CLAP"} <= parts
    assert "pixel_decoder.mask_projection" in parts  # each convolution of the head
    assert models.clip.precision == models.fcclip.precision == "float32"
    for way in found:
        assert way.ms > 0 and way.ratio > 0
        # TF32 is float32 on a CPU: no way differs but for float16.
        if "float16" not in way.way:
            assert way.error in (None, 0) and way.iou in (None, 1)


def test_plain_proposals_are_those_of_the_pipeline(models, images):
    with torch.no_grad():
        pyramid = models.clip.pyramid(models.clip.frame(images))
        plain = frozen.plain_proposals(models, pyramid)
        found = features.Leaving(features.propose(pyramid, models)).columns()["masks"]
    assert (plain == found).all()
