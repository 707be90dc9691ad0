"""Precision of the frozen models against final maps, with trained weights: TF32 as a tensor core would round, on a CPU."""

import pytest
import torch
from models import configuration, random_fcclip, random_tower, shipped
from tf32 import TensorCore

from taco.method import rounding
from taco.method.features import Models

PROMPTS = 6


@pytest.fixture(scope="module")
def models() -> Models:
    return shipped(configuration("miniature"))


@pytest.fixture(scope="module")
def given(models):
    """Images of patches and texts' directions, and how maps are decoded."""
    g = torch.Generator().manual_seed(0)
    coarse = 255 * torch.rand(3, 3, 8, 8, generator=g)
    images = torch.nn.functional.interpolate(coarse, (124, 124), mode="nearest")
    prompts = models.clip.encode_text(
        [f"A photo of a {n}" for n in ("bell", "drum", "bird", "car", "dog", "harp")]
    )
    return images, models.clip, models.fcclip, prompts[None], ensemble_of(models.clip, models.fcclip)


def ensemble_of(tower, head):
    constants = head.constants()
    return {
        "void": constants["void_embedding"],
        "clip_scale": tower.logit_scale,
        "fcclip_scale": float(constants["fcclip_logit_scale"]),
        "alpha": 0.0,
        "beta": 1.0,
    }


def test_overlap_is_the_iou_of_maps_cut_at_half():
    plain, other = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    plain[0, 0, 0], other[0, 0, 0, 0] = 1, 1  # half of it
    plain[0, 1], other[0, 1] = 0.7, 0.9
    assert rounding.overlap(other, plain) == (pytest.approx((0.5 + 1 + 1) / 3), 0.5, 3)


def test_float32_agrees_with_itself(given):
    assert rounding.against_float32(*given) == (1.0, 1.0, 3 * PROMPTS)


def test_precisions_come_back_after_an_error(models):
    with pytest.raises(KeyError), rounding.computing_in(models.clip, models.fcclip, "float16", "tf32"):
        assert (models.clip.precision, models.fcclip.precision) == ("float16", "tf32")
        raise KeyError
    assert models.clip.precision == models.fcclip.precision == "float32"


def test_tf32_keeps_the_maps(given):
    plain = rounding.final_maps(*given)
    with TensorCore() as core:
        found = rounding.final_maps(*given)
    assert core.products > 100
    assert rounding.LEAST_IOU <= rounding.overlap(found, plain).mean < 1


@pytest.mark.slow
def test_tf32_keeps_the_maps_of_models_of_full_size():
    """As config/paper.yaml says; random weights."""
    config = configuration("paper")
    assert config["models"]["clip"]["precision"] == config["models"]["fcclip"]["precision"] == "tf32"
    tower = random_tower(config)
    head = random_fcclip(config, tower)
    g = torch.Generator().manual_seed(0)
    coarse = 255 * torch.rand(1, 3, 24, 24, generator=g)
    image = torch.nn.functional.interpolate(coarse, (764, 764), mode="bicubic").clamp(0, 255)
    words = torch.randn(1, PROMPTS, tower.model.text_projection.shape[-1], generator=g)
    given = image, tower, head, words, ensemble_of(tower, head)
    plain = rounding.final_maps(*given)
    with TensorCore() as core:
        found = rounding.final_maps(*given)
    assert core.products > 100
    assert rounding.overlap(found, plain).mean > 0.999


def test_float16_in_the_trunk_keeps_the_maps(given, models):
    plain = rounding.final_maps(*given)
    with rounding.computing_in(models.clip, models.fcclip, "float16", "float32"):
        assert rounding.LEAST_IOU <= rounding.overlap(rounding.final_maps(*given), plain).mean < 1


def test_a_tensor_core_drops_thirteen_bits():
    a = torch.tensor([[1 + 2**-10 + 2**-11 + 2**-13]])
    with TensorCore():
        assert (a @ torch.ones(1, 1)).item() == 1 + 2**-9  # to the nearest, as cuDNN and cuBLAS convert
        assert (a.double() @ torch.ones(1, 1, dtype=torch.float64)).item() == a.item()
