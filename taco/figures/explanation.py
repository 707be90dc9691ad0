"""The page of one pair: every factor over the image and over the sound, its words, and which one was chosen. No torch."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import soundfile
from PIL import Image

from taco.data.media import spectrogram
from taco.figures.drawing import ACTIVATION_MAP, SOUND_MAP
from taco.results.tables import suite_title

TEMPLATES = Path(__file__).parent / "templates"
LARGEST_SIDE, SOUND_SIZE, STRIP = 360, (360, 132), 40
VEIL = 0.62  # how much of an activation's colour lies over the image


@dataclass(frozen=True)
class Row:
    """One factor on the page.

    Attributes
    ----------
    number : int
        From 1.
    chosen : bool
    cross_entropy : float
    image_activation : float [rows, columns] in 0..1
    sound_activation : float [frequency rows, time columns] in 0..1
    seen, heard : sequence of (word, cosine in CLIP's space, cosine in CLAP's space)
    """

    number: int
    chosen: bool
    cross_entropy: float
    image_activation: np.ndarray
    sound_activation: np.ndarray
    seen: Sequence[tuple[str, float, float]]
    heard: Sequence[tuple[str, float, float]]


def page(
    rows: Sequence[Row],
    image: np.ndarray,
    overlay: np.ndarray,
    soft: np.ndarray,
    wave: np.ndarray,
    rate: int,
    known: Mapping[str, Any],
) -> str:
    """One HTML page that needs nothing beside it.

    Parameters
    ----------
    rows : sequence of Row
        All factors; printed in the order of their cross-entropies.
    image, overlay : uint8 [H, W, 3]
    soft : float [H, W]
        Map of the chosen factor, about 0..1.
    wave : float32 [T]
        What the model heard, at ``rate``.
    rate : int
    known : mapping
        ``suite``, ``image``, ``sound`` (names), ``heard``, ``method``, ``visible``, ``confidence``, ``threshold``, ``margin``,
        ``words`` (count), ``seconds``.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    ordered = sorted(rows, key=lambda row: (row.cross_entropy, row.number))
    least, most = ordered[0].cross_entropy, ordered[-1].cross_entropy
    factors = [
        {
            "number": row.number,
            "chosen": row.chosen,
            "cross_entropy": row.cross_entropy,
            "share": (row.cross_entropy - least) / max(most - least, 1e-9),
            "image": embedded(over_image(image, row.image_activation)),
            "sound": embedded(over_sound(wave, rate, row.sound_activation)),
            "seen": row.seen,
            "heard": row.heard,
        }
        for row in ordered
    ]
    pictures = {
        "image": embedded(thumbnail(image)),
        "overlay": embedded(thumbnail(overlay)),
        "map": embedded(thumbnail(coloured(soft.clip(0, 1), ACTIVATION_MAP))),
        "spectrogram": embedded(Image.fromarray(spectrogram_pixels(wave, rate))),
        "wave": sound_uri(wave, rate),
    }
    return environment.get_template("explanation.html.j2").render(
        factors=factors,
        pictures=pictures,
        known=known,
        length=len(wave) / rate,
        suite_title=suite_title(known["suite"]),
    )


def thumbnail(pixels: np.ndarray) -> Image.Image:
    """Pixels uint8 [H, W, 3] as a picture of at most `LARGEST_SIDE`; a small one is enlarged, so that it can be looked at."""
    image = Image.fromarray(pixels)
    scale = LARGEST_SIDE / max(image.size)
    size = tuple(max(1, round(scale * side)) for side in image.size)
    return image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


def coloured(values: np.ndarray, colours: str) -> np.ndarray:
    """Values in 0..1 [H, W] through a colour map, uint8 [H, W, 3]."""
    return matplotlib.colormaps[colours](values, bytes=True)[..., :3]


def over_image(image: np.ndarray, activation: np.ndarray) -> Image.Image:
    """An activation [rows, columns] in 0..1 as a veil of colour over the grey image."""
    picture = thumbnail(image)
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None]
    spread = Image.fromarray(activation.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    veil = coloured(np.asarray(spread), ACTIVATION_MAP)
    return Image.fromarray(np.rint((1 - VEIL) * grey + VEIL * veil).astype(np.uint8))


def spectrogram_pixels(wave: np.ndarray, rate: int) -> np.ndarray:
    """The spectrogram of what is heard, low frequencies below, uint8 [h, w, 3]."""
    decibels = spectrogram(wave, rate).decibels[::-1]
    picture = Image.fromarray(coloured(decibels / 80 + 1, SOUND_MAP))
    return np.array(picture.resize(SOUND_SIZE, Image.Resampling.BILINEAR))


def over_sound(wave: np.ndarray, rate: int, activation: np.ndarray) -> Image.Image:
    """An activation over time (mean over frequency rows) as a curve above the spectrogram, which is dark where it is low."""
    below = spectrogram_pixels(wave, rate).astype(np.float32)
    width = below.shape[1]
    values = activation.mean(axis=0)
    spread = np.interp((np.arange(width) + 0.5) / width * len(values) - 0.5, np.arange(len(values)), values)
    below *= (0.25 + 0.75 * spread)[None, :, None]
    above = np.full((STRIP, width, 3), 255, dtype=np.float32)
    filled = np.arange(STRIP)[::-1, None] < spread * STRIP
    colours = coloured(spread, ACTIVATION_MAP)[None].repeat(STRIP, axis=0)
    above[filled] = colours[filled]
    return Image.fromarray(np.rint(np.concatenate([above, below])).astype(np.uint8))


def embedded(picture: Image.Image) -> str:
    """A picture as a data URI."""
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def sound_uri(wave: np.ndarray, rate: int) -> str:
    """A sound as a data URI, WAV of 16 bits."""
    stream = io.BytesIO()
    soundfile.write(stream, wave.clip(-1, 1), rate, format="WAV", subtype="PCM_16")
    return "data:audio/wav;base64," + base64.b64encode(stream.getvalue()).decode()
