"""Objects of the miniature world's scenes: how one of 18 classes looks, moves and is painted.

A class is a shape, a texture of two tones and a hue; a grey accent part is shared by several classes. All drawing
is by signed distances on the pixel grid, so edges are antialiased and masks are exact.
"""

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from taco.miniature import vocabulary

CLASSES: tuple[str, ...] = vocabulary.SOUNDING + vocabulary.SILENT
MIN_RADIUS, MAX_RADIUS = 24.0, 37.0
"""In a picture of 124 pixels."""


@dataclass(frozen=True)
class SceneObject:
    """One object: class, motion in pixels and seconds, and looks.

    Attributes
    ----------
    name : str
        Class.
    sounding : bool
        Whether it was asked for as a sounding object.
    position, velocity : tuple of float
        Centre (x, y) at time 0 in pixels; pixels per second. It bounces off the borders.
    radius : float
        Half extent in pixels.
    rotation, spin : float
        Radians at time 0; radians per second of a gentle swing.
    base, second, accent : tuple of float
        RGB in [0, 1] of the texture's two tones and of the grey part.
    period, phase : float
        Texture's period in pixels and its phase.
    """

    name: str
    sounding: bool
    position: tuple[float, float]
    velocity: tuple[float, float]
    radius: float
    rotation: float
    spin: float
    base: tuple[float, float, float]
    second: tuple[float, float, float]
    accent: tuple[float, float, float]
    period: float
    phase: float


# ---------------------------------------------------------------- shapes: signed distance in units of the radius


def _circle(u, v, x=0.0, y=0.0, r=1.0):
    return np.hypot(u - x, v - y) - r


def _box(u, v, x=0.0, y=0.0, a=1.0, b=1.0):
    return np.maximum(np.abs(u - x) - a, np.abs(v - y) - b)


def _polygon(u, v, sides, r=0.9, turn=0.0):
    # Numbers of Python, not of NumPy: those are doubles that would draw in double precision.
    angles = [turn + 2 * math.pi * side / sides for side in range(sides)]
    return np.max([u * math.cos(a) + v * math.sin(a) for a in angles], axis=0) - r * math.cos(math.pi / sides)


def _trapezoid(u, v, top, bottom, height=0.9):
    half = top + (bottom - top) * (v + height) / (2 * height)
    return np.maximum((np.abs(u) - half) * 0.9, np.abs(v) - height)


def _bell(u, v):
    dome = np.maximum(_circle(u, v, 0, -0.3, 0.62), v + 0.3)
    skirt = np.maximum(np.abs(u) - (0.62 + 0.28 * np.clip(v + 0.3, 0, 1.2) ** 2), np.abs(v - 0.25) - 0.57)
    return np.minimum(dome, skirt)


def _bird(u, v):
    body = (np.hypot(u / 0.72, (v - 0.15) / 0.55) - 1) * 0.55
    tail = np.maximum(np.maximum(-0.95 - u, u + 0.1), np.abs(v - 0.05) - 0.5 * np.clip(-u, 0, 1))
    return np.minimum(np.minimum(body, tail), _circle(u, v, 0.5, -0.4, 0.42))


def _gear(u, v):
    return np.hypot(u, v) - (0.84 + 0.14 * np.clip(2.5 * np.cos(8 * np.arctan2(v, u)), -1, 1))


def _star(u, v):
    return (np.hypot(u, v) - (0.78 + 0.2 * np.cos(5 * np.arctan2(v, u) + np.pi / 2))) * 0.8


_SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "bell": _bell,
    "gong": lambda u, v: _circle(u, v, r=0.93),
    "bird": _bird,
    "whistle": lambda u, v: np.minimum(_circle(u, v, -0.28, 0.15, 0.65), _box(u, v, 0.3, -0.24, 0.62, 0.27)),
    "drum": lambda u, v: _box(u, v, a=0.92, b=0.68),
    "hammer": lambda u, v: np.minimum(_box(u, v, 0, -0.5, 0.92, 0.4), _box(u, v, 0, 0.3, 0.33, 0.65)),
    "engine": _gear,
    "mower": lambda u, v: np.maximum((np.hypot(u / 0.98, (v - 0.5) / 1.15) - 1) * 0.98, v - 0.5),
    "guitar": lambda u, v: np.minimum(_circle(u, v, 0, 0.34, 0.65), _circle(u, v, 0, -0.46, 0.52)),
    "harp": lambda u, v: _polygon(u, v, 3, r=1.05, turn=0.25),
    "siren": lambda u, v: _polygon(u, v, 6, r=0.95),
    "alarm": _star,
    "vase": lambda u, v: np.maximum(np.abs(u) - (0.42 + 0.42 * v * v), np.abs(v) - 0.92),
    "kite": lambda u, v: (np.abs(u) * 1.25 + np.abs(v) - 0.97) * 0.65,
    "lamp": lambda u, v: _trapezoid(u, v, 0.3, 0.92, 0.75),
    "chair": lambda u, v: np.minimum(_box(u, v, -0.5, 0, 0.35, 0.92), _box(u, v, 0.2, 0.5, 0.68, 0.4)),
    "flag": lambda u, v: np.maximum(np.abs(u) - 0.92, np.abs(v - 0.18 * np.sin(3.6 * u)) - 0.52),
    "balloon": lambda u, v: (np.hypot(u / 0.68, v / 0.95) - 1) * 0.68,
}  # fmt: skip


# ---------------------------------------------------------------- textures: share of the second tone, in pixels


def _wave(x, period):
    return np.cos(2 * np.pi * x / period)


_TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "rows": lambda x, y, p: _wave(y, p),
    "columns": lambda x, y, p: _wave(x, p),
    "checks": lambda x, y, p: 1.5 * _wave(x, 1.5 * p) * _wave(y, 1.5 * p),
    "dots": lambda x, y, p: _wave(x, p) + _wave(y, p) - 0.6,
    "grid": lambda x, y, p: 2 * (np.maximum(_wave(x, 1.2 * p), _wave(y, 1.2 * p)) - 0.65),
    "rings": lambda x, y, p: _wave(np.hypot(x, y), p),
    "rays": lambda x, y, p: np.cos(9 * np.arctan2(y, x)),
    "zigzag": lambda x, y, p: _wave(y + 0.5 * p * np.abs((x / p) % 2 - 1) * 2, p),
}

# name: shape is by name; texture, hue, whether the second tone is light (else dark)
_LOOKS: dict[str, tuple[str, float, bool]] = {
    "bell": ("rows", 0.150, False), "gong": ("rings", 0.075, False), "bird": ("zigzag", 0.615, True),
    "whistle": ("dots", 0.510, True), "drum": ("checks", 0.0, True), "hammer": ("columns", 0.745, False),
    "engine": ("grid", 0.390, False), "mower": ("dots", 0.260, False), "guitar": ("columns", 0.075, True),
    "harp": ("grid", 0.880, True), "siren": ("rays", 0.615, False), "alarm": ("rings", 0.0, False),
    "vase": ("rows", 0.510, False), "kite": ("checks", 0.260, True), "lamp": ("zigzag", 0.150, True),
    "chair": ("checks", 0.880, False), "flag": ("rows", 0.390, True), "balloon": ("dots", 0.745, True),
}  # fmt: skip

_ACCENTS: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    lambda u, v: _circle(u, v, 0.0, 0.1, 0.2),
    lambda u, v: _box(u, v, 0.0, 0.15, 0.5, 0.09),
    lambda u, v: np.abs(_circle(u, v, 0.0, 0.0, 0.3)) - 0.07,
)


# ---------------------------------------------------------------- sampling, motion, drawing


