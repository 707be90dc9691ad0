"""What a figure or a page shows of one sample. No torch.

Maps and activations were kept while the samples were scored, by `taco.method.examples`.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from taco import metrics
from taco.cache.hdf5 import Cache, open_cache
from taco.data import manifest, media
from taco.method import controls
from taco.method.contributed import VARIANT
from taco.method.text import CLASSES, Labels, Text
from taco.metrics.tasks import TASKS
from taco.results import aggregate

TACO, U_ONLY, NAMED = "TACO", "U only", "A-FC-CLIP"
PATCH_STRIDE = 4  # of HTS-AT's patch embedding; each later stage halves both axes


class ExampleError(ValueError):
    """An example cannot be shown or chosen; says what was expected and what was found."""


@dataclass(frozen=True)
class Shown:
    """One row of a figure of examples, or one page of the gallery.

    Attributes
    ----------
    task, sample_id, clip_id : str
    classes : list of str
        Sounding classes, where known.
    image : uint8 [H, W, 3]
    wave : float32 [T]
        The sound that was heard, as long as the model's window, at the model's ``rate``.
    rate : int
    prediction, truth : float32 in 0..1 and bool, or int class ids, [size, size]
    activation : float32 [rows, columns]
    sound_activation : float32 [frequency rows, time columns]
    words : list of (str, float)
        Labels closest to V_I of factor k*, descending, with their cosines.
    threshold : float
        Best of the whole scored set for this seed (binary tasks; NaN otherwise).
    score : float
        mask-IoU of the image at that threshold, or its mIoU over classes (semantic tasks), 0..1.
    class_names : dict of int to str
        Names of class ids.
    label : str
        Class that TACO names (semantic tasks; "" otherwise).
    sound : {"own", "shuffled"}
    others : dict of str to (array, float)
        Prediction and threshold, as above, of each contributed method by its label; those that heard this image's own sound.
    """

    task: str
    sample_id: str
    clip_id: str
    classes: list[str]
    image: np.ndarray
    wave: np.ndarray
    rate: int
    prediction: np.ndarray
    truth: np.ndarray
    activation: np.ndarray
    sound_activation: np.ndarray
    words: list[tuple[str, float]]
    threshold: float
    score: float
    class_names: dict[int, str]
    label: str = ""
    sound: str = "own"
    others: dict[str, tuple[np.ndarray, float]] = field(default_factory=dict)

    @property
    def semantic(self) -> bool:
        """Whether prediction and truth are maps of class ids."""
        return np.isnan(self.threshold)


def sound_grid(architecture: str | Path) -> tuple[int, int]:
    """Frequency rows and time columns of CLAP's audio tokens, from its architecture file.

    HTS-AT folds the spectrogram's time axis into a square of ``spec_size``; its tokens are unfolded again,
    frequency-major.
    """
    sizes = json.loads(Path(architecture).read_text(encoding="utf-8"))
    spec_size, bands = sizes["audio"]["spec_size"], sizes["spectrogram"]["mel_bins"]
    side = spec_size // PATCH_STRIDE // 2 ** (len(sizes["audio"]["depths"]) - 1)
    folds = spec_size // bands
    return side // folds, side * folds


def column(label: str) -> str:
    """Name of a contributed method's scores in `Source.table`; no label can be taken for another column."""
    return f"{VARIANT}: {label}"


def image_scores(rows: pd.DataFrame) -> tuple[pd.Series, float]:
    """Score of each image for one method and seed, and the threshold it was taken at.

    Parameters
    ----------
    rows : DataFrame
        One (task, method, variant, bank, seed) of `taco.results.score_files.load_rows`.

    Returns
    -------
    Series by sample_id, fractions; threshold (NaN for semantic tasks)
    """
    scores = aggregate.image_scores(rows)["score"]
    if TASKS[rows["task"].iloc[0]].kind == "semantic":
        return scores, np.nan
    _, best = metrics.best_mask_iou(aggregate.threshold_counts(rows))
    return scores, float(metrics.THRESHOLDS[best])


