"""Photographs of people's own: any format, mode and orientation, as the RGB pixels that a viewer would show.

Datasets are read otherwise (`taco.data.media.read_image`): their masks are drawn on the stored pixels, so there an
orientation tag is ignored. Here it is obeyed.
"""

import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from taco.data.pictures import DEEP_GREY, open_image
from taco.data.problems import MediaError

PHOTO_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
)
DEEP_WHITE = 65535


def upright(photo: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """Bring a photograph to RGB pixels, the right way up.

    Parameters
    ----------
    photo : path, PIL image or array
        An array is uint8 [H, W, 3]. Of anything else: an EXIF orientation is applied, what is transparent becomes white,
        16 bits become 8, palettes and CMYK become RGB, and of an animation the first frame is taken.

    Returns
    -------
    numpy.ndarray
        uint8 [H, W, 3] in 0..255, H and W at least 1.

    Raises
    ------
    MediaError
        The file is no image, is incomplete, or its pixels have no known range.
    """
    if isinstance(photo, np.ndarray):
        return _checked(photo)
    if isinstance(photo, Image.Image):
        return _rgb(photo, "image")
    return _rgb(open_image(photo), photo)


def _checked(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        found = f"{pixels.dtype} {list(pixels.shape)}"
        raise MediaError("image", "an array uint8 [H, W, 3]", found, "Convert it, or give a PIL image.")
    return np.ascontiguousarray(pixels)


def _rgb(image: Image.Image, name: str | Path) -> np.ndarray:
    try:
        image = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):  # a broken EXIF block
        image = image.copy()
    if image.mode in DEEP_GREY:
        return _grey(np.asarray(image).astype(np.float64), DEEP_WHITE, name)
    if image.mode == "F":
        return _grey(np.asarray(image).astype(np.float64), 1.0, name)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _grey(values: np.ndarray, white: float, name: str | Path) -> np.ndarray:
    """Grey values 0..white [H, W] as RGB."""
    low, high = values.min(), values.max()
    if not (np.isfinite(values).all() and low >= 0 and high <= white):
        raise MediaError(
            name, f"grey values of 0 to {white:g}", f"{low:g} to {high:g}", "Save it as an 8-bit PNG."
        )
    return np.rint(values * (255 / white)).astype(np.uint8)[..., None].repeat(3, axis=2)
