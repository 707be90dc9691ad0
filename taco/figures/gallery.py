"""A gallery of samples as static pages that open from disk: one table to sort, one page for each sample. No torch."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
import soundfile
from PIL import Image
from scipy import ndimage

from taco.data.media import spectrogram
from taco.figures.drawing import ACTIVATION_MAP, PREDICTED, SOUND_MAP, TRUE, cut_out, square
from taco.figures.examples import Shown, Source, column
from taco.method.contributed import VARIANT
from taco.metrics.tasks import TASKS
from taco.results import aggregate, score_files
from taco.results.tables import suite_title
from taco.runtime import generator

TEMPLATES = Path(__file__).parent / "templates"
LARGEST_SIDE = 360
SOUND_STRIP = 12
PHOTOGRAPHS = ("image", "spectrogram")
PICTURES = ("image", "activation", "prediction", "truth", "spectrogram")


@dataclass(frozen=True)
class Page:
    """One sample's page, ready to be printed.

    Attributes
    ----------
    task, title, sample, classes, words, heard, metric : str
    href : str
        The page, from the index.
    names, files : dict of str
        File of each picture and of the sound: from the page, and from the index.
    scores : dict of str
        Percent by method, "" where not scored.
    confidence, threshold, named : str
        ``named``: the classes that TACO's regions bear (semantic tasks).
    all_scores : list of dict
        method, variant, word_bank, score.
    others : list of dict
        Of each contributed method: label, file (from the page), threshold and named as above, score.
    """

    task: str
    title: str
    sample: str
    classes: str
    words: str
    heard: str
    metric: str
    href: str
    names: dict[str, str]
    files: dict[str, str]
    scores: dict[str, str]
    confidence: str
    threshold: str
    named: str
    all_scores: list[dict[str, str]]
    others: list[dict[str, str]]


def write(
    folder: str | Path,
    sources: Mapping[str, Source],
    rows: pd.DataFrame,
    suite: str,
    samples: int | None,
    seed: int,
) -> int:
    """Write the gallery.

    Parameters
    ----------
    folder : path
        Made if need be; ``index.html`` is written last.
    sources : dict task → Source
    rows : DataFrame
        All score rows.
    suite : str
    samples : int or None
        At most that many samples of each task, drawn by ``seed``; None: all.
    seed : int

    Returns
    -------
    int
        Number of pages.
    """
    folder = Path(folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    template = environment.get_template("sample.html.j2")
    common = {"suite": suite, "suite_title": suite_title(suite)}
    pages: list[Page] = []
    for task, source in sources.items():
        (folder / task).mkdir(parents=True, exist_ok=True)
        scores = all_scores(rows[rows["task"] == task])
        chosen = subset(source, samples, seed)
        for number, sample in enumerate(chosen):
            page = _page(folder, source, sample, f"{number:04d}", scores)
            neighbours = {
                "before": f"{number - 1:04d}.html" if number else "",
                "after": f"{number + 1:04d}.html" if number + 1 < len(chosen) else "",
            }
            text = template.render(page=page, **neighbours, **common)
            (folder / page.href).write_text(text, encoding="utf-8")
            pages.append(page)
    for name in ("gallery.css", "gallery.js"):
        shutil.copyfile(TEMPLATES / name, folder / name)
    tasks = [(task, TASKS[task].title) for task in sources]
    contributed = list(dict.fromkeys(label for source in sources.values() for label in source.contributed))
    index = environment.get_template("gallery.html.j2").render(
        pages=pages, tasks=tasks, others={column(label): label for label in contributed}, **common
    )
    (folder / "index.html").write_text(index, encoding="utf-8")
    return len(pages)


def subset(source: Source, samples: int | None, seed: int) -> list[str]:
    """Samples of the gallery, in the order of the manifest; a draw by seed where there are more than wanted."""
    known = [sample for sample in source.manifest.index if sample in source.table.index]
    if samples is None or samples >= len(known):
        return known
    rng = generator(seed, "gallery", source.task)
    return [known[i] for i in sorted(rng.choice(len(known), samples, replace=False))]


def all_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Score of each image by (method, variant, word bank), mean over seeds: samples × cells, fractions."""
    cells = score_files.cells(rows, ("method", "variant", "word_bank"))
    return pd.DataFrame({key: aggregate.image_scores(group)["score"] for key, group in cells})