class Source:
    """All examples of one task.

    Parameters
    ----------
    task : str
    samples : DataFrame
        Manifest of the task's whole dataset.
    rows : DataFrame
        The task's score rows.
    caches : sequence of Cache
        Kind ``examples``, one for each shard; they stay open as long as this object is used.
    labels : Labels
        The words to which image factors are compared.
    words : str
        Their word bank.
    classes : list of str
        The dataset's own class names, in the order of the ids.
    hearing : taco.data.media.Hearing
        What the model heard of a sound.
    grid : (int, int)
        From `sound_grid`.
    seed : int
        The suite's; it pairs the exchanged sounds and draws samples.
    """

    def __init__(
        self,
        task: str,
        samples: pd.DataFrame,
        rows: pd.DataFrame,
        caches: Sequence[Cache],
        labels: Labels,
        classes: Sequence[str],
        *,
        words: str,
        hearing: media.Hearing,
        grid: tuple[int, int],
        seed: int,
    ):
        self.task, self.labels, self.words = task, labels, words
        self._home = {sample: cache for cache in caches for sample in cache.sample_ids}
        self.manifest = samples.set_index("sample_id", drop=False)
        self.hearing, self.grid, self.seed = hearing, grid, seed
        self.dataset = caches[0].attributes["dataset"]
        # Background is a class of AVSS (id 0); elsewhere ids count from 1 and 0 is none.
        self.class_names = dict(enumerate(classes, 0 if classes[0] == "background" else 1))
        self.first_seed, self.bank = caches[0].attributes["seed"], caches[0].attributes["bank"]
        banks = [self.bank, "specific", "none"]
        self.contributed: list[str] = list(caches[0].attributes["contributed"])
        self.rows = rows[rows["seed"].isin([self.first_seed, -1]) & rows["word_bank"].isin(banks)]

    def cell(self, method: str, variant: str = "proposed") -> pd.DataFrame:
        """Rows of one method and variant: first seed, default bank (A-FC-CLIP: its own; contributed methods: none)."""
        bank = self.bank if method in (TACO, U_ONLY) else "none" if variant == VARIANT else "specific"
        rows = self.rows
        return rows[
            (rows["method"] == method) & (rows["variant"] == variant) & (rows["word_bank"] == bank)
        ].sort_values("sample_id")

    @property
    def table(self) -> pd.DataFrame:
        """Scores of all images: ``taco``, ``shuffled``, ``u_only``, ``named`` (where scored), contributed methods by
        `column`, and what is known of the images.
        """
        return self._scored[0]

    @property
    def thresholds(self) -> dict[str, float]:
        """Threshold behind each column of scores; NaN on semantic tasks."""
        return self._scored[1]

    @cached_property
    def _scored(self) -> tuple[pd.DataFrame, dict[str, float]]:
        cells = {
            "taco": (TACO, "proposed"),
            "shuffled": (TACO, "shuffled audio"),
            "u_only": (U_ONLY, "proposed"),
            "named": (NAMED, "list"),
        }
        cells |= {column(label): (label, VARIANT) for label in self.contributed}
        columns, thresholds = {}, {}
        for name, cell in cells.items():
            rows = self.cell(*cell)
            if len(rows):
                columns[name], thresholds[name] = image_scores(rows)
        known = self.cell(TACO).set_index("sample_id")
        known = known[["clip_id", "class_name", "label", "clap_label", "clap_confidence"]]
        return pd.DataFrame(columns).join(known), thresholds

    def stored(self, name: str, sample: str) -> Any:
        """What was kept of a sample under a name, see `taco.method.examples`."""
        cache = self._home[sample]
        return cache[name][cache.position(sample)]

    def truth(self, sample: str) -> np.ndarray:
        """Truth of a sample at the resolution of the scores."""
        return self.stored("truth", sample)

    def similarity(self, sample: str, prefix: str = "") -> tuple[np.ndarray, int]:
        """Cosines of all image factors with the labels' CLIP embeddings, float32 [K, J], and k*."""
        factors = _unit_rows(self.stored(f"{prefix}image_factors", sample))
        return factors @ _unit_rows(self.labels.clip).T, int(self.stored(f"{prefix}k_star", sample))

    def shown(self, sample: str | None, sound: str = "own", n_words: int = 5) -> Shown | None:
        """Gather what is to be seen of a sample, with its own sound or with the one it gets when shuffled.

        None for no sample, or where exchanged sounds were not scored.
        """
        own = sound == "own"
        if sample is None or not (own or "shuffled" in self.table):
            return None
        row = self.manifest.loc[sample]
        heard = row if own else self.manifest.loc[self._partners.loc[sample]]
        column = "taco" if own else "shuffled"
        score, threshold = float(self.table.loc[sample, column]), self.thresholds[column]
        prefix = "" if own else "shuffled/"
        prediction, (similarity, k_star) = (
            self.stored(f"{prefix}prediction", sample),
            self.similarity(sample, prefix),
        )
        return Shown(
            task=self.task,
            sample_id=sample,
            clip_id=row["clip_id"],
            classes=[str(name) for name in row["classes"]],
            image=media.read_image(row["image"]),
            wave=self.hearing.hear(heard, self.dataset),
            rate=self.hearing.sample_rate,
            prediction=prediction if np.isnan(threshold) else prediction.astype(np.float32) / 255,
            truth=self.truth(sample),
            activation=self.stored(f"{prefix}image_activation", sample).astype(np.float32),
            sound_activation=self.stored(f"{prefix}audio_activation", sample)
            .astype(np.float32)
            .reshape(self.grid),
            words=closest(similarity[k_star], self.labels.names, n_words),
            threshold=threshold,
            score=score,
            class_names=self.class_names,
            label=self.table.loc[sample, "label"] if own and np.isnan(threshold) else "",
            sound=sound,
            others=self._others(sample) if own else {},
        )

    def _others(self, sample: str) -> dict[str, tuple[np.ndarray, float]]:
        """What contributed methods answer."""
        found = {}
        for number, label in enumerate(self.contributed):
            kept, threshold = self.stored(f"contributed/{number}", sample), self.thresholds[column(label)]
            found[label] = kept if np.isnan(threshold) else kept.astype(np.float32) / 255, threshold
        return found

    @cached_property
    def _partners(self) -> pd.Series:
        return controls.shuffled_samples(self.manifest.reset_index(drop=True), self.seed)


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; a zero row stays, as its cosine with everything is 0."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(rows.dtype).tiny)


