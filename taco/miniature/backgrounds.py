"""Backgrounds of the miniature world's scenes: five drawn surfaces, clutter that means nothing, and light."""

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw


def paint(rng: Generator, name: str, size: int) -> np.ndarray:
    """Draw a background with its clutter.

    Parameters
    ----------
    rng : numpy.random.Generator
    name : str
        One of `NAMES`.
    size : int
        Side of the picture in pixels.

    Returns
    -------
    ndarray of float32, shape (size, size, 3)
        RGB in [0, 1].
    """
    image = _PAINTERS[name](rng, size)
    _clutter(rng, image)
    return np.asarray(image, dtype=np.float32) / 255


def light(rng: Generator, size: int) -> np.ndarray:
    """Gain of the light over the picture, shape (size, size, 3): level, a slope and a slight tint."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    slope = rng.uniform(-0.12, 0.12, 2).astype(np.float32)
    gain = np.float32(rng.uniform(0.85, 1.12)) + slope[0] * axis[:, None] + slope[1] * axis[None]
    return gain[..., None] * rng.uniform(0.95, 1.05, 3).astype(np.float32)


def _tone(rng: Generator, hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    """A jittered, muted colour as 8-bit RGB."""
    jitter = rng.uniform(-1, 1, 3)
    hsv = ((hue + 0.04 * jitter[0]) % 1, saturation * (1 + 0.3 * jitter[1]), value * (1 + 0.12 * jitter[2]))
    r, g, b = (int(255 * min(c, 1.0)) for c in colorsys.hsv_to_rgb(*hsv))
    return r, g, b


def _sky(rng: Generator, size: int) -> Image.Image:
    """A vertical gradient with pale clouds."""
    top, bottom = np.array(_tone(rng, 0.58, 0.3, 0.75)), np.array(_tone(rng, 0.58, 0.1, 0.92))
    ramp = np.linspace(0, 1, size)[:, None, None]
    rows = np.broadcast_to(top + ramp * (bottom - top), (size, size, 3))
    image = Image.fromarray(rows.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 5)):
        x, y, w, h = rng.uniform((0, 0, 12, 5), (size, size, 30, 10))
        draw.ellipse((x - w, y - h, x + w, y + h), fill=_tone(rng, 0.58, 0.04, 0.93))
    return image


def _meadow(rng: Generator, size: int) -> Image.Image:
    """Muted green with blades of grass."""
    image = Image.new("RGB", (size, size), _tone(rng, 0.27, 0.25, 0.5))
    draw = ImageDraw.Draw(image)
    shades = [_tone(rng, 0.27, 0.3, value) for value in (0.38, 0.46, 0.56, 0.62)]
    blades = rng.uniform((0, 0, -3, 4), (size, size, 3, 11), (90, 4))
    for index, (x, y, lean, height) in enumerate(blades.tolist()):
        draw.line((x, y, x + lean, y - height), fill=shades[index % 4])
    return image


def _bricks(rng: Generator, size: int) -> Image.Image:
    """Rows of staggered bricks."""
    image = Image.new("RGB", (size, size), _tone(rng, 0.08, 0.08, 0.72))
    draw = ImageDraw.Draw(image)
    height, width = int(rng.integers(11, 16)), int(rng.integers(24, 34))
    shades = [_tone(rng, 0.03, 0.35, 0.52) for _ in range(4)]
    for row, y in enumerate(range(-int(rng.integers(height)), size, height)):
        for x in range(-(row % 2) * width // 2 - width // 4, size, width):
            draw.rectangle((x, y, x + width - 3, y + height - 3), fill=shades[(row * 7 + x) % 4])
    return image


def _planks(rng: Generator, size: int) -> Image.Image:
    """Upright boards with dark joints and a little grain."""
    image = Image.new("RGB", (size, size), _tone(rng, 0.09, 0.3, 0.25))
    draw = ImageDraw.Draw(image)
    width = int(rng.integers(16, 26))
    for x in range(-int(rng.integers(width)), size, width):
        draw.rectangle((x, 0, x + width - 2, size), fill=_tone(rng, 0.09, 0.32, 0.6))
        for offset in rng.integers(2, width - 2, 3).tolist():
            draw.line((x + offset, 0, x + offset, size), fill=_tone(rng, 0.09, 0.32, 0.52))
    return image


def _tiles(rng: Generator, size: int) -> Image.Image:
    """A floor of square grey tiles in two shades."""
    shades = [_tone(rng, rng.random(), 0.05, value) for value in (0.62, 0.72)]
    image = Image.new("RGB", (size, size), _tone(rng, 0.1, 0.05, 0.45))
    draw = ImageDraw.Draw(image)
    side, x0, y0 = int(rng.integers(18, 30)), int(rng.integers(18)), int(rng.integers(18))
    for row, y in enumerate(range(-y0, size, side)):
        for column, x in enumerate(range(-x0, size, side)):
            draw.rectangle((x, y, x + side - 2, y + side - 2), fill=shades[(row + column) % 2])
    return image


def _clutter(rng: Generator, image: Image.Image) -> None:
    """Scatter small shapes and lines of any hue, which mean nothing."""
    draw, size = ImageDraw.Draw(image), image.size[0]
    for _ in range(rng.integers(5, 13)):
        kind, fill = (
            int(rng.integers(4)),
            _tone(rng, rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.85)),
        )
        x, y, a, b = rng.uniform((0, 0, 2, 2), (size, size, 6, 6)).tolist()
        if kind == 0:
            draw.ellipse((x - a, y - a, x + a, y + a), fill=fill)
        elif kind == 1:
            draw.rectangle((x - a, y - b, x + a, y + b), fill=fill)
        elif kind == 2:
            draw.polygon((x, y - a, x + b, y + a, x - b, y + a), fill=fill)
        else:
            dx, dy = rng.uniform(-30, 30, 2).tolist()
            draw.line((x, y, x + dx, y + dy), fill=fill, width=int(rng.integers(1, 3)))


_PAINTERS: dict[str, Callable[[Generator, int], Image.Image]] = {
    "sky": _sky, "meadow": _meadow, "bricks": _bricks, "planks": _planks, "tiles": _tiles,
}  # fmt: skip
NAMES: tuple[str, ...] = tuple(_PAINTERS)
