"""Pictures: one reading of palettes, depths and alpha channels, the same for frames and masks; damage is noticed."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from written_png import COLOURS, COLOURS_ALPHA, GREY, GREY_ALPHA, PALETTE, png

from taco.data import media, pictures
from taco.data.problems import MediaError

ONES = np.zeros((6, 9), dtype=int)
ONES[1:4, 2:7] = 1


def channels(*planes):
    return np.stack([np.broadcast_to(plane, ONES.shape) for plane in planes], axis=-1)


# The same mask, white on black (one in red), as programs write it.
MASKS = {
    "1 bit": png(ONES, 1, GREY),
    "2 bits": png(ONES * 3, 2, GREY),
    "4 bits": png(ONES * 15, 4, GREY),
    "8 bits": png(ONES * 255, 8, GREY),
    "8 bits, level 1": png(ONES, 8, GREY),
    "16 bits": png(ONES * 65535, 16, GREY),
    "16 bits, 8-bit values": png(ONES * 255, 16, GREY),
    "16 bits, level 1": png(ONES, 16, GREY),
    "colours": png(channels(*[ONES * 255] * 3), 8, COLOURS),
    "colours of 16 bits": png(channels(*[ONES * 65535] * 3), 16, COLOURS),
    "red": png(channels(ONES * 128, 0, 0), 8, COLOURS),
    "palette": png(ONES, 1, PALETTE, [0, 0, 0, 255, 255, 255]),
    "palette, white first": png(1 - ONES, 1, PALETTE, [255, 255, 255, 0, 0, 0]),
    "palette, VOC red": png(ONES, 8, PALETTE, [0, 0, 0, 128, 0, 0]),
    "palette of 4 bits, black last": png(15 - ONES, 4, PALETTE, [7] * 42 + [255, 255, 255, 0, 0, 0]),
    "palette, background transparent": png(ONES, 1, PALETTE, [0, 0, 0, 255, 255, 255], [0, 255]),
    "opaque alpha": png(channels(ONES * 255, 255), 8, GREY_ALPHA),
    "alpha that agrees": png(channels(*[ONES * 255] * 4), 8, COLOURS_ALPHA),
    "alpha of 16 bits": png(channels(*[ONES * 65535] * 3, 65535), 16, COLOURS_ALPHA),
    "black said to be transparent": png(ONES * 255, 8, GREY, transparency=[0, 0]),
}
# Files that do not say which pixels are the foreground, or nothing that can be relied on.
REFUSED = {
    "white picture, mask in alpha": png(channels(255, 255, 255, ONES * 255), 8, COLOURS_ALPHA),
    "black picture, mask in alpha": png(channels(0, 0, 0, ONES * 255), 8, COLOURS_ALPHA),
    "white grey, mask in alpha": png(channels(255, ONES * 255), 8, GREY_ALPHA),
    "white grey, mask in alpha of 16 bits": png(channels(65535, ONES * 65535), 16, GREY_ALPHA),
    "alpha inverted": png(channels(*[ONES * 255] * 3, 255 - ONES * 255), 8, COLOURS_ALPHA),
    "half transparent": png(channels(*[ONES * 255] * 3, ONES * 128), 8, COLOURS_ALPHA),
    "palette, mask in alpha": png(ONES, 1, PALETTE, [255] * 6, [0, 255]),
    "palette, foreground transparent": png(ONES, 1, PALETTE, [0, 0, 0, 255, 255, 255], [255, 0]),
    "white said to be transparent": png(ONES, 1, GREY, transparency=[0, 1]),
    "8-bit values in colours of 16 bits": png(channels(*[ONES * 255] * 3), 16, COLOURS),
    "palette all black": png(ONES, 8, PALETTE, [0] * 6),
    "palette too short": png(ONES * 9, 8, PALETTE, [0, 0, 0, 255, 255, 255]),
    "no palette": png(ONES, 8, PALETTE),
}


@pytest.fixture
def read(tmp_path):
    """Call a reader with the opened image of some bytes."""

    def call(reader, data):
        path = tmp_path / "mask.png"
        path.write_bytes(data)
        return reader(pictures.open_image(path), path)

    return call


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_the_same_however_it_is_written(read, name):
    mask, colours = read(pictures.foreground, MASKS[name])
    assert mask.dtype == bool and colours == 1
    np.testing.assert_array_equal(mask, ONES == 1)


@pytest.mark.parametrize("name", REFUSED)
def test_masks_that_do_not_say_what_is_foreground_are_refused(read, name):
    with pytest.raises(MediaError, match=r"mask\.png: expected"):
        read(pictures.foreground, REFUSED[name])


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pictures_of_numbers_without_a_range_are_refused(read, mode):
    stream = io.BytesIO()
    Image.new(mode, (3, 2), 70000).save(stream, "TIFF")
    with pytest.raises(MediaError):
        read(pictures.foreground, stream.getvalue())


def test_an_empty_and_a_grey_mask_have_no_and_several_colours(read):
    assert read(pictures.foreground, png(ONES * 0, 8, GREY))[1] == 0
    assert read(pictures.foreground, png(np.arange(54).reshape(6, 9), 8, GREY))[1] == 53
    assert read(pictures.foreground, png(ONES + 1, 16, GREY))[1] == 2


LEVELS = np.arange(54).reshape(6, 9) * 4


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(LEVELS * 257, 16, GREY), LEVELS),
        (png(LEVELS * 256, 16, GREY), LEVELS),
        (png(channels(LEVELS * 257, 0, 65535), 16, COLOURS), channels(LEVELS, 0, 255)),
        (png(channels(LEVELS * 257, 65535), 16, GREY_ALPHA), LEVELS),
        (png(LEVELS % 16, 4, GREY), LEVELS % 16 * 17),
        (
            png(LEVELS // 4, 8, PALETTE, [n * 3 % 256 for n in range(3 * 54)]),
            np.arange(162).reshape(6, 9, 3) * 3 % 256,
        ),
    ],
    ids=["16 bits", "16 bits shifted", "colours of 16 bits", "grey and alpha", "4 bits", "palette"],
)
def test_frames_of_every_depth_have_their_brightness(tmp_path, data, expected):
    (tmp_path / "frame.png").write_bytes(data)
    image = media.read_image(tmp_path / "frame.png")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.broadcast_to(np.atleast_3d(expected), image.shape))


@pytest.mark.parametrize("most", [1, 255, 1023, 4095])
def test_deep_frames_that_use_a_few_bits_are_refused(tmp_path, most):
    (tmp_path / "frame.png").write_bytes(png(LEVELS * most // LEVELS.max(), 16, GREY))
    with pytest.raises(MediaError, match=f"0 … {most}: those of fewer bits"):
        media.read_image(tmp_path / "frame.png")


def test_a_changed_byte_anywhere_in_a_png_is_noticed(tmp_path):
    path = tmp_path / "frame.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    for place in np.random.default_rng(1).integers(0, len(whole), 60):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(place) % 8
        path.write_bytes(bytes(broken))
        with pytest.raises(MediaError):
            media.read_image(path)


@pytest.mark.parametrize("cut", [12, 200])
def test_a_png_without_its_end_is_refused(tmp_path, cut):
    path = tmp_path / "frame.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(MediaError):
        media.read_image(path)


def test_pictures_too_large_to_hold_are_refused(tmp_path):
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, GREY, 0, 0, 0)
    data = png(ONES, 8, GREY)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (tmp_path / "bomb.png").write_bytes(data[:16] + head + crc + data[33:])
    with pytest.raises(MediaError, match="undecodable data"):
        media.read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png"])
def test_impossible_names_are_one_error(tmp_path, name):
    with pytest.raises(MediaError):
        media.read_image(tmp_path / name)
    with pytest.raises(MediaError):
        media.decode_sound(tmp_path / name)
