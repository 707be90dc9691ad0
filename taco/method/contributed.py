"""Methods of others: run one on samples, and take its answers as this benchmark's predictions. No torch.

A method is a function in a file of its own (`methods/` has two) that the configuration names under ``methods``::

    def predict(sample, state):          # one sample: a map, a mask, or class ids
    def predict(samples, state):         # a generator: takes an iterator of samples, yields an answer for each
    def setup(options, device):          # optional, called once: what it returns is ``state``

It sees `Sample` and nothing of the truth. Nothing heavy is imported here, so that a method runs in an environment of
its own.
"""

import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from taco import entries, runtime
from taco.data import datasets, media
from taco.metrics import min_max
from taco.metrics.tasks import TASKS

VARIANT = "contributed"
"""The variant under which contributed methods stand in score rows."""
DETERMINISTIC = -1


class MethodError(ValueError):
    """The answer of a contributed method cannot be scored: says which, what was expected and found."""


@dataclass(frozen=True)
class Features:
    """What the pipeline's frozen models have made of a sample, for methods that ask for it (``features: true``).

    Attributes
    ----------
    image_tokens : float32 [rows, columns, C_I]
        CLIP's dense tokens in the space shared with text, clamped at >= 0.
    audio_tokens : float32 [T, C_A]
    sound_embedding : float32 [D]
        CLAP's.
    class_image : float32 [J, C_I]
        CLIP's text embeddings of the dataset's classes, not normalised.
    class_sound : float32 [J, D]
        CLAP's.
    """

    image_tokens: np.ndarray
    audio_tokens: np.ndarray
    sound_embedding: np.ndarray
    class_image: np.ndarray
    class_sound: np.ndarray


@dataclass(frozen=True)
class Sample:
    """What a method is given.

    Attributes
    ----------
    key : str
        ``"<dataset>/<sample_id>"``.
    task : str
    kind : {"binary", "semantic"}
        What is asked for: a map or mask of what is heard, or class ids.
    image : uint8 [H, W, 3]
        RGB.
    sound : float32 [T]
        Mono, at ``rate`` Hz; of a clip's frame its own piece.
    rate : int
    classes : tuple of str
        The dataset's own classes.
    first_id : int
        Id of the first class: 0 where the list begins with the background, else 1; id 0 is background in any case.
    seed : int
        A seeded method must give the same answer for the same seed.
    features : Features or None
    """

    key: str
    task: str
    kind: str
    image: np.ndarray
    sound: np.ndarray
    rate: int
    classes: tuple[str, ...]
    first_id: int
    seed: int
    features: Features | None = None


def read_sample(
    record: Mapping[str, Any],
    task: str,
    dataset: Mapping[str, Any],
    rate: int,
    seed: int,
    features: Features | None = None,
) -> Sample:
    """Read a manifest row's image and sound: what a method is given of it."""
    classes = tuple(datasets.class_names(dataset))
    return Sample(
        key=f"{dataset['name']}/{record['sample_id']}",
        task=task,
        kind="semantic" if TASKS[task].kind == "semantic" else "binary",
        image=media.read_image(record["image"]),
        sound=media.read_sound(record["audio"], record["start"], record["duration"], rate),
        rate=rate,
        classes=classes,
        first_id=0 if classes[0] == "background" else 1,
        seed=seed,
        features=features,
    )


def seeds_of(options: Mapping[str, Any], settings: Mapping[str, Any]) -> list[int]:
    """Seeds with which a method is run."""
    return list(settings["seeds"]) if options["seeded"] else [settings["seed"]]