def _page(folder: Path, source: Source, sample: str, name: str, scores: pd.DataFrame) -> Page:
    """Write a sample's pictures and sound, and describe its page."""
    shown, known = source.shown(sample), source.table.loc[sample]
    task = source.task
    names = {key: f"{name}-{key}.{'jpg' if key in PHOTOGRAPHS else 'png'}" for key in PICTURES}
    names["sound"] = f"{name}-sound.wav"
    for key, picture in pictures(shown):
        picture.save(folder / task / names[key], quality=90)
    soundfile.write(folder / task / names["sound"], shown.wave.clip(-1, 1), shown.rate, subtype="PCM_16")
    columns = {column(label): (label, VARIANT, "none") for label in source.contributed} | {
        "taco": ("TACO", "proposed", source.bank),
        "u_only": ("U only", "proposed", source.bank),
        "named": ("A-FC-CLIP", "list", "specific"),
        "shuffled": ("TACO", "shuffled audio", source.bank),
    }
    own = scores.loc[sample]
    return Page(
        task=task,
        title=TASKS[task].title,
        sample=sample,
        classes=", ".join(shown.classes) or ("not given" if shown.truth.any() else "nothing"),
        words=", ".join(f"{label} {value:.2f}" for label, value in shown.words),
        heard=str(known["clap_label"]),
        metric="mIoU" if shown.semantic else "mask-IoU",
        href=f"{task}/{name}.html",
        names=names,
        files={key: f"{task}/{file}" for key, file in names.items()},
        scores={key: _percent(own[cell]) if cell in own.index else "" for key, cell in columns.items()},
        confidence=f"{known['clap_confidence']:.2f}",
        threshold="" if shown.semantic else f"{shown.threshold:.2f}",
        named=_region_names(shown, shown.prediction) if shown.semantic else "",
        all_scores=[
            {"method": method, "variant": variant, "word_bank": bank, "score": _percent(value)}
            for (method, variant, bank), value in own.items()
        ],
        others=_others(folder / task, name, shown, own),
    )


def _others(folder: Path, name: str, shown: Shown, scores: pd.Series) -> list[dict[str, str]]:
    """Write the answers of contributed methods, and describe them."""
    found = []
    for number, (label, (prediction, threshold)) in enumerate(shown.others.items()):
        file = f"{name}-contributed-{number}.png"
        answered(shown, prediction, threshold).save(folder / file)
        found.append(
            {
                "label": label,
                "file": file,
                "threshold": "" if shown.semantic else f"{threshold:.2f}",
                "named": _region_names(shown, prediction) if shown.semantic else "",
                "score": _percent(scores[label, VARIANT, "none"]),
            }
        )
    return found


def _region_names(shown: Shown, prediction: np.ndarray) -> str:
    ids = np.unique(prediction[prediction > 0])
    return ", ".join(shown.class_names[int(i)] for i in ids) or "no region"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


# ----------------------------------------------------------------------------------------- pictures


def pictures(shown: Shown) -> Iterator[tuple[str, Image.Image]]:
    """Yield the pictures of a sample by name (`PICTURES`)."""
    photo = Image.fromarray(shown.image)
    photo.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    yield "image", photo
    yield "activation", _coloured(shown.activation, ACTIVATION_MAP)
    yield "prediction", answered(shown, shown.prediction, shown.threshold)
    if shown.semantic:
        yield "truth", class_regions(shown.image, shown.truth, _present(shown))
    else:
        yield "truth", outlined(shown.image, shown.truth.astype(bool), TRUE)
    yield "spectrogram", sound_picture(shown)


def answered(shown: Shown, prediction: np.ndarray, threshold: float) -> Image.Image:
    """A method's answer over the image: a map above its threshold, or class ids."""
    if shown.semantic:
        return class_regions(shown.image, prediction, _present(shown))
    return outlined(shown.image, prediction > threshold, PREDICTED)


def _present(shown: Shown) -> list[int]:
    """Class ids of the truth and of all answers, so that a class has one colour on its page."""
    answers = [shown.truth, shown.prediction, *(prediction for prediction, _ in shown.others.values())]
    return [int(i) for i in np.unique(np.concatenate([ids.ravel() for ids in answers])) if i]


def _coloured(values: np.ndarray, colours: str) -> Image.Image:
    """Values in 0..1 [H, W] through a colour map."""
    return Image.fromarray(matplotlib.colormaps[colours](values, bytes=True)[..., :3].copy())


def outlined(image: np.ndarray, mask: np.ndarray, colour: str) -> Image.Image:
    """Colours inside the mask, pale grey outside, a line of the given colour around."""
    picture = cut_out(square(image, len(mask)), mask)
    edge = ndimage.binary_dilation(mask, iterations=max(1, len(mask) // 120)) & ~mask
    picture[edge] = np.rint(255 * np.asarray(matplotlib.colors.to_rgb(colour)))
    return Image.fromarray(picture)


def class_regions(image: np.ndarray, ids: np.ndarray, present: Sequence[int]) -> Image.Image:
    """Class ids [size, size] in a colour for each of ``present``, over a pale image."""
    picture = cut_out(square(image, len(ids)), np.zeros(ids.shape, dtype=bool)) / 255
    for i, colour in zip(present, sns.color_palette("colorblind", max(len(present), 1)), strict=True):
        picture[ids == i] = 0.35 * picture[ids == i] + 0.65 * np.asarray(colour)
    return Image.fromarray(np.rint(255 * picture).astype(np.uint8))


def sound_picture(shown: Shown) -> Image.Image:
    """The spectrogram (low frequencies below), with a strip of U_A over time above it."""
    decibels = spectrogram(shown.wave, shown.rate).decibels
    below = matplotlib.colormaps[SOUND_MAP](decibels[::-1] / 80 + 1, bytes=True)[..., :3]
    values = shown.sound_activation.mean(axis=0)
    stretched = values[np.arange(decibels.shape[1]) * len(values) // decibels.shape[1]]
    above = matplotlib.colormaps[ACTIVATION_MAP](stretched, bytes=True)[None, :, :3].repeat(
        SOUND_STRIP, axis=0
    )
    return Image.fromarray(np.concatenate([above, below]))
