"""FC-CLIP's weight files: the official checkpoint's names and ours, and a file read as exactly one head."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from taco.models.weights import WeightsError, check_state, load_weights, read_state

# Official name -> ours, by the longest matching prefix; `{i}` stands for a layer's number.
_PIXEL, _DECODER = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
_LAYER = "transformer.decoder.layers.{i}."
OFFICIAL_NAMES = {
    "void_embedding.": "void_embedding.",
    _PIXEL + "input_proj.": "pixel_decoder.input_projections.",
    _PIXEL + "transformer.level_embed": "pixel_decoder.level_embed",
    _PIXEL + "transformer.encoder.layers.{i}.self_attn.": "pixel_decoder.encoder.layers.{i}.self_attn.",
    _PIXEL
    + "transformer.encoder.layers.{i}.norm1.": "pixel_decoder.encoder.layers.{i}.self_attn_layer_norm.",
    _PIXEL + "transformer.encoder.layers.{i}.norm2.": "pixel_decoder.encoder.layers.{i}.final_layer_norm.",
    _PIXEL + "transformer.encoder.layers.{i}.linear1.": "pixel_decoder.encoder.layers.{i}.fc1.",
    _PIXEL + "transformer.encoder.layers.{i}.linear2.": "pixel_decoder.encoder.layers.{i}.fc2.",
    _PIXEL + "mask_features.": "pixel_decoder.mask_projection.",
    _PIXEL + "adapter_1.norm.": "pixel_decoder.adapter_1.1.",
    _PIXEL + "adapter_1.": "pixel_decoder.adapter_1.0.",
    _PIXEL + "layer_1.norm.": "pixel_decoder.layer_1.1.",
    _PIXEL + "layer_1.": "pixel_decoder.layer_1.0.",
    _DECODER + "transformer_self_attention_layers.{i}.self_attn.": _LAYER + "self_attn.",
    _DECODER + "transformer_self_attention_layers.{i}.norm.": _LAYER + "self_attn_layer_norm.",
    _DECODER + "transformer_cross_attention_layers.{i}.multihead_attn.": _LAYER + "cross_attn.",
    _DECODER + "transformer_cross_attention_layers.{i}.norm.": _LAYER + "cross_attn_layer_norm.",
    _DECODER + "transformer_ffn_layers.{i}.linear1.": _LAYER + "fc1.",
    _DECODER + "transformer_ffn_layers.{i}.linear2.": _LAYER + "fc2.",
    _DECODER + "transformer_ffn_layers.{i}.norm.": _LAYER + "final_layer_norm.",
    _DECODER + "decoder_norm.": "transformer.decoder.layernorm.",
    _DECODER + "query_feat.": "transformer.queries_features.",
    _DECODER + "query_embed.": "transformer.queries_embedder.",
    _DECODER + "level_embed.": "transformer.level_embed.",
    _DECODER + "mask_embed.layers.{i}.": "transformer.decoder.mask_predictor.mask_embedder.{i}.0.",
    _DECODER + "_mask_pooling_proj.": "mask_pooling_proj.",
    _DECODER + "class_embed.layers.{i}.": "class_embed.{i}.0.",
    _DECODER + "logit_scale": "logit_scale",
}
TOWER = "backbone.clip_model."
NOT_OURS = (TOWER, "criterion.")


def read_head(
    path: str | Path, expected: Mapping[str, Tensor], tower: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Read the head's tensors under our names.

    Parameters
    ----------
    path : str or Path
        A safetensors file with our names, or the official ``.pth``.
    expected : mapping
        The head's own state dict.
    tower : mapping
        State dict of the CLIP on which the head will stand, see `check_tower`.

    Raises
    ------
    taco.models.weights.WeightsError
        When a tensor is missing, unknown or of another shape, or belongs to another tower.
    """
    if Path(path).suffix == ".safetensors":
        return load_weights(path, expected)
    official = read_state(path)
    check_tower(path, official, tower)
    try:
        state = from_official(official)
    except KeyError as error:
        raise WeightsError(f"{path}: {error.args[0]}") from None
    check_state(path, state, expected)
    return state


def check_tower(path: str | Path, official: Mapping[str, Tensor], tower: Mapping[str, Tensor]) -> None:
    """Raise `WeightsError` where a checkpoint holds another CLIP's image tower than the one it is to stand on.

    The released file seems to hold none; one saved with its tower tells whether the loaded one is the right one.
    """
    held = {
        name: official[TOWER + name]
        for name in tower
        if (name.startswith("visual.") or name == "logit_scale") and TOWER + name in official
    }
    others = [
        name
        for name, value in held.items()
        if value.shape != tower[name].shape
        or not torch.allclose(value.float(), tower[name].float().to(value.device), rtol=1e-2, atol=1e-4)
    ]
    if others:
        raise WeightsError(
            f"{path}: expected the CLIP tower of models.clip.weights, found another one in {len(others)} of {len(held)} "
            f"tensors ({', '.join(sorted(others)[:3])}). Give the tower that this head was trained on."
        )


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of an official FC-CLIP checkpoint.

    The CLIP tower's tensors are dropped, as open_clip's own file is their source, and so are the training
    criterion's.

    Raises
    ------
    KeyError
        On a name that is neither known nor known to be dropped.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if not key.startswith(NOT_OURS):
            names = our_names(key)
            renamed |= zip(names, value.tensor_split(3) if len(names) == 3 else [value], strict=True)
    return renamed


def to_official(state: Mapping[str, Tensor], official_names: Iterable[str]) -> dict[str, Tensor]:
    """Name a head's tensors as the official code does; the inverse of `from_official`.

    Parameters
    ----------
    state : mapping
        Ours.
    official_names : iterable of str
        Every tensor that the official model has outside CLIP.

    Raises
    ------
    KeyError
        When either side has a tensor that the other has not.
    """
    sources = {key: our_names(key) for key in official_names}
    wanted = {name for names in sources.values() for name in names}
    if different := sorted(wanted ^ set(state)):
        raise KeyError(f"{len(different)} tensors are on one side only ({', '.join(different[:5])})")
    return {
        key: torch.cat([state[name] for name in names]) if len(names) > 1 else state[names[0]]
        for key, names in sources.items()
    }


def our_names(key: str) -> list[str]:
    """Our name of an official tensor; three where ours are its equal parts: queries', keys' and values' projection."""
    name = _rename(key)
    if ".self_attn.in_proj_" in name and name.startswith("transformer."):
        stem, kind = name.rsplit("in_proj_", 1)
        return [f"{stem}{part}_proj.{kind}" for part in "qkv"]
    return [name]


def _rename(key: str) -> str:
    parts = key.split(".")
    numbers = [part for part in parts if part.isdigit()]
    for number in (*numbers, None):
        # Only the layer's number is a wildcard, so try each number of the key in its place.
        template = key if number is None else key.replace(f".{number}.", ".{i}.", 1)
        for prefix in sorted(OFFICIAL_NAMES, key=len, reverse=True):
            if template.startswith(prefix):
                return (OFFICIAL_NAMES[prefix] + template[len(prefix) :]).replace("{i}", number or "")
    raise KeyError(f"{key}: not a tensor of FC-CLIP (ConvNeXt-L, cocopan); is this its official checkpoint?")
