"""Precision of products is that of a block alone, whatever happens in it."""

import pytest
import torch

from taco.models import clip, fcclip
from taco.models.precision import PRECISIONS, products

CPU = torch.device("cpu")
BACKENDS = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)


def now():
    return [backend.fp32_precision for backend in BACKENDS]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_process_keeps_its_precision(precision):
    before = now()
    with pytest.raises(KeyError), products(precision, CPU):
        assert (now() == ["tf32", "tf32"]) == (precision == "tf32")
        assert torch.is_autocast_enabled("cpu") == (precision in ("float16", "bfloat16"))
        raise KeyError
    assert now() == before and not torch.is_autocast_enabled("cpu")


def test_tf32_is_float32_on_a_cpu():
    a, b = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0))
    with products("tf32", CPU):
        found = a @ b
    assert torch.equal(found, a @ b)


def test_an_unknown_precision_is_named():
    tower = clip.build("config/models/miniature_clip.json")
    with pytest.raises(ValueError, match="expected one of float32, tf32, float16, bfloat16, found 'half'"):
        clip.FrozenCLIP(tower, None, 124, "half")
    frozen = clip.FrozenCLIP(tower, None, 124, "tf32")
    head = fcclip.build("config/models/miniature_fcclip.json", frozen)
    with pytest.raises(ValueError, match="expected one of float32, tf32, found 'float16'"):
        fcclip.FCCLIP(head, frozen, "float16")