def sample_object(
    rng: Generator, name: str, sounding: bool, largest: float, size: int, moving: bool
) -> SceneObject:
    """Draw place, size, motion and colours of an object.

    Parameters
    ----------
    rng : numpy.random.Generator
    name : str
        One of `CLASSES`.
    sounding : bool
        Kept beside it.
    largest : float
        Largest radius in pixels.
    size : int
        Side of the picture in pixels.
    moving : bool
        Whether it moves.

    Returns
    -------
    SceneObject
    """
    _, hue, light = _LOOKS[name]
    radius = rng.uniform(MIN_RADIUS * size / 124, largest)
    margin = 0.85 * radius
    heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(4, 11) * size / 124 if moving else 0.0
    hue = (hue + rng.uniform(-0.018, 0.018)) % 1
    saturation, value = rng.uniform(0.7, 0.95), rng.uniform(0.72, 0.95)
    tone = (0.28 * saturation, 1.0) if light else (saturation, 0.38 * value)
    grey = rng.uniform(0.4, 0.75)
    return SceneObject(
        name=name,
        sounding=sounding,
        position=(float(rng.uniform(margin, size - margin)), float(rng.uniform(margin, size - margin))),
        velocity=(float(speed * np.cos(heading)), float(speed * np.sin(heading))),
        radius=float(radius),
        rotation=float(rng.uniform(-0.35, 0.35)),
        spin=float(rng.uniform(-0.25, 0.25)) if moving else 0.0,
        base=colorsys.hsv_to_rgb(hue, saturation, value),
        second=colorsys.hsv_to_rgb(hue, *tone),
        accent=(grey, grey, grey),
        period=float(rng.uniform(8.5, 10.5)),
        phase=float(rng.uniform(0, 10)),
    )


def _centre(item: SceneObject, time: float, size: int) -> tuple[float, float]:
    """Position at a time, bounced off borders that keep most of the object in view."""
    low, high = 0.85 * item.radius, size - 0.85 * item.radius
    span = high - low
    travelled = [(p - low + v * time) % (2 * span) for p, v in zip(item.position, item.velocity, strict=True)]
    x, y = (low + span - abs(t - span) for t in travelled)
    return x, y


def _local(item: SceneObject, x: np.ndarray, y: np.ndarray, time: float, size: int):
    """Pixel coordinates in the object's own turned frame, in units of its radius."""
    cx, cy = _centre(item, time, size)
    angle = item.rotation + 0.3 * np.sin(item.spin * time)
    c, s = np.float32(np.cos(angle) / item.radius), np.float32(np.sin(angle) / item.radius)
    x, y = x - np.float32(cx), y - np.float32(cy)
    return c * x + s * y, c * y - s * x


def inside(item: SceneObject, x: np.ndarray, y: np.ndarray, time: float, size: int) -> np.ndarray:
    """Whether points, in pixels of a picture of side `size`, lie within an object at a time."""
    return _SHAPES[item.name](*_local(item, x, y, time, size)) < 0


def paint(item: SceneObject, time: float, size: int) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Draw one object by itself.

    Parameters
    ----------
    item : SceneObject
    time : float
        Seconds since the clip's start.
    size : int
        Side of the picture in pixels.

    Returns
    -------
    window : (slice, slice)
        Rows and columns of the picture that the object may touch.
    coverage : ndarray of float32, shape (h, w)
        Share of each pixel of the window that the object covers, in [0, 1].
    colour : ndarray of float32, shape (h, w, 3)
        RGB of the object there, about 0 to 1.
    """
    cx, cy = _centre(item, time, size)
    reach = 1.32 * item.radius + 2
    rows = slice(max(int(cy - reach), 0), min(int(cy + reach) + 1, size))
    columns = slice(max(int(cx - reach), 0), min(int(cx + reach) + 1, size))
    x, y = np.meshgrid(
        np.arange(columns.start, columns.stop, dtype=np.float32),
        np.arange(rows.start, rows.stop, dtype=np.float32),
    )
    u, v = _local(item, x, y, time, size)
    radius = np.float32(item.radius)
    distance = _SHAPES[item.name](u, v) * radius
    texture = _LOOKS[item.name][0]
    offset = np.float32(item.phase if texture not in ("rings", "rays") else 0)
    # In single precision, as all of the picture, but a number of Python: NumPy's would make singles of its multiples.
    period = float(np.float32(item.period))
    pattern = _TEXTURES[texture](u * radius + offset, v * radius + offset, period)
    share = np.clip(0.5 + 1.4 * pattern, 0, 1)[..., None]
    base, second, accent = (np.array(c, dtype=np.float32) for c in (item.base, item.second, item.accent))
    colour = base + share * (second - base)
    part = np.clip(0.5 - _ACCENTS[CLASSES.index(item.name) % 3](u, v) * radius, 0, 1)[..., None]
    colour += part * (accent - colour)
    # Light from above, dark outline.
    colour *= (1 - 0.12 * v - 0.55 * np.clip(distance + 2.0, 0, 1))[..., None]
    return (rows, columns), np.clip(0.5 - distance, 0, 1).astype(np.float32), colour