def told(
    options: Mapping[str, Any],
    codes: Mapping[str, str],
    code: str,
    size: int,
    rate: int,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Settings of `basis`: of the method, of its own and the stage's ``code``, and of what else it is given."""
    return {
        "method": options,
        "entry": codes.get(options["entry"]),
        "code": code,
        "size": size,
        "rate": rate,
        "device": settings["device"],
        "seeds": seeds_of(options, settings),
    }


def basis(
    frame: pd.DataFrame, dataset: Mapping[str, Any], settings: Mapping[str, Any], features: Sequence[Any] = ()
) -> str:
    """Digest of everything that a method's answers on a shard depend on.

    Parameters
    ----------
    frame : DataFrame
        The shard's rows of the manifest. Images and sounds count with their content: another one may have the same name.
    dataset : mapping
        As `read_sample` takes it.
    settings : mapping
        Of the method, of its code, and of what else it is given.
    features : sequence
        Digests of what frozen models made of the samples, and of the classes' embeddings; empty where the method sees neither.
    """
    files = dict.fromkeys([*frame["image"], *frame["audio"]])
    known = {
        "settings": dict(settings),
        "rows": frame[["sample_id", "image", "audio", "start", "duration"]].astype(str).to_dict("list"),
        "files": [runtime.file_digest(path) for path in files],
        "classes": datasets.class_names(dataset),
        "features": list(features),
    }
    return runtime.digest(known)


class Method(NamedTuple):
    """A loaded method."""

    name: str
    predict: Callable
    state: Any

    def answers(self, samples: Iterable[Sample]) -> Iterator[tuple[Sample, Any]]:
        """Yield each sample with the method's answer, as it came."""
        if not inspect.isgeneratorfunction(self.predict):
            for sample in samples:
                yield sample, self.predict(sample, self.state)
            return
        given, kept = tee(samples)
        found = self.predict(given, self.state)
        for sample in kept:
            try:
                yield sample, next(found)
            except StopIteration:
                raise MethodError(
                    f"{self.name}: expected an answer for each sample, found none for {sample.key} and those after it"
                ) from None


def load(name: str, entry: str, options: Mapping[str, Any], device: str) -> Method:
    """Load a method and set it up.

    Parameters
    ----------
    name : str
    entry : str
        A file (``methods/mine.py``) or a module (``package.module``), with ``:function`` where it is not ``predict``.
    options : mapping
        The configuration's, for ``setup``.
    device : str
        ``cpu`` or ``cuda``, for ``setup``.

    Raises
    ------
    taco.entries.EntryError
    """
    key = f"methods.{name}.entry"
    predict = entries.load_function(entry, key, "predict")
    setup = getattr(entries.load_module(entries.split(entry)[0], key), "setup", None)
    return Method(name, predict, setup(dict(options), device) if setup else None)


def finish(name: str, sample: Sample, answer: Any, size: int) -> np.ndarray:
    """Bring an answer to the size at which it is scored.

    Parameters
    ----------
    name : str
        Of the method, for errors.
    sample : Sample
    answer : array [h, w] of any size
        Binary tasks: float, any finite values, stretched to 0..1 over the image as TACO's maps are; or bool, a mask.
        Semantic tasks: integers, class ids.
    size : int

    Returns
    -------
    float32 [size, size] for a binary task, int16 for a semantic one

    Raises
    ------
    MethodError
    """
    values = np.asarray(answer)
    if values.ndim != 2 or not values.size:
        raise MethodError(f"{name}: expected an array [H, W] for {sample.key}, found shape {values.shape}")
    if sample.kind == "semantic":
        last = len(sample.classes) - 1 + sample.first_id
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > last:
            raise MethodError(
                f"{name}: expected class ids 0 to {last} for {sample.key}, found {values.dtype} in "
                f"[{values.min()}, {values.max()}]"
            )
        return _nearest(values, size).astype(np.int16)
    if values.dtype == bool:
        return _nearest(values, size).astype(np.float32)
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        raise MethodError(
            f"{name}: expected a finite float map or a bool mask for {sample.key}, found {values.dtype}"
            + (
                ""
                if values.dtype.kind != "f"
                else f" with {np.sum(~np.isfinite(values))} values that are not finite"
            )
        )
    return _bicubic(min_max(values), size)


def _nearest(values: np.ndarray, size: int) -> np.ndarray:
    """As torch's ``nearest``: each pixel takes the one at the floor of its corner."""
    rows, columns = (np.arange(size) * length // size for length in values.shape)
    return values[rows[:, None], columns]


def _bicubic(scores: np.ndarray, size: int) -> np.ndarray:
    """As TACO's own maps are resized, by torch's ``bicubic`` with aligned corners, but without torch."""
    rows, columns = (_cubic_weights(length, size) for length in scores.shape)
    return (rows @ scores.astype(np.float64) @ columns.T).astype(np.float32)


def _cubic_weights(length: int, size: int) -> np.ndarray:
    """Weights [size, length] of cubic convolution (a = -0.75) on a line whose ends stay the ends."""
    place = np.arange(size) * (length - 1) / max(size - 1, 1)
    whole = np.floor(place).astype(int)
    weights = np.zeros((size, length))
    for offset in (-1, 0, 1, 2):
        x, a = np.abs(place - whole - offset), -0.75
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        index = np.clip(whole + offset, 0, length - 1)
        np.add.at(weights, (np.arange(size), index), np.where(x <= 1, near, far))
    return weights


def run(
    method: Method,
    samples: Sequence[Callable[[int], Sample]],
    seeds: Sequence[int],
    size: int,
    progress: Callable[[], Any] = lambda: None,
) -> np.ndarray:
    """Answers of a method to the samples of one task.

    Parameters
    ----------
    method : Method
    samples : sequence of callables
        Each makes a sample for a seed; media are read when its turn comes.
    seeds : sequence of int
    size : int
    progress : callable
        Called after each answer.

    Returns
    -------
    float32 or int16 [S, R, size, size], see `finish`
    """
    found: list[list[np.ndarray]] = [[] for _ in samples]
    for seed in seeds:
        made = (make(seed) for make in samples)
        for index, (sample, answer) in enumerate(method.answers(made)):
            found[index].append(finish(method.name, sample, answer, size))
            progress()
    return np.array(found)


def check(method: Method, samples: Sequence[Sample], size: int) -> tuple[list[str], float]:
    """What is wrong with a method's answers to some samples, and the milliseconds that each took."""
    problems: list[str] = []
    began, first = time.perf_counter(), None
    try:
        first = [finish(method.name, sample, answer, size) for sample, answer in method.answers(samples)]
        spent = 1000 * (time.perf_counter() - began) / len(samples)
        again = [finish(method.name, sample, answer, size) for sample, answer in method.answers(samples)]
    except MethodError as error:
        return [str(error)], math.nan
    for sample, one, other in zip(samples, first, again, strict=True):
        if not np.array_equal(one, other):
            problems.append(
                f"{method.name}: expected the same answer twice for {sample.key} and one seed, found two"
            )
        if sample.kind == "binary" and one.min() == one.max():
            problems.append(f"{method.name}: the map of {sample.key} is constant, so nothing stands out")
    return problems, spent
