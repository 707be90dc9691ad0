"""FC-CLIP against the official code on detectron2: every intermediate at several sizes, and a slice recorded with it.

The comparisons need the official code (``envs/detectron2.yaml``) and are skipped without it. The recorded slice is
compared always: its weights and inputs follow from their names, so the file holds the official names, shapes and
outputs alone. Where the official code is installed, ``TACO_RECORD_FCCLIP=1 pytest -m "" tests/models/test_fcclip_detectron2.py``
records it anew.
"""

import importlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from seeded import ours_like, seeded, seeded_pyramid, seeded_state, seeded_tower, uniform
from torch.nn import functional as F

import taco.method.features
import taco.models.clip
import taco.models.fcclip
from taco.models import backends, fcclip_detectron2
from taco.models.fcclip_weights import TOWER, from_official
from taco.models.weights import WeightsError

ROOT = Path(__file__).resolve().parents[2]
MINIATURE = "config/models/miniature_fcclip.json"
FULL_SIZE = "config/models/fcclip_cocopan.json"
SLICE = ROOT / "tests/recorded/fcclip_slice.npz"
RECORD = "TACO_RECORD_FCCLIP"
SIZE = (60, 90)
"""Of the recorded image; padded 64×96."""

needs_official = pytest.mark.skipif(
    bool(backends.missing()), reason="needs " + " and ".join(map(str, backends.missing()))
)
COUNTS, OVERLAP = [2, 1, 3], [True, False, False]
"""Synonyms of each of three classes, and which of these lie in the training vocabulary."""


# ---------------------------------------------------------------- every intermediate of both


def prompts_for(width):
    return uniform("prompts", (1, sum(COUNTS), width))


def ensemble(clip, constants, **changes):
    groups = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    return {
        "void": constants["void_embedding"],
        "clip_scale": clip.logit_scale,
        "fcclip_scale": float(constants["fcclip_logit_scale"]),
        "groups": groups,
        **changes,
    }


FC_CLIPS = {"alpha": 0.4, "beta": 0.8, "overlap": torch.tensor(OVERLAP)}
AUTHORS = {"alpha": 0.4, "beta": 1.0, "overlap": None}


@torch.no_grad()
def trace_ours(fcclip, image, pyramid=None):
    """Intermediates of our model for an image [3, H, W] in 0..255, by name; its features may be given."""
    clip, (height, width) = fcclip.clip, image.shape[-2:]
    if pyramid is None:
        pixels = F.pad(taco.models.clip.normalise(image[None]), (0, -width % 32, 0, -height % 32))
        pyramid = clip.pyramid(pixels)
    found = {}
    hook = fcclip.head.pixel_decoder.register_forward_hook(
        lambda module, inputs, output: found.update(mask_features=output.mask_features)
    )
    proposals = fcclip.propose(pyramid, [(height, width)])
    hook.remove()
    prompts, settings = prompts_for(proposals.pooled.shape[-1]), ensemble(clip, fcclip.constants())
    logits = {
        name: taco.models.fcclip.cosine_logits(embeddings[0], prompts, settings[scale], settings["groups"])
        for name, embeddings, scale in (
            ("logits inside", proposals.class_embeddings, "fcclip_scale"),
            ("logits outside", proposals.pooled, "clip_scale"),
        )
    }
    return {
        **pyramid,
        **found,
        "masks": proposals.masks,
        "class embeddings": proposals.class_embeddings,
        "pooled": proposals.pooled,
        **logits,
        "map": taco.models.fcclip.decode(proposals, prompts, **settings, **FC_CLIPS),
        "authors' map": taco.models.fcclip.decode(proposals, prompts, **settings, **AUTHORS),
    }


