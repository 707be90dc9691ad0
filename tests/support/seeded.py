"""Weights and inputs of FC-CLIP at the paper's size that follow from their names alone, so that no file has to hold them."""

import math
import zlib

import numpy as np
import open_clip
import torch
from torch import nn

import taco.models.clip
import taco.models.fcclip
from taco.models.fcclip_weights import TOWER, from_official


def uniform(name, shape):
    """Numbers of mean 0 and deviation 1 that depend on the name alone."""
    values = np.random.default_rng(zlib.crc32(name.encode())).random(tuple(shape), dtype=np.float32)
    return torch.from_numpy(np.asarray((values - np.float32(0.5)) * np.float32(math.sqrt(12))))


def seeded(name, shape):
    """A tensor of a model from its official name, scaled so that signals keep their size through the layers."""
    values, kind = uniform(name, shape), name.rsplit(".", 1)[-1]
    if name.endswith("logit_scale"):
        return 4 + 0.1 * values
    if kind == "gamma":
        return 0.3 + 0.05 * values
    if "embed.weight" in name or "query_feat" in name or kind == "level_embed" or "void" in name:
        return values
    if len(shape) > 1:
        # Branches that join a residual stream weigh less than it, or all queries would end up alike.
        share = 0.3 if "out_proj" in name or "output_proj" in name or "linear2" in name else 1.0
        return share * values / math.sqrt(math.prod(shape[1:]))
    return 1 + 0.1 * values if kind == "weight" else 0.05 * values


def seeded_state(shapes):
    return {name: seeded(name, shape) for name, shape in shapes.items()}


def seeded_tower(stages=True):
    """The paper's CLIP without its text half; without its stages too, what follows them is left."""
    with torch.device("meta"):
        model = open_clip.create_model("convnext_large_d_320", pretrained=None, device="meta").eval()
    visual = model.visual
    parts = (
        [("visual", visual)]
        if stages
        else [("visual.trunk.head", visual.trunk.head), ("visual.head", visual.head)]
    )
    for place, part in parts:
        part.to_empty(device="cpu")
        part.load_state_dict(
            {key: seeded(f"{TOWER}{place}.{key}", value.shape) for key, value in part.state_dict().items()}
        )
    model.logit_scale = nn.Parameter(seeded(f"{TOWER}logit_scale", ()))
    clip = taco.models.clip.FrozenCLIP(model, None, 764)
    clip.device = torch.device("cpu")
    return clip


def seeded_pyramid(padded, channels):
    """Features of a padded image as they could come from a tower."""
    names = ["res2", "res3", "res4", "res5", "dense"]
    shapes = [
        (1, width, *(side // stride for side in padded)) for width, stride in zip(channels, (4, 8, 16, 32))
    ]
    return {
        name: uniform(f"features {name}", shape)
        for name, shape in zip(names, [*shapes, shapes[-1]], strict=True)
    }


def ours_like(state, architecture, clip):
    """Our FC-CLIP with an official state dict's tensors, every name mapped."""
    with torch.device("meta"):  # no drawing of weights that are replaced
        head = taco.models.fcclip.build(architecture, clip)
    head.load_state_dict(from_official(state), assign=True)
    return taco.models.fcclip.FCCLIP(head, clip)
