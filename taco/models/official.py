"""Write `taco.models.keys` lists of the three official weight files: ``python -m taco.models.official``.

The models are built by their libraries, without weights, and their tensors listed under the names that the official
files use: open_clip's and msclap's own, and FC-CLIP's by the mapping of `taco.models.fcclip_weights`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import open_clip
import torch

from taco.models import clap, fcclip, keys
from taco.models.clip import FrozenCLIP
from taco.models.fcclip_weights import NOT_OURS, OFFICIAL_NAMES, our_names

CLIP, CLAP, FCCLIP = "open_clip_pytorch_model.bin", "CLAP_weights_2023.pth", "fcclip_cocopan.pth"
ARCHITECTURES = {
    CLIP: "convnext_large_d_320",
    CLAP: "config/models/clap_2023.json",
    FCCLIP: "config/models/fcclip_cocopan.json",
}
TITLES = {
    CLIP: "open_clip convnext_large_d_320, laion2b_s29b_b131k_ft_soup",
    CLAP: "msclap 2023, with what older versions of transformers saved of GPT-2",
    FCCLIP: "FC-CLIP ConvNeXt-L, COCO panoptic, outside CLIP and the training's criterion",
}


def shapes_of(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's tensors."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@cache
def _tower() -> open_clip.CLIP:
    """The full-size CLIP on the meta device, so that nothing is drawn."""
    return open_clip.create_model(ARCHITECTURES[CLIP], pretrained=None, device="meta")


def clip_shapes() -> dict[str, tuple[int, ...]]:
    """Those of the full-size CLIP."""
    return shapes_of(_tower())


def clap_shapes() -> dict[str, tuple[int, ...]]:
    """Those of the full-size CLAP."""
    return shapes_of(clap.build(ARCHITECTURES[CLAP]))


def fcclip_shapes() -> dict[str, tuple[int, ...]]:
    """Those of the full-size FC-CLIP head under the official names."""
    with torch.device("meta"):
        head = fcclip.build(ARCHITECTURES[FCCLIP], FrozenCLIP(_tower(), None, 764))
    return official_fcclip(shapes_of(head))


def official_fcclip(ours: keys.Shapes) -> dict[str, tuple[int, ...]]:
    """Official names and shapes of a head's tensors; three that lie in one there become one again."""
    shapes = {}
    for name in ours:
        official = next(key for key in _candidates(name) if name in our_names(key))
        parts = [ours[part] for part in our_names(official)]
        shapes[official] = (sum(part[0] for part in parts), *parts[0][1:]) if parts[0] else ()
    return shapes


def _candidates(name: str) -> Iterator[str]:
    """Official names that may stand for one of ours."""
    name = re.sub(r"(transformer\..*\.self_attn\.)[qkv]_proj\.(weight|bias)", r"\1in_proj_\2", name)
    for official, prefix in OFFICIAL_NAMES.items():
        if found := re.match(re.escape(prefix).replace(r"\{i\}", r"(\d+)"), name):
            head = official.replace("{i}", found[1]) if found.groups() else official
            yield head + name[found.end() :]


def write_all(folder: str | Path = keys.FOLDER) -> None:
    """Write the three lists."""
    constants = json.loads(Path(ARCHITECTURES[CLAP]).read_text())["constant_buffers"]
    made: Iterable = (
        (CLIP, clip_shapes(), []),
        (CLAP, clap_shapes(), constants),
        (FCCLIP, fcclip_shapes(), [f"{prefix}*" for prefix in NOT_OURS]),
    )
    for name, shapes, optional in made:
        keys.write(keys.list_of(name, folder), shapes, optional, f"{TITLES[name]}: {len(shapes)} tensors.")


if __name__ == "__main__":
    write_all()