@torch.no_grad()
def trace_official(model, image, pyramid=None):
    """The same of the official model, from its own ``forward``; our two calls to it must agree with that exactly."""
    code, found = fcclip_detectron2.official(), {}
    backbone, head = model.backbone, model.sem_seg_head
    watched = {
        (head.pixel_decoder, "forward_features"): lambda output: found.update(mask_features=output[0]),
        (head.predictor.class_embed, "forward"): lambda output: found.update({"class embeddings": output}),
        (head, "forward"): lambda output: found.update(
            {"masks": output["pred_masks"], "logits inside": output["pred_logits"][..., :-1]}
        ),
        (backbone, "visual_prediction_forward"): lambda output: found.update(pooled=output),
        (backbone, "forward"): lambda output: found.update(features=dict(output)),
        (code.model, "get_classification_logits"): lambda output: found.update(
            {"logits outside": output[..., :-1]}
        ),
    }
    given = (
        None
        if pyramid is None
        else {("clip_vis_dense" if k == "dense" else k): v for k, v in pyramid.items()}
    )
    width = model.void_embedding.weight.shape[1]
    model.test_text_classifier = F.normalize(prompts_for(width)[0], dim=-1)
    model.test_num_templates, model.category_overlapping_mask = COUNTS, torch.tensor(OVERLAP).long()
    with pytest.MonkeyPatch.context() as patch:
        if given is not None:
            patch.setattr(backbone, "forward", lambda x: dict(given))
        for (owner, name), note in watched.items():
            patch.setattr(owner, name, noting(getattr(owner, name), note))
        found["map"] = model([{"image": image}])[0]["sem_seg"][None]
    features = found.pop("features")
    features["dense"] = features.pop("clip_vis_dense")
    features = {name: features[name] for name in ("res2", "res3", "res4", "res5", "dense")}
    return {**features, **found, "authors' map": through_our_calls(model, features, image.shape[-2:], found)}


def noting(function, note):
    """The function, with its last result noted."""

    def call(*arguments, **named):
        output = function(*arguments, **named)
        note(output)
        return output

    return call


def through_our_calls(model, features, size, found):
    """Propose and decode with the backend; returns its map in the authors' setting."""
    clip = taco.models.clip.FrozenCLIP.__new__(taco.models.clip.FrozenCLIP)
    clip.model = model.backbone.clip_model
    backend = fcclip_detectron2.OfficialFCCLIP(model, clip)
    proposals = backend.propose(features, [tuple(size)])
    assert torch.equal(proposals.masks, found["masks"])
    assert torch.equal(proposals.class_embeddings, found["class embeddings"])
    assert torch.equal(proposals.pooled, found["pooled"])
    prompts, settings = prompts_for(proposals.pooled.shape[-1]), ensemble(clip, backend.constants())
    again = fcclip_detectron2.decode(proposals, prompts, **settings, **FC_CLIPS)
    assert difference(again, found["map"]) < 1e-6
    return fcclip_detectron2.decode(proposals, prompts, **settings, **AUTHORS)


def difference(found, expected):
    """Greatest difference, relative to the greatest value."""
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


def assert_equal_step_by_step(found, expected):
    assert found.keys() == expected.keys()
    differences = {name: difference(found[name], expected[name]) for name in expected}
    print({name: f"{value:.1e}" for name, value in differences.items()})
    assert max(differences.values()) < 1e-4, differences
    return differences


# ---------------------------------------------------------------- with the official code


@pytest.fixture(scope="module")
def miniature_clip():
    clip = taco.models.clip.FrozenCLIP(taco.models.clip.build("config/models/miniature_clip.json"), None, 124)
    with torch.no_grad():
        for name, parameter in clip.model.named_parameters():
            parameter.copy_(seeded(TOWER + name, parameter.shape))
    return clip


@pytest.fixture(scope="module")
def miniature(miniature_clip):
    """The official model and ours with the same weights, at the miniature size."""
    model = fcclip_detectron2.build(MINIATURE, miniature_clip)
    state = seeded_state({name: value.shape for name, value in fcclip_detectron2.own_state(model).items()})
    model.load_state_dict(state, strict=False)
    fcclip_detectron2.OfficialFCCLIP(model, miniature_clip)
    return model, ours_like(state, MINIATURE, miniature_clip), state


@pytest.fixture(scope="module")
def full_size():
    clip = seeded_tower()
    model = fcclip_detectron2.build(FULL_SIZE, clip)
    state = seeded_state({name: value.shape for name, value in fcclip_detectron2.own_state(model).items()})
    model.load_state_dict(state, strict=False)
    return model, ours_like(state, FULL_SIZE, clip)


