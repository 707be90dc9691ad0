"""Miniature models with random weights, and a tokenizer."""

import numpy as np
import pytest
import torch
from models import shake

import taco.models.clip
import taco.models.fcclip
from taco.miniature.training import write_tokenizer

CLIP = "config/models/miniature_clip.json"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tokenizer):
    model = shake(taco.models.clip.build(CLIP), 0.09)
    return taco.models.clip.FrozenCLIP(model, taco.models.clip.load_tokenizer(CLIP, tokenizer), 124)


@pytest.fixture(scope="module")
def fcclip(clip):
    torch.manual_seed(0)
    head = shake(taco.models.fcclip.build("config/models/miniature_fcclip.json", clip), 0.09, seed=1)
    return taco.models.fcclip.FCCLIP(head, clip)


@pytest.fixture(scope="module")
def pyramid(clip):
    images = [
        np.random.default_rng(i).integers(0, 256, (50 + 40 * i, 90, 3), dtype=np.uint8) for i in range(3)
    ]
    pixels, sizes = clip.prepare(images)
    return clip.pyramid(pixels), sizes
