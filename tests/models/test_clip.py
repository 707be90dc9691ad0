"""CLIP: one pass of the library's own tower gives tokens and pyramid; images are prepared as the papers do."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from safetensors.torch import save_file

import taco.models.clip
from taco.models.weights import WeightsError

MINIATURE = "config/models/miniature_clip.json"


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# ---------------------------------------------------------------- tower


def test_token_is_the_models_own_embedding_of_a_single_pixel(clip):
    """An image of one feature pixel: its token is what ``encode_image`` returns."""
    tiny = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    dense = clip.pyramid(tiny)["dense"]
    assert dense.shape[-2:] == (1, 1)
    torch.testing.assert_close(clip.tokens(dense)[:, 0], clip.model.encode_image(tiny), rtol=1e-5, atol=1e-6)


def test_tokens_are_row_major_and_each_pixel_stands_alone(clip, pixels):
    dense = clip.pyramid(pixels)["dense"]
    tokens = clip.tokens(dense)
    height, width = dense.shape[-2:]
    assert tokens.shape == (2, height * width, clip.model.text_projection.shape[1])
    for row, column in [(0, 0), (2, 5), (height - 1, width - 1)]:
        alone = dense[:, :, row : row + 1, column : column + 1]
        expected = clip.model.visual.head(clip.trunk.head(alone))
        torch.testing.assert_close(tokens[:, row * width + column], expected, rtol=1e-5, atol=1e-6)
    changed = dense.clone()
    changed[:, ::2, 2, 5] += 1
    differs = (clip.tokens(changed) - tokens).abs().amax(-1) > 1e-4
    assert differs.nonzero()[:, 1].tolist() == 2 * [2 * width + 5]


def test_pyramid_is_the_trunks_own(clip, pixels):
    outputs = clip.pyramid(pixels)
    torch.testing.assert_close(outputs["dense"], clip.trunk.forward_features(pixels), rtol=0, atol=0)
    _, stages = clip.trunk.forward_intermediates(pixels)
    for index, stage in enumerate(stages[-4:]):
        found = outputs[f"res{index + 2}"]
        torch.testing.assert_close(found, stage, rtol=0, atol=0)
        assert found.shape[1] == clip.channels[index]
    assert all(value.is_contiguous() for value in outputs.values())


def test_denser_features_hold_the_sparser_ones(clip, pixels):
    """Dilation in place of a stride: stride 8 has the features of stride 16 at every other pixel, borders included.

    At the odd ones: the dilated 2×2 convolution before the last stage is padded on both sides. Two strides in one
    process also show that a tower is built with its own arguments, not those of the one before.
    """
    sparse = taco.models.clip.build(MINIATURE, output_stride=16)
    sparse.load_state_dict(clip.model.state_dict())
    with torch.no_grad():
        expected = taco.models.clip.pyramid(sparse.visual.trunk, pixels)["dense"]
    found = clip.pyramid(pixels)["dense"]
    assert found.shape[-1] == 2 * expected.shape[-1] == pixels.shape[-1] // 8
    torch.testing.assert_close(found[:, :, 1::2, 1::2], expected, rtol=1e-4, atol=1e-4)


def test_full_size_tower_has_the_papers_shapes():
    """On the meta device: shapes without weights."""
    with torch.device("meta"):
        model = open_clip.create_model("convnext_large_d_320", pretrained=None, device="meta")
        clip = taco.models.clip.FrozenCLIP(model.eval(), None, 764)
        outputs = clip.pyramid(torch.empty(1, 3, 768, 768))
        unpadded = clip.pyramid(torch.empty(1, 3, 764, 764))["dense"]
    assert clip.channels == [192, 384, 768, 1536]
    assert outputs["res2"].shape[-2:] == (192, 192)
    assert outputs["dense"].shape == (1, 1536, 24, 24)
    assert clip.tokens(outputs["dense"]).shape == (1, 576, 768)
    assert clip.tokens(unpadded).shape == (1, 529, 768)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_the_trunks_alone(clip, pixels, name):
    """Outputs are float32 that differ by the trunk's rounding; head, projection and text stay as they are."""
    half = taco.models.clip.FrozenCLIP(clip.model, clip.tokenizer, clip.image_size, name)
    exact, rounded = clip.pyramid(pixels), half.pyramid(pixels)
    step = torch.finfo(getattr(torch, name)).eps
    for level, value in rounded.items():
        assert value.dtype == torch.float32 and not torch.equal(value, exact[level])
        assert (value - exact[level]).std() < 20 * step * exact[level].std()
    assert torch.equal(half.tokens(exact["dense"]), clip.tokens(exact["dense"]))
    assert torch.equal(half.encode_text(["a bell"]), clip.encode_text(["a bell"]))


# ---------------------------------------------------------------- images