def photo(height, width):
    return (uniform(f"image {height} {width}", (3, height, width)) * 40 + 120).clamp(0, 255)


@needs_official
@pytest.mark.parametrize("size", [(124, 124), (64, 160), (150, 91), (33, 200)])
def test_official_model_equals_ours_step_by_step(miniature, size):
    model, ours, _ = miniature
    found, expected = trace_ours(ours, photo(*size)), trace_official(model, photo(*size))
    assert_equal_step_by_step(found, expected)
    assert found["map"].shape == (1, 3, *size)


@needs_official
@pytest.mark.slow
@pytest.mark.parametrize("size", [(256, 256), (320, 448), (764, 764)], ids=str)
def test_official_model_equals_ours_at_full_size(full_size, size):
    model, ours = full_size
    assert_equal_step_by_step(trace_ours(ours, photo(*size)), trace_official(model, photo(*size)))


@needs_official
def test_official_configuration_has_the_sizes_of_ours():
    """The head from the official YAML file has our names and shapes, and its preparation of images is ours."""
    code = fcclip_detectron2.official()
    from detectron2.config import get_cfg
    from detectron2.layers import ShapeSpec
    from detectron2.projects.deeplab import add_deeplab_config

    settings = get_cfg()
    add_deeplab_config(settings)
    extend = importlib.import_module("fcclip.config")
    extend.add_maskformer2_config(settings)
    extend.add_fcclip_config(settings)
    folder = Path(os.environ[backends.SOURCE]) / "configs/coco/panoptic-segmentation/fcclip"
    settings.merge_from_file(str(folder / "fcclip_convnext_large_eval_ade20k.yaml"))
    channels = [192, 384, 768, 1536]
    shapes = {f"res{i + 2}": ShapeSpec(channels=width, stride=4 * 2**i) for i, width in enumerate(channels)}
    with torch.device("meta"):
        theirs = code.head.FCCLIPHead(settings, shapes)
        head = taco.models.fcclip.FCCLIPHead(channels, 768, **json.loads(Path(FULL_SIZE).read_text()))
    state = {f"sem_seg_head.{key}": value for key, value in theirs.state_dict().items()}
    found = from_official(state | {"void_embedding.weight": torch.empty(1, 768, device="meta")})
    expected = {key: value.shape for key, value in head.state_dict().items()}
    assert {key: value.shape for key, value in found.items()} == expected
    assert settings.MODEL.MASK_FORMER.SIZE_DIVISIBILITY == taco.models.clip.PADDING_MULTIPLE
    assert np.float32(settings.MODEL.PIXEL_MEAN).tolist() == np.float32(taco.models.clip.PIXEL_MEAN).tolist()
    assert np.float32(settings.MODEL.PIXEL_STD).tolist() == np.float32(taco.models.clip.PIXEL_STD).tolist()
    fc_clip = settings.MODEL.FC_CLIP
    assert (fc_clip.GEOMETRIC_ENSEMBLE_ALPHA, fc_clip.GEOMETRIC_ENSEMBLE_BETA) == (0.4, 0.8)
    assert fc_clip.CLIP_MODEL_NAME == "convnext_large_d_320" and not fc_clip.ENSEMBLE_ON_VALID_MASK


@needs_official
def test_official_backend_reads_both_kinds_of_file_strictly(miniature, miniature_clip, tmp_path):
    _, ours, state = miniature
    files = {"ours.safetensors": tmp_path / "ours.safetensors", "official.pth": tmp_path / "official.pth"}
    save_file(
        {key: value.clone() for key, value in ours.head.state_dict().items()}, files["ours.safetensors"]
    )
    torch.save({"model": state | {"criterion.empty_weight": torch.zeros(2)}}, files["official.pth"])
    pyramid = miniature_clip.pyramid(uniform("pixels", (2, 3, 64, 96)))
    expected = ours.propose(pyramid, [(64, 96), (50, 70)])
    for path in files.values():
        spec = {"architecture": MINIATURE, "weights": path, "backend": "detectron2"}
        backend = taco.method.features.fcclip_backend("detectron2").load(spec, miniature_clip)
        assert isinstance(backend, fcclip_detectron2.OfficialFCCLIP)
        found = backend.propose(pyramid, [(64, 96), (50, 70)])
        assert found.geometry == expected.geometry
        for name in ("masks", "class_embeddings", "pooled"):
            assert difference(getattr(found, name), getattr(expected, name)) < 1e-4
        assert {key: value.tolist() for key, value in backend.constants().items()} == {
            key: value.tolist() for key, value in ours.constants().items()
        }

    spec = {"architecture": MINIATURE, "weights": files["official.pth"], "backend": "detectron2"}
    for changed, message in (
        (dict(list(state.items())[1:]), "1 missing"),
        (state | {"sem_seg_head.other": torch.zeros(2)}, r"1 unknown \(sem_seg_head\.other\)"),
        (state | {TOWER + "logit_scale": torch.tensor(9.0)}, "another one in 1 of 1 tensors"),
    ):
        torch.save(changed, spec["weights"])
        with pytest.raises(WeightsError, match=message):
            fcclip_detectron2.load(spec, miniature_clip)