def closest(similarity: np.ndarray, names: Sequence[str], n: int) -> list[tuple[str, float]]:
    """The n labels of greatest similarity [J], descending; of equals, the first of the bank."""
    order = np.argsort(-similarity.astype(np.float64), kind="stable")[:n]
    return [(names[i], float(similarity[i])) for i in order]


def open_sources(
    stack: ExitStack,
    examples: Sequence[str | Path],
    manifests: Mapping[str, str | Path],
    text: str | Path,
    rows: pd.DataFrame,
    clap: Mapping[str, Any],
    heard: Mapping[str, Any],
    bank: str,
    seed: int,
) -> dict[str, Source]:
    """Open the examples of all tasks.

    Parameters
    ----------
    stack : ExitStack
        Closes the caches.
    examples : sequence of path
        Caches of all tasks and shards.
    manifests : mapping
        Dataset's name to its manifest.
    text : path
    rows : DataFrame
        Score rows of all tasks.
    clap : mapping
        The configuration's ``models.clap``.
    heard : mapping
        The configuration's ``features``: ``audio_crop`` and ``stereo`` count.
    bank : str
        Word bank to whose labels image factors are compared.
    seed : int

    Returns
    -------
    dict task → Source
    """
    words, grid = Text(text), sound_grid(clap["architecture"])
    window = round(clap["window"] * clap["sample_rate"])
    hearing = media.Hearing(clap["sample_rate"], window, heard["audio_crop"], seed, heard["stereo"])
    frames = {name: manifest.read(path) for name, path in manifests.items()}
    opened: dict[tuple[str, str], list[Cache]] = {}
    for path in examples:
        cache = stack.enter_context(open_cache(path, "examples"))
        opened.setdefault((cache.attributes["task"], cache.attributes["dataset"]), []).append(cache)
    return {
        task: Source(
            task,
            frames[dataset],
            rows[rows["task"] == task],
            caches,
            words.labels(dataset, bank),
            words.labels(dataset, CLASSES).names,
            words=bank,
            hearing=hearing,
            grid=grid,
            seed=seed,
        )
        for (task, dataset), caches in opened.items()
    }