@pytest.mark.parametrize(("size", "padded"), [(764, 768), (124, 128), (128, 128)])
def test_padding_is_zero_after_normalisation_at_the_bottom_and_right(size, padded):
    clip = taco.models.clip.FrozenCLIP.__new__(taco.models.clip.FrozenCLIP)
    clip.image_size, clip.device = size, torch.device("cpu")
    pixels, sizes = clip.prepare([photo(30, 40)])
    assert pixels.shape == (1, 3, padded, padded)
    assert sizes == [(size, size)]
    assert (pixels[..., size:, :] == 0).all() and (pixels[..., size:] == 0).all()
    assert (pixels[..., :size, :size] != 0).float().mean() > 0.99


@pytest.mark.parametrize("shape", [(124, 124), (37, 211), (300, 90), (1, 5)])
def test_resizing_is_bilinear_with_aligned_corners(clip, shape):
    image = photo(*shape)
    pixels, _ = clip.prepare([image])
    mean, std = (np.array(values) for values in (taco.models.clip.PIXEL_MEAN, taco.models.clip.PIXEL_STD))
    found = pixels[0].permute(1, 2, 0).numpy()[:124, :124] * std + mean
    rows, columns = (np.linspace(0, side - 1, 124) for side in shape)
    top, left = (np.floor(at).astype(int) for at in (rows, columns))
    bottom, right = np.minimum(top + 1, shape[0] - 1), np.minimum(left + 1, shape[1] - 1)
    down, over = (rows - top)[:, None, None], (columns - left)[None, :, None]
    expected = (1 - down) * ((1 - over) * image[np.ix_(top, left)] + over * image[np.ix_(top, right)])
    expected += down * ((1 - over) * image[np.ix_(bottom, left)] + over * image[np.ix_(bottom, right)])
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize("shape", [(124, 124), (37, 211), (300, 90)])
def test_openclip_mode_is_open_clips_own_transform(clip, shape):
    transform = image_transform(124, is_train=False, resize_mode="squash", interpolation="bicubic")
    pixels, sizes = clip.prepare([photo(*shape)], mode="openclip")
    assert pixels.shape == (1, 3, 124, 124) and sizes == [(124, 124)]
    torch.testing.assert_close(pixels[0], transform(Image.fromarray(photo(*shape))), rtol=0, atol=1e-5)


def test_images_of_different_sizes_share_a_batch(clip):
    images = [photo(50, 80), photo(124, 124, 1)]
    together, sizes = clip.prepare(images)
    assert len(sizes) == 2
    for index, image in enumerate(images):
        assert torch.equal(together[index], clip.prepare([image])[0][0])


def test_unknown_mode_is_refused(clip):
    with pytest.raises(ValueError, match="'fcclip' or 'openclip', not 'square'"):
        clip.prepare([photo(8, 8)], mode="square")


# ---------------------------------------------------------------- text


def test_end_of_text_has_the_highest_id_and_padding_is_zero(clip):
    """open_clip reads a text's embedding where the id is highest."""
    ids = clip.tokenizer(["A photo of a bell", "a guitar"])
    context = json.loads(Path(MINIATURE).read_text())["text_cfg"]["context_length"]
    assert ids.shape == (2, context)
    for row in ids:
        end = int(row.argmax())
        assert row[end] == 255 and row[:end].min() > 0 and row[:end].max() < 255
        assert (row[end + 1 :] == 0).all()
    assert len(set(ids[0, : int(ids[0].argmax())].tolist())) > 1


def test_text_embedding_does_not_depend_on_the_batch(clip):
    texts = ["a bell", "A photo of a guitar", "a photo of a kite", "drum"]
    torch.testing.assert_close(
        clip.encode_text(texts), clip.encode_text(texts, batch_size=3), rtol=1e-4, atol=1e-5
    )
    assert not torch.allclose(clip.encode_text(["a bell"]), clip.encode_text(["a drum"]))


def test_logit_scale_is_at_most_100(tokenizer):
    model = taco.models.clip.build(MINIATURE)
    clip = taco.models.clip.FrozenCLIP(model, None, 124)
    assert clip.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    assert clip.logit_scale == 100.0


# ---------------------------------------------------------------- loading


def test_load_returns_the_saved_model(clip, tokenizer, tmp_path, pixels):
    spec = {"architecture": MINIATURE, "weights": tmp_path / "clip.safetensors", "tokenizer": tokenizer}
    save_file({key: value.contiguous() for key, value in clip.model.state_dict().items()}, spec["weights"])
    loaded = taco.models.clip.load({**spec, "image_size": 124})
    assert torch.equal(loaded.pyramid(pixels)["dense"], clip.pyramid(pixels)["dense"])
    assert torch.equal(loaded.encode_text(["a bell"]), clip.encode_text(["a bell"]))
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())

    with pytest.raises(WeightsError, match="expected a folder with CLIP's tokenizer"):
        taco.models.clip.load({**spec, "image_size": 124, "tokenizer": tmp_path / "none"})
    with pytest.raises(WeightsError, match=r"none\.safetensors: expected a weight file"):
        taco.models.clip.load({**spec, "image_size": 124, "weights": tmp_path / "none.safetensors"})
