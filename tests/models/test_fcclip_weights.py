"""Weights of FC-CLIP's head: names of the official checkpoint, and files that do not fit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import taco.models.fcclip
import taco.models.fcclip_weights
from taco.models.weights import WeightsError

MINIATURE = "config/models/miniature_fcclip.json"
FULL_SIZE = "config/models/fcclip_cocopan.json"


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def official_table(encoder_layers, decoder_layers):
    """Official names (without ``weight`` and ``bias``) and ours, spelt out; three of ours share a fused tensor."""
    pixel, predictor, ours = "sem_seg_head.pixel_decoder", "sem_seg_head.predictor", "transformer.decoder"
    yield "void_embedding", "void_embedding"
    for i in range(3):
        for part in "01":
            yield f"{pixel}.input_proj.{i}.{part}", f"pixel_decoder.input_projections.{i}.{part}"
    for i in range(encoder_layers):
        theirs, mine = f"{pixel}.transformer.encoder.layers.{i}", f"pixel_decoder.encoder.layers.{i}"
        for part in ("sampling_offsets", "attention_weights", "value_proj", "output_proj"):
            yield f"{theirs}.self_attn.{part}", f"{mine}.self_attn.{part}"
        yield f"{theirs}.norm1", f"{mine}.self_attn_layer_norm"
        yield f"{theirs}.norm2", f"{mine}.final_layer_norm"
        yield f"{theirs}.linear1", f"{mine}.fc1"
        yield f"{theirs}.linear2", f"{mine}.fc2"
    yield f"{pixel}.mask_features", "pixel_decoder.mask_projection"
    for part in ("adapter_1", "layer_1"):
        yield f"{pixel}.{part}", f"pixel_decoder.{part}.0"
        yield f"{pixel}.{part}.norm", f"pixel_decoder.{part}.1"
    for i in range(decoder_layers):
        mine = f"{ours}.layers.{i}"
        theirs = f"{predictor}.transformer_self_attention_layers.{i}"
        yield f"{theirs}.self_attn.in_proj_", tuple(f"{mine}.self_attn.{part}_proj." for part in "qkv")
        yield f"{theirs}.self_attn.out_proj", f"{mine}.self_attn.out_proj"
        yield f"{theirs}.norm", f"{mine}.self_attn_layer_norm"
        theirs = f"{predictor}.transformer_cross_attention_layers.{i}"
        yield f"{theirs}.multihead_attn.in_proj_", f"{mine}.cross_attn.in_proj_"
        yield f"{theirs}.multihead_attn.out_proj", f"{mine}.cross_attn.out_proj"
        yield f"{theirs}.norm", f"{mine}.cross_attn_layer_norm"
        theirs = f"{predictor}.transformer_ffn_layers.{i}"
        yield f"{theirs}.linear1", f"{mine}.fc1"
        yield f"{theirs}.linear2", f"{mine}.fc2"
        yield f"{theirs}.norm", f"{mine}.final_layer_norm"
    yield f"{predictor}.decoder_norm", f"{ours}.layernorm"
    yield f"{predictor}.query_feat", "transformer.queries_features"
    yield f"{predictor}.query_embed", "transformer.queries_embedder"
    yield f"{predictor}.level_embed", "transformer.level_embed"
    for i in range(3):
        yield f"{predictor}.mask_embed.layers.{i}", f"{ours}.mask_predictor.mask_embedder.{i}.0"
        yield f"{predictor}.class_embed.layers.{i}", f"class_embed.{i}.0"
    for i in range(2):
        yield f"{predictor}._mask_pooling_proj.{i}", f"mask_pooling_proj.{i}"


def official_state(state, encoder_layers, decoder_layers):
    """A head's tensors under the official names."""
    official = {
        "sem_seg_head.pixel_decoder.transformer.level_embed": state["pixel_decoder.level_embed"],
        "sem_seg_head.predictor.logit_scale": state["logit_scale"],
    }
    for theirs, mine in official_table(encoder_layers, decoder_layers):
        for kind in ("weight", "bias"):
            dot = "" if theirs.endswith("_") else "."
            if isinstance(mine, tuple):
                official[f"{theirs}{kind}"] = torch.cat([state[f"{part}{kind}"] for part in mine])
            elif f"{mine}{dot}{kind}" in state:
                official[f"{theirs}{dot}{kind}"] = state[f"{mine}{dot}{kind}"]
    return official


