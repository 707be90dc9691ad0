"""Figures that show samples: grids of image, activation, map, truth and sound. No torch.

A figure is drawn at its printed size (full text width, 7.2 inches), with fonts of at least 6 points and
colours that colour-blind readers can tell apart. Every figure ends with a line that names its suite.
"""

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")  # before pyplot: figures go to files only

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from PIL import Image
from scipy import ndimage

from taco.data.media import spectrogram
from taco.figures.examples import Shown
from taco.metrics.tasks import TASKS
from taco.results.tables import suite_title
from taco.runtime import atomic_write

WIDTH = 7.2
DPI = 160
NOTE_WIDTH = 150  # characters of a note's line
LINE_WIDTH = 132  # characters of the line over a row
# Okabe and Ito's palette (as seaborn's "colorblind"): the answer, the truth, and lines beside them.
PREDICTED, TRUE = "#0072B2", "#D55E00"
ACTIVATION_MAP, SOUND_MAP = "viridis", "magma"
# The formulas that figures show. Names of others may hold dollars: nothing else is one.
OWN_MATH = re.compile(r"^(\$\\beta_p\$|[^$]*\$[UV]_[IA]\^\{k\*\}\$[^$]*)$")
HALO = [patheffects.withStroke(linewidth=1.6, foreground="white")]


def style() -> None:
    """Set seaborn's and matplotlib's defaults for all figures of the package."""
    sns.set_theme(
        context="paper",
        style="ticks",
        palette="colorblind",
        rc={
            "font.size": 7,
            "axes.titlesize": 8,
            "axes.labelsize": 7,
            "xtick.labelsize": 6.5,
            "ytick.labelsize": 6.5,
            "legend.fontsize": 6.5,
            "legend.frameon": False,
            "axes.linewidth": 0.6,
            **{
                f"{axis}tick.major.{key}": value
                for axis in "xy"
                for key, value in (("width", 0.6), ("size", 3))
            },
            "pdf.fonttype": 42,
            "svg.fonttype": "none",
            "svg.hashsalt": "taco",
            "text.parse_math": False,
        },
    )


def save(figure: Figure, paths: Iterable[str | Path]) -> None:
    """Write a figure to each path, in the format of its ending, without dates; then close it.

    Parameters
    ----------
    figure : Figure
    paths : iterable of path
        ``.png`` (160 dots per inch), ``.pdf`` or ``.svg``.
    """
    for text in figure.findobj(matplotlib.text.Text):
        text.set_parse_math(bool(OWN_MATH.search(text.get_text())))
    for path in map(Path, paths):
        kind = path.suffix[1:]
        dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
        with atomic_write(path) as partial:
            figure.savefig(partial, format=kind, dpi=DPI, metadata=dates)
    plt.close(figure)


def footer(suite: str, note: str) -> str:
    """The lines under a figure: what is seen, wrapped to the figure's width, and which suite it is."""
    return "\n".join([*textwrap.wrap(note, NOTE_WIDTH), suite_title(suite)])


# ------------------------------------------------------------------------------- cells of a grid


def square(image: np.ndarray, size: int) -> np.ndarray:
    """Squash an image uint8 [H, W, 3] to [size, size, 3], as truth and maps are."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def cut_out(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Keep an image's colours inside a mask; pale grey outside.

    Parameters
    ----------
    image : uint8 [H, W, 3]
    mask : bool [H, W]

    Returns
    -------
    uint8 [H, W, 3]
    """
    grey = image @ np.array([0.299, 0.587, 0.114])
    pale = (0.35 * grey + 0.65 * 255)[..., None].repeat(3, axis=-1)
    return np.where(mask[..., None], image, pale).astype(np.uint8)


def _panel(figure: Figure, place: SubplotSpec) -> Axes:
    axes = figure.add_subplot(place)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color("0.6")
    return axes


