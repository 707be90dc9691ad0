"""Names of the official FC-CLIP checkpoint's tensors, mapped to those of `taco.fcclip.FCCLIPHead`."""

from collections.abc import Mapping

from torch import Tensor

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
NOT_OURS = ("backbone.", "criterion.")


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of an official FC-CLIP checkpoint.

    The CLIP tower's tensors are dropped, as open_clip's own file is their source (the released checkpoint
    seems to hold none), and so are the training criterion's.

    Raises
    ------
    KeyError
        On a name that is neither known nor known to be dropped.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith(NOT_OURS):
            continue
        name = _rename(key)
        if ".self_attn.in_proj_" in name and name.startswith("transformer."):
            stem, kind = name.rsplit("in_proj_", 1)
            for part, tensor in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{stem}{part}_proj.{kind}"] = tensor
        else:
            renamed[name] = value
    return renamed


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
