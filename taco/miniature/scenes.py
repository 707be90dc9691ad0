"""Drawn scenes of the miniature world: `taco.miniature.objects` over `taco.miniature.backgrounds`, still or moving."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from taco.miniature import backgrounds, vocabulary
from taco.miniature.objects import CLASSES, MAX_RADIUS, MIN_RADIUS, SceneObject, inside, paint, sample_object
from taco.miniature.sounds import phrase_for

MIN_VISIBLE = 0.4
"""Least visible share of each object of a sampled scene, at every second of its clip."""

CLIP_SECONDS = 10
"""Moving scenes keep `MIN_VISIBLE` for this long."""


@dataclass(frozen=True)
class Scene:
    """A background and objects in drawing order (the last lies on top); `seed` fixes background and noise."""

    background: str
    objects: tuple[SceneObject, ...]
    size: int
    seed: int


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
    unknown = sorted(set(names) - set(CLASSES))
    if unknown or len(set(names)) != len(names):
        raise ValueError(f"expected distinct classes of {CLASSES}, found {names}")
    background = backgrounds.NAMES[rng.integers(len(backgrounds.NAMES))]
    seed = int(rng.integers(2**31))
    order = rng.permutation(len(names))
    for attempt in range(400):
        largest = max(MAX_RADIUS - 2.5 * max(len(names) - 2, 0) - attempt / 10, MIN_RADIUS + 1) * size / 124
        objects = tuple(
            sample_object(rng, names[i], bool(i < len(sounding)), largest, size, moving) for i in order
        )
        scene = Scene(background, objects, size, seed)
        if _all_visible(scene, np.arange(0.5, CLIP_SECONDS) if moving else (0.0,)):
            return scene
    raise ValueError(f"{len(names)} objects found no place in {size} x {size} pixels; ask for fewer")


def _all_visible(scene: Scene, times: Sequence[float]) -> bool:
    """Check visibility on every fourth pixel, with a little reserve."""
    axis = np.arange(2, scene.size, 4, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    for time in times:
        covered = np.zeros(x.shape, dtype=bool)
        for item in reversed(scene.objects):
            own = inside(item, x, y, time, scene.size)
            if (own & ~covered).sum() < (MIN_VISIBLE + 0.05) * own.sum():
                return False
            covered |= own
    return True


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
    canvas = backgrounds.paint(rng, scene.background, scene.size)
    masks = np.zeros((len(scene.objects), scene.size, scene.size), dtype=bool)
    for index, item in enumerate(scene.objects):
        window, coverage, colour = paint(item, time, scene.size)
        patch = canvas[window]
        patch += coverage[..., None] * (colour - patch)
        seen = coverage >= 0.5
        masks[(slice(None, index), *window)] &= ~seen
        masks[(index, *window)] = seen
    canvas *= backgrounds.light(rng, scene.size)
    noise = np.random.default_rng((scene.seed, 1, round(time * 1000)))
    canvas += noise.standard_normal(canvas.shape, dtype=np.float32) * np.float32(0.02)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8), masks


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