def _outlined(figure: Figure, place: SubplotSpec, shown: Shown, mask: np.ndarray, colour: str) -> None:
    axes = _panel(figure, place)
    axes.imshow(cut_out(square(shown.image, len(mask)), mask))
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=colour, linewidths=1.2)
    if not mask.any():
        axes.text(0.5, 0.5, "empty", transform=axes.transAxes, ha="center", va="center", color=colour)


def draw_image(figure: Figure, place: SubplotSpec, shown: Shown) -> None:
    """The image, squashed to a square."""
    _panel(figure, place).imshow(square(shown.image, len(shown.truth)))


def draw_activation(figure: Figure, place: SubplotSpec, shown: Shown) -> None:
    """U_I of factor k*, as a matrix, from 0 to 1."""
    axes = _panel(figure, place)
    axes.imshow(shown.activation, cmap=ACTIVATION_MAP, vmin=0, vmax=1, interpolation="nearest", aspect="auto")


def draw_map(figure: Figure, place: SubplotSpec, shown: Shown) -> None:
    """TACO's soft map, from 0 to 1."""
    axes = _panel(figure, place)
    axes.imshow(shown.prediction, cmap=ACTIVATION_MAP, vmin=0, vmax=1, interpolation="nearest")


def draw_mask(figure: Figure, place: SubplotSpec, shown: Shown) -> None:
    """TACO's mask at the set's threshold (binary), or its named regions (semantic)."""
    if shown.semantic:
        _draw_classes(figure, place, shown, shown.prediction)
    else:
        _outlined(figure, place, shown, shown.prediction > shown.threshold, PREDICTED)


def draw_truth(figure: Figure, place: SubplotSpec, shown: Shown) -> None:
    """The truth, drawn as `draw_mask` draws the answer."""
    if shown.semantic:
        _draw_classes(figure, place, shown, shown.truth)
    else:
        _outlined(figure, place, shown, shown.truth.astype(bool), TRUE)


def _draw_classes(figure: Figure, place: SubplotSpec, shown: Shown, ids: np.ndarray) -> None:
    """Regions in a colour by class, the same in answer and truth, each with its name."""
    axes = _panel(figure, place)
    present = [i for i in np.union1d(shown.prediction, shown.truth) if i]
    colours = dict(zip(present, sns.color_palette("colorblind", max(len(present), 1)), strict=False))
    picture = square(shown.image, len(ids)) / 255
    picture = 0.7 + 0.3 * picture.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    for i in present:
        picture[ids == i] = 0.35 * picture[ids == i] + 0.65 * np.asarray(colours[i])
    axes.imshow(picture)
    if not (ids > 0).any():
        axes.text(0.5, 0.5, "no region", transform=axes.transAxes, ha="center", va="center")
    for i in np.unique(ids[ids > 0]):
        row, column = ndimage.center_of_mass(ids == i)
        column = float(np.clip(column, 0.25 * len(ids), 0.75 * len(ids)))
        axes.text(
            column, row, shown.class_names[int(i)], ha="center", va="center", fontsize=6.5, path_effects=HALO
        )


