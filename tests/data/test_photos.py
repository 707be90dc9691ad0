"""Photographs of any kind become upright RGB; what cannot be shown is refused by name."""

import numpy as np
import pytest
from PIL import Image

from taco.data import photos
from taco.data.problems import MediaError

ORIENTATION = 0x0112


@pytest.fixture
def scene():
    """A 6 × 4 picture, red above and blue below, with a green corner at the top left."""
    pixels = np.zeros((24, 16, 3), dtype=np.uint8)
    pixels[:12], pixels[12:], pixels[:6, :6] = (200, 20, 20), (20, 20, 200), (20, 200, 20)
    return pixels


@pytest.mark.parametrize(("tag", "stored"), [
    (1, lambda p: p), (3, lambda p: np.rot90(p, 2)), (6, lambda p: np.rot90(p, 1)), (8, lambda p: np.rot90(p, -1)),
    (2, lambda p: p[:, ::-1]),
])  # fmt: skip
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_an_orientation_tag_is_obeyed(scene, tmp_path, tag, stored, ending):
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    options = {"quality": 100} | ({"lossless": True} if ending == "webp" else {})
    Image.fromarray(np.ascontiguousarray(stored(scene))).save(tmp_path / f"a.{ending}", exif=exif, **options)
    found = photos.upright(tmp_path / f"a.{ending}")
    assert found.shape == scene.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - scene).mean() < 12  # JPEG


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[:2, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = photos.upright(tmp_path / "a.png")
    assert (found[:2] == 0).all() and (found[2:] == 255).all()


def test_palettes_with_and_without_transparency(tmp_path, scene):
    palette = Image.fromarray(scene).convert("P", palette=Image.Palette.ADAPTIVE, colors=3)
    palette.save(tmp_path / "a.png")
    assert np.abs(photos.upright(tmp_path / "a.png").astype(int) - scene).max() <= 2
    index = palette.getpixel((0, 0))
    palette.save(tmp_path / "b.gif", transparency=index)
    assert (photos.upright(tmp_path / "b.gif")[0, 0] == 255).all()


@pytest.mark.parametrize(("mode", "values"), [("I;16", [0, 65535]), ("I", [0, 65535]), ("F", [0.0, 1.0])])
def test_deep_grey_becomes_eight_bits(tmp_path, mode, values):
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    Image.fromarray(np.array([values], dtype=kind)).save(tmp_path / "a.tif")
    assert photos.upright(tmp_path / "a.tif").tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_sixteen_bit_png(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert photos.upright(tmp_path / "a.png")[0, :, 0].tolist() == [0, 128, 255]


def test_cmyk(tmp_path, scene):
    Image.fromarray(scene).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    found = photos.upright(tmp_path / "a.jpg")
    assert np.abs(found.astype(int) - scene).mean() < 12


def test_the_first_picture_of_an_animation(tmp_path, scene):
    first, second = Image.fromarray(scene), Image.fromarray(255 - scene)
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    assert np.abs(photos.upright(tmp_path / "a.webp").astype(int) - scene).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (4000, 3), (2, 900)])
def test_any_size(tmp_path, size):
    Image.new("RGB", size, (9, 8, 7)).save(tmp_path / "a.png")
    found = photos.upright(tmp_path / "a.png")
    assert found.shape == (size[1], size[0], 3) and (found == (9, 8, 7)).all()


def test_pil_images_and_arrays_are_taken_as_they_are(scene):
    assert (photos.upright(scene) == scene).all()
    assert (photos.upright(Image.fromarray(scene)) == scene).all()


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_are_refused(array):
    with pytest.raises(MediaError, match=r"uint8 \[H, W, 3\]"):
        photos.upright(array)


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.png"):
        photos.upright(tmp_path / "a.png")
    with pytest.raises(MediaError, match="no such file"):
        photos.upright(tmp_path / "b.png")


def test_a_truncated_image_is_named(tmp_path, scene):
    Image.fromarray(scene).resize((300, 300)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"a\.jpg.*a complete image"):
        photos.upright(tmp_path / "a.jpg")
