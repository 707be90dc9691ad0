"""Drawn scenes of the miniature world: objects of 18 classes over cluttered backgrounds, still or moving.

A class is a shape, a texture of two tones and a hue; a grey accent part is shared by several classes. All drawing
is by signed distances on the pixel grid, so edges are antialiased and masks are exact.
"""

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from taco.miniature import vocabulary
from taco.miniature.sounds import phrase_for

MIN_RADIUS, MAX_RADIUS = 24.0, 37.0
MIN_VISIBLE = 0.4
"""Least visible share of each object of a sampled scene, at every second of its clip."""

CLIP_SECONDS = 10
"""Moving scenes keep `MIN_VISIBLE` for this long."""

BACKGROUNDS: tuple[str, ...] = ("sky", "meadow", "bricks", "planks", "tiles")


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


@dataclass(frozen=True)
class Scene:
    """A background and objects in drawing order (the last lies on top); `seed` fixes background and noise."""

    background: str
    objects: tuple[SceneObject, ...]
    size: int
    seed: int


# ---------------------------------------------------------------- shapes: signed distance in units of the radius


def _circle(u, v, x=0.0, y=0.0, r=1.0):
    return np.hypot(u - x, v - y) - r


def _box(u, v, x=0.0, y=0.0, a=1.0, b=1.0):
    return np.maximum(np.abs(u - x) - a, np.abs(v - y) - b)


def _polygon(u, v, sides, r=0.9, turn=0.0):
    angles = turn + 2 * np.pi * np.arange(sides) / sides
    return np.max([u * np.cos(a) + v * np.sin(a) for a in angles], axis=0) - r * np.cos(np.pi / sides)


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

_ACCENTS = (
    lambda u, v: _circle(u, v, 0.0, 0.1, 0.2),
    lambda u, v: _box(u, v, 0.0, 0.15, 0.5, 0.09),
    lambda u, v: np.abs(_circle(u, v, 0.0, 0.0, 0.3)) - 0.07,
)
_CLASSES = vocabulary.SOUNDING + vocabulary.SILENT


# ---------------------------------------------------------------- sampling


def sample_scene(
    rng: Generator,
    *,
    sounding: Sequence[str],
    silent: Sequence[str] = (),
    size: int = 124,
    moving: bool = False,
) -> Scene:
    """Draw a scene in which every object stays visible to at least `MIN_VISIBLE`.

    Parameters
    ----------
    rng : numpy.random.Generator
    sounding, silent : sequence of str
        Classes to show, each at most once; `silent` may hold any class. Their order does not show.
    size : int
        Width and height in pixels.
    moving : bool
        Whether the objects move; visibility then holds for `CLIP_SECONDS`.

    Returns
    -------
    Scene

    Raises
    ------
    ValueError
        If a class is unknown or named twice, or the objects do not fit.
    """
    names = [*sounding, *silent]
    unknown = sorted(set(names) - set(_CLASSES))
    if unknown or len(set(names)) != len(names):
        raise ValueError(f"expected distinct classes of {_CLASSES}, found {names}")
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    seed = int(rng.integers(2**31))
    order = rng.permutation(len(names))
    for attempt in range(400):
        largest = max(MAX_RADIUS - 2.5 * max(len(names) - 2, 0) - attempt / 10, MIN_RADIUS + 1) * size / 124
        objects = tuple(
            _sample_object(rng, names[i], bool(i < len(sounding)), largest, size, moving) for i in order
        )
        scene = Scene(background, objects, size, seed)
        if _all_visible(scene, np.arange(0.5, CLIP_SECONDS) if moving else (0.0,)):
            return scene
    raise ValueError(f"{len(names)} objects found no place in {size} x {size} pixels; ask for fewer")


def _sample_object(
    rng: Generator, name: str, sounding: bool, largest: float, size: int, moving: bool
) -> SceneObject:
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


