"""Pictures: decode a file whole, and read its numbers as the colours that they stand for.

Palettes, bit depths and alpha channels are ways to write a picture down. What they mean is read here and nowhere else:
`rgb` for frames, `mask_colours` and `foreground` for truth and predictions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from taco.data.problems import MediaError, reason, require_file

DEEP_GREY = ("I;16", "I;16B", "I;16L", "I;16N", "I")
COLOUR = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
LOSSY = ("JPEG", "MPO")
LEAST_DEEP = 1 << 12
"""A 16-bit photo that stays below holds the numbers of 8, 10 or 12 bits: how bright they are meant cannot be told."""
REMEDY = "Fetch or write this file again."


def open_image(path: str | Path) -> Image.Image:
    """Decode an image file completely and keep its mode (palette indices stay palette indices).

    Returns
    -------
    PIL.Image.Image
        With its ``format``, and for a PNG with the bits of a sample in ``info["bits"]``: Pillow scales grey of 2 and 4 bits, and of colours with
        16 bits it keeps the upper 8.

    Raises
    ------
    MediaError
        The file is missing, empty, truncated, damaged or no image.
    """
    expected = "a complete image"
    require_file(path, expected, REMEDY)
    try:
        with Image.open(path) as image:
            if image.format == "PNG":
                with Image.open(path) as checked:
                    checked.verify()  # the checksums of all chunks, which decoding alone passes over
                image.info["bits"] = png_bits(path)
            image.load()
            picture = image.copy()
            picture.format = image.format
            return picture
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise MediaError(path, expected, f"undecodable data ({reason(error)})", REMEDY) from error


def png_bits(path: str | Path) -> int:
    """Bits of a sample that a PNG's header tells, read without decoding; 0 where there is no header."""
    try:
        with open(path, "rb") as stream:
            return int.from_bytes(stream.read(25)[24:])
    except OSError:
        return 0


def rgb(image: Image.Image, path: str | Path) -> np.ndarray:
    """An image as RGB of 8 bits; of deeper numbers the upper 8. Colours under transparent pixels are those stored.

    Parameters
    ----------
    image : PIL.Image.Image
        Of `open_image`.
    path : str or Path
        Named in errors.

    Returns
    -------
    numpy.ndarray
        uint8 [H, W, 3] in [0, 255].

    Raises
    ------
    MediaError
        The numbers do not tell a colour: floats, 16-bit samples that use a few of their bits, a palette that is too short.
    """
    if image.mode in DEEP_GREY:
        values = deep_levels(image, path)
        if 0 < values.max(initial=0) < LEAST_DEEP:
            found = f"values 0 … {values.max()}: those of fewer bits, it seems"
            raise MediaError(path, "16-bit grey over the range 0 … 65535", found, "Write it with 8 bits.")
        return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    if image.mode not in COLOUR:
        raise MediaError(
            path, "an image in grey, RGB or a palette", f"mode {image.mode}", "Write it as 8-bit RGB."
        )
    if image.mode in ("P", "PA"):
        _require_palette(image, path)
    colours = np.array(image.convert("RGB"))
    if image.info.get("bits") == 16 and not colours.any():
        found = "none beyond 255 of 65535: those of 8 bits, it seems"
        raise MediaError(path, "16-bit colours over their range", found, "Write it with 8 bits.")
    return colours


def deep_levels(image: Image.Image, path: str | Path) -> np.ndarray:
    """Grey values of 16 bits, int32 [H, W] in [0, 65535]."""
    values = np.asarray(image).astype(np.int32)
    if values.size and (values.min() < 0 or values.max() > 65535):
        found = f"values {values.min()} … {values.max()}"
        raise MediaError(path, "grey values of at most 16 bits", found, "Write it with 8 bits.")
    return values


def _require_palette(image: Image.Image, path: str | Path) -> None:
    """A palette must have a colour for each index in use, and another colour than black."""
    palette = image.getpalette("RGB") if image.palette is not None else None
    indices = np.asarray(image)
    used = int((indices if indices.ndim == 2 else indices[..., 0]).max(initial=0))
    if not palette or used >= len(palette) // 3:
        found = f"index {used} in a palette of {len(palette or ()) // 3}"
        raise MediaError(path, "a palette with a colour for each index", found, REMEDY)
    if used and not any(palette):
        found = "one that is black throughout, so that indices mean nothing"
        raise MediaError(path, "a palette with colours", found, "Write it in grey or RGB.")


def alpha(image: Image.Image) -> np.ndarray | None:
    """Opacity, uint8 [H, W], 255 is opaque; None where every pixel is."""
    if not image.has_transparency_data:
        return None
    values = np.asarray(image.convert("RGBA"))[..., 3]
    return values if (values < 255).any() else None


def mask_colours(image: Image.Image, path: str | Path) -> np.ndarray:
    """A mask's colours, uint8 [H, W, 3], black where there is nothing.

    Transparency is legal where it says what the colours say: all that is black is transparent, and nothing else.

    Raises
    ------
    MediaError
        As `rgb`, and where transparency and colours contradict each other, or a JPEG has smeared them.
    """
    colours = rgb(image, path)
    _require_agreement(image, colours.any(axis=-1), path)
    return colours


def foreground(image: Image.Image, path: str | Path) -> tuple[np.ndarray, int]:
    """A binary mask by colour: what is not black, whatever index or depth it is written with.

    Returns
    -------
    mask : numpy.ndarray
        bool [H, W].
    colours : int
        How many there are beside black: one in a binary mask, none in an empty one.

    Raises
    ------
    MediaError
        As `mask_colours`.
    """
    if image.mode in DEEP_GREY:  # any level is foreground, also 255 of 65535
        codes = deep_levels(image, path)
        _require_agreement(image, codes > 0, path)
    else:
        codes = mask_colours(image, path) @ np.array([1 << 16, 1 << 8, 1])
    return codes > 0, np.count_nonzero(np.unique(codes))


def first_channel(image: Image.Image, path: str | Path) -> np.ndarray:
    """Red, [H, W]: uint8, or the values themselves of 16-bit grey."""
    return deep_levels(image, path) if image.mode in DEEP_GREY else rgb(image, path)[..., 0]


def _require_agreement(image: Image.Image, coloured: np.ndarray, path: str | Path) -> None:
    """A mask's transparency must agree with its colours, and these must be those that were drawn."""
    if image.format in LOSSY:
        raise MediaError(path, "a mask in a lossless format", f"a {image.format}", "Fetch the mask as a PNG.")
    opacity = alpha(image)
    if opacity is not None and not np.array_equal(coloured, opacity == 255):
        found = f"{np.count_nonzero(opacity < 255)} transparent pixels that contradict the colours"
        raise MediaError(path, "an opaque mask", found, "Write the mask in grey or RGB, without alpha.")