def draw_sound(figure: Figure, place: SubplotSpec, shown: Shown) -> None:
    """The spectrogram, and above it U_A of factor k* over time (mean over frequency rows), from 0 to 1."""
    parts = place.subgridspec(2, 1, height_ratios=[1, 2], hspace=0.08)
    seconds = len(shown.wave) / shown.rate
    above = figure.add_subplot(parts[0])
    values = shown.sound_activation.mean(axis=0)
    edges = np.linspace(0, seconds, len(values) + 1)
    above.stairs(values, edges, fill=True, color=PREDICTED, alpha=0.35)
    above.stairs(values, edges, color=PREDICTED, linewidth=0.8)
    above.set(xlim=(0, seconds), ylim=(0, 1.02), xticks=[], yticks=[0, 1])
    above.tick_params(
        length=1.5, pad=1, labelsize=6, left=False, right=True, labelleft=False, labelright=True
    )
    below = figure.add_subplot(parts[1])
    picture = spectrogram(shown.wave, shown.rate)
    below.imshow(
        picture.decibels,
        origin="lower",
        aspect="auto",
        cmap=SOUND_MAP,
        vmin=-80,
        vmax=0,
        extent=(0, seconds, 0, shown.rate / 2000),
    )
    below.set(xticks=[0, seconds], yticks=[])
    below.set_xticklabels(["0 s", f"{seconds:g} s"])
    below.tick_params(length=1.5, pad=1, labelsize=6)
    dark = [patheffects.withStroke(linewidth=1.2, foreground="black")]
    band = f"{shown.rate / 2000:g} kHz"
    below.text(
        0.02, 0.96, band, transform=below.transAxes, va="top", fontsize=6, color="white", path_effects=dark
    )
    for label, side in zip(below.get_xticklabels(), ("left", "right"), strict=True):
        label.set_horizontalalignment(side)


def draw_words(figure: Figure, place: SubplotSpec, shown: Shown) -> None:
    """The labels closest to V_I of factor k*, with their cosines."""
    axes = figure.add_subplot(place)
    values = [value for _, value in shown.words]
    axes.barh(range(len(values)), values, color=PREDICTED, alpha=0.3, height=0.8)
    for position, (label, value) in enumerate(shown.words):
        axes.text(0.02, position, f"{label}  {value:.2f}", va="center", fontsize=6.5)
    axes.set(xlim=(0, 1), ylim=(len(values) - 0.5, -0.5), yticks=[], xticks=[0, 1])
    axes.tick_params(length=1.5, pad=1, labelsize=6)
    sns.despine(ax=axes, left=True)


# ------------------------------------------------------------------------------------------ grids


class Column(NamedTuple):
    """A column of a grid: its heading, width relative to a picture, and what draws a cell."""

    heading: str
    width: float
    draw: Callable[[Figure, SubplotSpec, Shown], None]


IMAGE = Column("image", 1, draw_image)
ACTIVATION = Column("$U_I^{k*}$", 1, draw_activation)
MAP = Column("TACO, soft map", 1, draw_map)
MASK = Column("TACO, mask", 1, draw_mask)
REGIONS = Column("TACO, class", 1, draw_mask)
TRUTH = Column("truth", 1, draw_truth)
SOUND = Column("$U_A^{k*}$ and sound", 1.25, draw_sound)
WORDS = Column("words closest to $V_I^{k*}$", 1.9, draw_words)
BINARY = (IMAGE, ACTIVATION, MAP, MASK, TRUTH, SOUND)
SEMANTIC = (IMAGE, ACTIVATION, REGIONS, TRUTH, SOUND)
FRAMES = (IMAGE, ACTIVATION, MASK, TRUTH, WORDS)


def describe(shown: Shown, words: int = 3) -> str:
    """One line on a sample: dataset, what sounds, score, closest words."""
    sounding = ", ".join(shown.classes) or ("class not given" if shown.truth.any() else "nothing sounds")
    if shown.sound != "own":
        sounding = f"{sounding}, with another clip's sound"
    score = "mIoU" if shown.semantic else "IoU" if shown.truth.any() else "background left unmarked"
    parts = [f"{TASKS[shown.task].title}: {sounding}", f"{score} {100 * shown.score:.0f}"]
    if shown.label:
        parts.insert(1, f"TACO names {shown.label}")
    if words:
        listed = ", ".join(f"{label} {value:.2f}" for label, value in shown.words[:words])
        parts.append(f"closest words: {listed}")
    return "   |   ".join(parts)