def _all_visible(scene: Scene, times: Sequence[float]) -> bool:
    """Check visibility on every fourth pixel, with a little reserve."""
    axis = np.arange(2, scene.size, 4, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    for time in times:
        covered = np.zeros(x.shape, dtype=bool)
        for item in reversed(scene.objects):
            u, v = _local(item, x, y, time, scene.size)
            inside = _SHAPES[item.name](u, v) < 0
            total = inside.sum()
            if (inside & ~covered).sum() < (MIN_VISIBLE + 0.05) * total:
                return False
            covered |= inside
    return True


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


# ---------------------------------------------------------------- drawing


def render(scene: Scene, time: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene.

    Parameters
    ----------
    scene : Scene
    time : float
        Seconds since the clip's start; a function of it alone, so frames may be drawn in any order.

    Returns
    -------
    image : ndarray of uint8, shape (size, size, 3)
    masks : ndarray of bool, shape (len(scene.objects), size, size)
        Visible part of each object, in the order of `scene.objects`; masks are disjoint.
    """
    rng = np.random.default_rng((scene.seed, 0))
    canvas = _BACKGROUND_PAINTERS[scene.background](rng, scene.size)
    _clutter(rng, canvas)
    canvas = np.asarray(canvas, dtype=np.float32) / 255
    masks = np.zeros((len(scene.objects), scene.size, scene.size), dtype=bool)
    for index, item in enumerate(scene.objects):
        window, coverage, colour = _paint(item, time, scene.size)
        patch = canvas[window]
        patch += coverage[..., None] * (colour - patch)
        inside = coverage >= 0.5
        masks[(slice(None, index), *window)] &= ~inside
        masks[(index, *window)] = inside
    canvas *= _light(rng, scene.size)
    noise = np.random.default_rng((scene.seed, 1, round(time * 1000)))
    canvas += noise.standard_normal(canvas.shape, dtype=np.float32) * np.float32(0.02)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8), masks


def _paint(item: SceneObject, time: float, size: int):
    """Draw one object; return its window (two slices), coverage in [0, 1] and colours over that window."""
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
    pattern = _TEXTURES[texture](u * radius + offset, v * radius + offset, np.float32(item.period))
    share = np.clip(0.5 + 1.4 * pattern, 0, 1)[..., None]
    base, second, accent = (np.array(c, dtype=np.float32) for c in (item.base, item.second, item.accent))
    colour = base + share * (second - base)
    part = np.clip(0.5 - _ACCENTS[_CLASSES.index(item.name) % 3](u, v) * radius, 0, 1)[..., None]
    colour += part * (accent - colour)
    colour *= (1 - 0.12 * v - 0.55 * np.clip(distance + 2.0, 0, 1))[
        ..., None
    ]  # light from above, dark outline
    return (rows, columns), np.clip(0.5 - distance, 0, 1).astype(np.float32), colour


def _light(rng: Generator, size: int) -> np.ndarray:
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


_BACKGROUND_PAINTERS: dict[str, Callable[[Generator, int], Image.Image]] = {
    "sky": _sky, "meadow": _meadow, "bricks": _bricks, "planks": _planks, "tiles": _tiles,
}  # fmt: skip


# ---------------------------------------------------------------- captions


def describe(rng: Generator, scene: Scene) -> str:
    """Write an image caption from names (about 50 %), synonyms (35 %) and family words (15 %) of the objects.

    One of several objects is left out in about a tenth of the captions; the order is random. The background is
    never named.
    """
    named = [scene.objects[i].name for i in rng.permutation(len(scene.objects))]
    if len(named) > 1 and rng.random() < 0.1:
        named = named[:-1]
    phrases = [
        vocabulary.with_article(phrase_for(rng, name)) for name in named[: max(vocabulary.IMAGE_TEMPLATES)]
    ]
    if not phrases:
        raise ValueError("expected a scene with objects, found an empty one; there is nothing to describe")
    templates = vocabulary.IMAGE_TEMPLATES[len(phrases)]
    return templates[rng.integers(len(templates))].format(*phrases)