# ---------------------------------------------------------------- a slice of the official output


SLICES = {
    **{name: (slice(None), slice(None, None, 16), slice(None, None, 2)) for name in ("res2", "res3")},
    **{name: (slice(None), slice(None, None, 48)) for name in ("res4", "res5", "dense")},
    "mask_features": (slice(None), slice(None, None, 32)),
    "masks": (slice(None), slice(None, None, 25)),
    "class embeddings": (slice(None), slice(None, None, 5), slice(None, None, 32)),
    "pooled": (slice(None), slice(None, None, 5), slice(None, None, 32)),
    "logits inside": (),
    "logits outside": (),
    "map": (..., slice(None, None, 3), slice(None, None, 3)),
    "authors' map": (..., slice(None, None, 3), slice(None, None, 3)),
}


def sliced(trace):
    return {name: value[SLICES[name]] for name, value in trace.items()}


def record():
    """Write the slice with the official code: its head on given features, and all of it on an image."""
    arrays, tower = {}, seeded_tower()
    for part, pyramid in (("head", seeded_pyramid((64, 96), tower.channels)), ("whole", None)):
        model = fcclip_detectron2.build(FULL_SIZE, tower)
        shapes = {name: list(value.shape) for name, value in fcclip_detectron2.own_state(model).items()}
        model.load_state_dict(seeded_state(shapes), strict=False)
        trace = trace_official(model, photo(*SIZE), pyramid)
        kept = trace if pyramid is None else {name: trace[name] for name in trace.keys() - pyramid.keys()}
        arrays |= {f"{part}/{name}": value.numpy() for name, value in sliced(kept).items()}
    about = {"official": backends.COMMITS, "torch": torch.__version__, "shapes": shapes}
    SLICE.parent.mkdir(exist_ok=True)
    np.savez_compressed(SLICE, about=json.dumps(about), **arrays)


@pytest.fixture(scope="module")
def recorded():
    if os.environ.get(RECORD):
        backends.require()
        record()
    with np.load(SLICE) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(str(arrays.pop("about")))
    assert about["official"] == backends.COMMITS, (
        f"recorded with other commits; set {RECORD}=1 to record anew"
    )
    return about, arrays


def assert_as_recorded(trace, arrays, part):
    expected = {
        name.removeprefix(f"{part}/"): torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith(f"{part}/")
    }
    found = sliced({name: trace[name] for name in expected})
    assert len(expected) >= 8
    return assert_equal_step_by_step(found, expected)


def test_head_gives_what_was_recorded_of_the_official_one(recorded):
    about, arrays = recorded
    clip = seeded_tower(stages=False)
    ours = ours_like(seeded_state(about["shapes"]), FULL_SIZE, clip)
    trace = trace_ours(ours, photo(*SIZE), seeded_pyramid((64, 96), clip.channels))
    assert_as_recorded(trace, arrays, "head")


@pytest.mark.slow
def test_tower_and_head_give_what_was_recorded_of_the_official_ones(recorded):
    about, arrays = recorded
    ours = ours_like(seeded_state(about["shapes"]), FULL_SIZE, seeded_tower())
    assert_as_recorded(trace_ours(ours, photo(*SIZE)), arrays, "whole")