def grid(
    rows: Sequence[tuple[str, Shown | None]],
    columns: Sequence[Column],
    title: str,
    note: str,
    suite: str,
    *,
    words: int = 3,
) -> Figure:
    """Draw samples row by row.

    Parameters
    ----------
    rows : sequence of (str, Shown or None)
        What a row stands for (may be empty), and its sample; None where no sample fits its rule.
    columns : sequence of Column
    title, note : str
        Printed above and below.
    suite : str
    words : int
        Closest words in a row's line.

    Returns
    -------
    Figure
    """
    style()
    note = f"{note} Activations and soft maps: dark is 0, bright is 1."
    total = sum(column.width for column in columns)
    gap = 0.1
    cell = (WIDTH - 0.58 - gap * (len(columns) - 1)) / total
    lines = footer(suite, note).count("\n") + 1
    top, bottom, text = 0.52, 0.28 + 0.12 * lines, 0.2
    height = top + bottom + len(rows) * (cell + text + gap)
    figure = plt.figure(figsize=(WIDTH, height))
    places = GridSpec(
        2 * len(rows),
        len(columns),
        figure,
        left=0.1 / WIDTH,
        right=1 - 0.18 / WIDTH,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=0.09,
        hspace=0.08,
        height_ratios=[text, cell] * len(rows),
        width_ratios=[column.width for column in columns],
    )
    for number, (name, shown) in enumerate(rows):
        line = figure.add_subplot(places[2 * number, :])
        line.axis("off")
        line.text(0, 0.1, _line(name, shown, words), fontsize=7, va="bottom")
        for index, column in enumerate(columns if shown else ()):
            column.draw(figure, places[2 * number + 1, index], shown)
    _headings(figure, places, columns, 1 - (top - 0.05) / height)
    figure.text(0.1 / WIDTH, 1 - 0.06 / height, title, fontsize=9, weight="bold", va="top")
    figure.text(0.1 / WIDTH, 0.05 / height, footer(suite, note), fontsize=6.5, va="bottom", color="0.25")
    return figure


def _line(name: str, shown: Shown | None, words: int) -> str:
    """The line over a row: as many of the closest words as there is room for."""
    prefix = f"{name}:   " if name else ""
    if shown is None:
        return prefix + "no sample fits this rule"
    while words and len(prefix + describe(shown, words)) > LINE_WIDTH:
        words -= 1
    return prefix + describe(shown, words)


def _headings(figure: Figure, places: GridSpec, columns: Sequence[Column], height: float) -> None:
    for index, column in enumerate(columns):
        box = places[1, index].get_position(figure)
        figure.text((box.x0 + box.x1) / 2, height, column.heading, ha="center", va="bottom", fontsize=7.5)


def words_map(
    similarity: np.ndarray, names: Sequence[str], k_star: int, title: str, note: str, suite: str
) -> Figure:
    """Heat map of factor-to-word cosines of one sample, over the words closest to any factor.

    Parameters
    ----------
    similarity : float [K, J]
    names : sequence of str
        The J labels.
    k_star : int
    title, note, suite : str
    """
    style()
    best = np.argsort(-similarity, axis=1, kind="stable")[:, :3]
    # Words of k* first, then those of the other factors, each once.
    order = [k_star, *(k for k in range(len(similarity)) if k != k_star)]
    chosen = list(dict.fromkeys(int(j) for k in order for j in best[k]))
    figure, axes = plt.subplots(figsize=(WIDTH, 2.9), layout="constrained")
    sns.heatmap(
        similarity[np.ix_(order, chosen)],
        ax=axes,
        cmap="cividis",
        xticklabels=[names[j] for j in chosen],
        yticklabels=[f"{k + 1} (k*)" if k == k_star else str(k + 1) for k in order],
        cbar_kws={"label": "cosine", "pad": 0.01},
        linewidths=0.4,
    )
    axes.set(ylabel="factor")
    axes.set_xticks(
        axes.get_xticks(), axes.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.tick_params(axis="y", rotation=0)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, weight="bold")
    figure.supxlabel(footer(suite, note), x=0.01, ha="left", fontsize=6.5, color="0.25")
    return figure


def texts(figure: Figure) -> str:
    """All texts of a figure, joined: what a test or an index can read."""
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text())