@pytest.fixture(scope="module")
def official(fcclip):
    sizes = json.loads(Path(MINIATURE).read_text())
    return official_state(fcclip.head.state_dict(), sizes["encoder_layers"], sizes["decoder_layers"] - 1)


def test_official_names_map_onto_every_tensor_of_the_head(fcclip, official):
    expected = fcclip.head.state_dict()
    dropped = {
        "backbone.clip_model.visual.trunk.stem.0.weight": draw(2),
        "backbone.clip_model.logit_scale": draw(1),
        "criterion.empty_weight": draw(3),
    }
    found = taco.models.fcclip_weights.from_official(official | dropped)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_full_size_head_has_the_official_count_of_tensors():
    """On the meta device: of the 303 official tensors outside CLIP (20.7 million values) one is the criterion's."""
    sizes = json.loads(Path(FULL_SIZE).read_text())
    with torch.device("meta"):
        head = taco.models.fcclip.FCCLIPHead([192, 384, 768, 1536], 768, **sizes)
        state = head.state_dict()
        official = official_state(state, 6, 9)
    assert len(official | {"criterion.empty_weight": None}) == 303
    assert sum(value.numel() for value in official.values()) == pytest.approx(20.7e6, abs=0.05e6)
    found = taco.models.fcclip_weights.from_official(official)
    assert {key: value.shape for key, value in found.items()} == {
        key: value.shape for key, value in state.items()
    }
    assert state["transformer.queries_features.weight"].shape == (250, 256)


@pytest.mark.parametrize(
    "name",
    [
        "sem_seg_head.predictor.static_query.weight",
        "sem_seg_head.pixel_decoder.adapter_2.weight",
        "backbone.other",
        "other",
    ],
)
def test_unknown_official_name_is_refused(official, name):
    with pytest.raises(KeyError, match=name):
        taco.models.fcclip_weights.from_official(official | {name: draw(1)})


def test_load_reads_both_kinds_of_file_and_nothing_that_does_not_fit(
    fcclip, clip, official, tmp_path, pyramid
):
    spec = {"architecture": MINIATURE, "backend": "transformers"}
    ours, theirs = tmp_path / "fcclip.safetensors", tmp_path / "official.pth"
    save_file({key: value.clone() for key, value in fcclip.head.state_dict().items()}, ours)
    tower = {f"backbone.clip_model.{key}": value for key, value in clip.model.state_dict().items()}
    torch.save({"model": official | tower}, theirs)
    expected = fcclip.head.state_dict()
    for weights in (ours, theirs):
        loaded = taco.models.fcclip.load({**spec, "weights": weights}, clip)
        assert all(torch.equal(value, expected[key]) for key, value in loaded.head.state_dict().items())
        assert not any(parameter.requires_grad for parameter in loaded.head.parameters())

    torch.save({"model": official | {"sem_seg_head.other": draw(1)}}, theirs)
    with pytest.raises(WeightsError, match=r"official\.pth: sem_seg_head\.other"):
        taco.models.fcclip.load({**spec, "weights": theirs}, clip)
    missing = "sem_seg_head.predictor.query_feat.weight"
    torch.save({"model": {key: value for key, value in official.items() if key != missing}}, theirs)
    with pytest.raises(WeightsError, match=r"1 missing \(transformer\.queries_features\.weight\)"):
        taco.models.fcclip.load({**spec, "weights": theirs}, clip)


@pytest.mark.parametrize("name", ["visual.trunk.stem.0.weight", "visual.head.proj.weight", "logit_scale"])
def test_a_checkpoint_of_another_tower_is_refused(clip, official, tmp_path, name):
    """A tower with random weights would give maps without a word of complaint."""
    spec = {"architecture": MINIATURE, "backend": "transformers", "weights": tmp_path / "official.pth"}
    other = clip.model.state_dict()[name] + 1
    torch.save(official | {f"backbone.clip_model.{name}": other}, spec["weights"])
    with pytest.raises(WeightsError, match=rf"expected the CLIP tower .* found another .*\({name}\)"):
        taco.models.fcclip.load(spec, clip)


def test_official_names_there_and_back(fcclip, official):
    state = fcclip.head.state_dict()
    found = taco.models.fcclip_weights.to_official(state, official)
    assert found.keys() == official.keys()
    assert all(torch.equal(found[key], official[key]) for key in official)
    for changed in (dict(list(state.items())[1:]), state | {"other": draw(1)}):
        with pytest.raises(KeyError, match="1 tensors are on one side only"):
            taco.models.fcclip_weights.to_official(changed, official)
