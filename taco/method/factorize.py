"""Soft co-NMF of a shard: every word bank and variant, from one reading of its tokens and one start of V (Sec. 3).

A run is one word bank with one variant. Its factors stand in a file of their own, with a digest of all they depend on
(``basis``), so that a job keeps what is right and solves the rest.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from taco.cache.hdf5 import CacheError, CacheWriter, open_cache
from taco.conmf import Anchors, CoNMF, Initial, Result, Settings
from taco.conmf.settings import PROJECTION
from taco.method import stimuli
from taco.method.controls import shuffled_samples
from taco.method.text import Text
from taco.runtime import array_digest, digest

log = logging.getLogger("taco")

STORED_AS = {
    "image_activations": np.float16,
    "audio_activations": np.float16,
    "image_factors": np.float32,
    "audio_factors": np.float32,
    "k_star": np.int32,
    "cross_entropy": np.float32,
    "reconstruction_image": np.float32,
    "reconstruction_audio": np.float32,
    "objective": np.float32,
}
OWN, SHUFFLED = "own", "shuffled"
MODELS = ("clip_digest", "clap_digest")
"""Attributes of factor files that name the models behind their tokens."""


@dataclass(frozen=True)
class Run:
    """One word bank with one variant on a dataset.

    Attributes
    ----------
    bank, variant : str
    sound : {"own", "shuffled", "silence", "noise"}
        Whose sound each image is solved with.
    solver : mapping
        Arguments of `taco.conmf.Settings`, without seeds.
    """

    bank: str
    variant: str
    sound: str
    solver: Mapping[str, Any]


def expected(text: Text, dataset: str) -> dict[str, Any]:
    """Attributes that a dataset's feature files must have: they were made by the models of the text file."""
    return {"dataset": dataset, **{name: text.attributes[name] for name in MODELS}}


def anchors_of(text: Text, dataset: str, bank: str) -> Anchors:
    """The solver's anchors of a bank on a dataset."""
    labels = text.labels(dataset, bank)
    return Anchors.from_arrays(labels.clip, labels.clap, text.constants)


def read_tokens(
    paths: Iterable[str | Path], expect: Mapping[str, Any], samples: Sequence[str], sounds: Sequence[str] = ()
) -> tuple[list[Tensor], list[Tensor]]:
    """Read image tokens of samples, and audio tokens of others, from as many feature files as they lie in.

    Returns
    -------
    image : list of float16 [N, C_I], one for each of ``samples``
    audio : list of float16 [T, C_A], one for each of ``sounds`` (repeats allowed)

    Raises
    ------
    CacheError
        Also where a sample lies in none of the files.
    """
    paths, image, audio = list(paths), {}, {}
    for path in paths:
        with open_cache(path, "features", expect) as cache:
            held = set(cache.sample_ids)
            for wanted, name, found in ((samples, "image_tokens", image), (sounds, "audio_tokens", audio)):
                for sample in held.intersection(wanted):
                    found[sample] = torch.from_numpy(cache[name][cache.position(sample)])
    if missing := [
        *(one for one in samples if one not in image),
        *(one for one in sounds if one not in audio),
    ]:
        raise CacheError(
            f"{', '.join(map(str, paths))}: expected sample {missing[0]!r}, found others. It was made from another manifest: "
            "delete it and run again."
        )
    return [image[sample] for sample in samples], [audio[sample] for sample in sounds]


@dataclass
class Shard:
    """What the runs of a shard share: tokens, and V's start.

    Attributes
    ----------
    name : str
        Dataset.
    frame : DataFrame
        The shard's rows of the manifest.
    whole : DataFrame
        The dataset's whole manifest, in which shuffled sounds find their partners.
    features : mapping sound → sequence of path
        Feature files to read for ``own`` (the shard's) and ``shuffled`` sounds (all).
    text : Text
    seed : int
        The suite's: of the starts, the pairing and the noises.
    expect : mapping
        Attributes that the feature files must have.
    """

    name: str
    frame: pd.DataFrame
    whole: pd.DataFrame
    features: Mapping[str, Sequence[str | Path]]
    text: Text
    seed: int
    expect: Mapping[str, Any]
    _image: list[Tensor] | None = field(default=None, repr=False)
    _audio: dict[str, list[Tensor]] = field(default_factory=dict, repr=False)
    _starts: dict[tuple, tuple[Tensor, float]] = field(default_factory=dict, repr=False)

    @property
    def samples(self) -> list[str]:
        """Sample ids."""
        return self.frame["sample_id"].tolist()

    @property
    def keys(self) -> list[str]:
        """Names of the samples' random streams."""
        return [f"{self.name}/{sample}" for sample in self.samples]

    def partners(self, sound: str) -> list[str]:
        """Ids of the samples whose sound each sample of the shard is solved with."""
        if sound != SHUFFLED:
            return self.samples
        return shuffled_samples(self.whole, self.seed).loc[self.samples].tolist()

    def image(self) -> list[Tensor]:
        """Image tokens, float16 [N, C_I] each."""
        if self._image is None:
            self._image, self._audio[OWN] = read_tokens(
                self.features[OWN], self.expect, self.samples, self.samples
            )
        return self._image

    def audio(self, sound: str) -> list[Tensor]:
        """Audio tokens of one kind of sound, float16 [T, C_A] each."""
        if sound in stimuli.KINDS:
            return stimuli.tokens(self.text.constants, sound, self.seed, self.keys)
        if sound == OWN:
            self.image()
        elif sound not in self._audio:
            partners = self.partners(sound)
            self._audio[sound] = read_tokens(self.features[sound], self.expect, (), partners)[1]
        return self._audio[sound]

    def start(self, solver: CoNMF, sound: str) -> tuple[Initial, float]:
        """V's start, which runs share, and the seconds that computing it took."""
        image, first = self._start(solver, "image", OWN)
        audio, second = self._start(solver, "audio", sound)
        return Initial(image, audio), first + second

    def _start(self, solver: CoNMF, modality: str, sound: str) -> tuple[Tensor, float]:
        settings = solver.settings
        key = (modality, sound, settings.init, settings.n_components, settings.init_seed)
        if key not in self._starts:
            tokens = self.image() if modality == "image" else self.audio(sound)
            began = time.perf_counter()
            self._starts[key] = (
                solver.initial_factors(tokens, self.keys, modality),
                time.perf_counter() - began,
            )
        return self._starts[key]

    def basis(self, run: Run, seeds: Sequence[int], code: Any) -> str:
        """Digest of everything that a run's factors depend on."""
        labels, constants = self.text.labels(self.name, run.bank), self.text.constants
        names = [*PROJECTION, "clap_logit_scale"] + [f"{run.sound}_tokens"] * (run.sound in stimuli.KINDS)
        arrays = [labels.clip, labels.clap, *(constants[name] for name in names)]
        return digest(
            {
                "run": [self.name, run.bank, run.variant, run.sound, dict(run.solver)],
                "seeds": [self.seed, *seeds],
                "code": code,
                "samples": [self.samples, self.frame["clip_id"].tolist(), self.partners(run.sound)],
                "tokens": self._fingerprints(SHUFFLED if run.sound == SHUFFLED else OWN),
                "anchors": [array_digest(array) for array in arrays],
                "models": {name: self.expect.get(name) for name in MODELS},
            }
        )

    def _fingerprints(self, sound: str) -> list[str]:
        """Digests of the tokens in the feature files that a kind of sound is read from."""
        paths = dict.fromkeys(Path(path).resolve() for path in [*self.features[OWN], *self.features[sound]])
        with ExitStack() as stack:
            caches = [stack.enter_context(open_cache(path, "features", self.expect)) for path in paths]
            return [cache.fingerprint("image_tokens", "audio_tokens") for cache in caches]


def is_right(path: str | Path, basis: str) -> bool:
    """Whether a factor file is whole and of this basis."""
    try:
        with open_cache(path, "factors", {"basis": basis}):
            return True
    except CacheError as error:
        if Path(path).exists():
            log.info("made anew: %s", error)
        return False


def solve(
    shard: Shard,
    run: Run,
    seeds: Sequence[int],
    device: torch.device,
    progress: Callable[[int], None] | None = None,
) -> tuple[Result, float]:
    """Factorize a shard's samples for one run.

    Returns
    -------
    Result
        Of `taco.conmf`: R seeds, S samples.
    seconds : float
        What the run takes, with its share of the start as if it were alone.
    """
    settings = Settings(init_seed=shard.seed, **run.solver)
    anchors = anchors_of(shard.text, shard.name, run.bank)
    initial, before = shard.start(CoNMF(settings, anchors, device), run.sound)
    began = time.perf_counter()
    solver = CoNMF(replace(settings, init="given"), anchors, device)
    result = solver.fit(
        shard.image(),
        shard.audio(run.sound),
        shard.keys,
        seeds,
        shard.frame["clip_id"].tolist(),
        initial=initial,
        progress=progress,
    )
    return result, before + time.perf_counter() - began


def write(path: str | Path, samples: Sequence[str], result: Result, attributes: Mapping[str, Any]) -> None:
    """Write a run's factors as a cache of kind ``factors``: arrays [R, ...] for each sample, stored as `STORED_AS`."""
    attributes = {**attributes, "objective_steps": list(result.objective_steps)}
    with CacheWriter(path, "factors", samples, attributes) as writer:
        for name, dtype in STORED_AS.items():
            values = getattr(result, name).cpu().numpy().astype(dtype)
            for index in range(len(samples)):
                writer.put(name, index, values[:, index])
