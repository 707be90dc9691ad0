"""One pair or one video through the pipeline: features, co-NMF, decoding. Models are loaded once."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from taco import runtime, suites
from taco.conmf import Anchors, CoNMF, Result, Settings
from taco.data import media, photos, recordings, video
from taco.figures.examples import sound_grid
from taco.method import evaluate, features, text
from taco.models import fcclip
from taco.segmenting import words as lexicon
from taco.segmenting.answer import Factor, Segmentation
from taco.segmenting.words import SegmentError

SUITES = {"miniature": (), "paper": (suites.ROOT / "config/paper.yaml",)}
KEY = "own/sample"
TACO, U_ONLY = "TACO", "U only"
# Frames of a video that are solved together, so that memory does not grow with its length.
FRAMES_TOGETHER = 16

Photo = str | Path | Image.Image | np.ndarray
Sound = str | Path | tuple[np.ndarray, int]


def load(
    suite: str = "miniature",
    *,
    configfile: str | Path | Sequence[str | Path] | None = None,
    words: str | Path | Sequence[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> "Segmenter":
    """Load a suite's models and embed its words, once for many segmentations.

    Parameters
    ----------
    suite : {"miniature", "paper"}
        ``miniature`` ships with the project; ``paper`` needs its weights staged (``taco doctor`` says what is missing).
    configfile : path or list of paths, optional
        Overlays over config/config.yaml, in place of a suite.
    words : list of str or path, optional
        To compare with: words, or a file with one on each line or a CSV column ``display_name``. The suite's general bank
        where none are given.
    device : {"auto", "cpu", "cuda"}
    threads : int, optional
        CPU threads; those that this process may use.

    Returns
    -------
    Segmenter

    Raises
    ------
    SegmentError, taco.suites.ConfigError, taco.models.weights.WeightsError, taco.runtime.DeviceError
        Each says what to do.
    """
    config = configuration(suite, configfile)
    chosen = runtime.setup(device, threads or len(os.sched_getaffinity(0)))
    models = features.load_models(config["models"], chosen)
    names = lexicon.bank(config, words)
    digests = features.model_digests(config["models"])
    return Segmenter(
        models, lexicon.embed(names, models, config["prompts"], digests), config, chosen, digests
    )


def configuration(suite: str, overlays: str | Path | Sequence[str | Path] | None) -> dict[str, Any]:
    """Configuration of a named suite, or of overlays."""
    if overlays is not None:
        return suites.read([overlays] if isinstance(overlays, str | Path) else overlays)
    if suite not in SUITES:
        raise SegmentError(f"suite: expected {' or '.join(SUITES)}, found {suite!r}. Or give a configfile.")
    return suites.read(SUITES[suite])


class Segmenter:
    """Frozen models, words and settings, ready for any number of pairs; made by `load`.

    Parameters
    ----------
    models : taco.method.features.Models
    labels : taco.method.text.Labels
        The words, embedded.
    config : mapping
        The suite's configuration.
    device : torch.device
    digests : mapping
        Of the models, from `taco.method.features.model_digests`.
    """

    def __init__(
        self,
        models: features.Models,
        labels: text.Labels,
        config: Mapping[str, Any],
        device: torch.device,
        digests: Mapping[str, str],
    ) -> None:
        self.models, self.labels, self.config, self.device = models, labels, config, device
        constants = text.model_constants(models.clip, models.clap, models.fcclip)
        self.anchors = Anchors.from_arrays(labels.clip, labels.clap, constants)
        self.decoding = {
            "void": torch.from_numpy(constants["void_embedding"]).to(device),
            "clip_scale": float(constants["clip_logit_scale"]),
            "fcclip_scale": float(constants["fcclip_logit_scale"]),
            "alpha": config["decoding"]["alpha"],
            "beta": config["decoding"]["beta"],
        }
        self.lexicon = lexicon.Lexicon(labels, models.clap.projection, device)
        self.grid = sound_grid(config["models"]["clap"]["architecture"])
        self.how = features.Extraction("fcclip", "centre", 1, config["seed"])
        self.about = {
            "suite": config["suite"],
            "device": runtime.describe(device),
            "threads": torch.get_num_threads(),
            "word_bank": {"count": len(labels.names), "digest": runtime.digest(labels.names)},
            "models": dict(digests),
            "versions": runtime.versions(runtime.REPORTED_PACKAGES),
            "commit": runtime.git_commit(suites.ROOT),
        }

    def segment(
        self,
        image: Photo,
        sound: Sound,
        *,
        seeds: Sequence[int] | None = None,
        segmenter: bool = True,
        key: str = KEY,
    ) -> Segmentation:
        """Segment what is heard; see `segment`, which calls this."""
        clock = Clock()
        with clock("reading"):
            pixels = photos.upright(image)
            wave, heard = self._hear(sound)
        return next(self._answers([(pixels, wave, heard, None)], [key], seeds, segmenter, clock))

    def segment_video(
        self,
        path: str | Path,
        *,
        fps: float | None = None,
        seeds: Sequence[int] | None = None,
        segmenter: bool = True,
        key: str = KEY,
    ) -> Iterator[Segmentation]:
        """Yield the frames of a video, segmented; see `segment_video`, which calls this."""
        fps = fps or self.config["segment"]["fps"]
        pending: list[tuple] = []
        clock, number = Clock(), 0
        pictures = video.frames(path, fps)
        while True:
            with clock("reading"):
                frame = next(pictures, None)
                if frame is not None:
                    pending.append((frame.image, *self._hear(frame.sound), frame.time))
            if pending and (frame is None or len(pending) == FRAMES_TOGETHER):
                keys = [f"{key}/{number + i}" for i in range(len(pending))]
                yield from self._answers(pending, keys, seeds, segmenter, clock)
                clock, number, pending = Clock(), number + len(pending), []
            if frame is None:
                return

    def settings(self, temporal: bool = False) -> dict[str, Any]:
        """Settings of the solver: the suite's, with the temporal term for the frames of a video."""
        solver = suites.scheduled(self.config, self.config["solver"])
        weight = self.config["segment"]["beta_temporal"] if temporal else 0.0
        # Counted once: otherwise its weight would grow with the number of frames that are solved together.
        return {**solver, "beta_temporal": weight, "temporal_weight": "paper"}

    def _hear(self, sound: Sound) -> tuple[np.ndarray, recordings.Heard]:
        return recordings.hear(sound, self.models.clap.sample_rate, self.models.clap.window)

    @torch.inference_mode()
    def _answers(
        self,
        samples: Sequence[tuple],
        keys: Sequence[str],
        seeds: Sequence[int] | None,
        segmenter: bool,
        clock: "Clock",
    ) -> Iterator[Segmentation]:
        """Answers for the frames of a clip, or for one pair: (pixels, wave, heard, time) each."""
        seeds = tuple(self.config["seeds"][:1] if seeds is None else seeds)
        if not seeds or len(set(seeds)) != len(seeds):
            raise SegmentError(f"seeds: expected at least one, each once; found {list(seeds)}.")
        with clock("features"):
            looked = [self._look(pixels, wave, segmenter) for pixels, wave, *_ in samples]
        image, audio = (
            [torch.from_numpy(tokens[name][0]) for tokens, _ in looked]
            for name in ("image_tokens", "audio_tokens")
        )
        with clock("co-NMF"):
            settings = Settings(init_seed=self.config["seed"], **self.settings(samples[0][-1] is not None))
            solver = CoNMF(settings, self.anchors, self.device)
            result = solver.fit(image, audio, keys, seeds, clips=["clip"] * len(keys))
        shared = {name: seconds / len(samples) for name, seconds in clock.items()}
        for i, (pixels, wave, heard, moment) in enumerate(samples):
            tokens, proposals = looked[i]
            own = Clock(shared)
            run = int(result.cross_entropy[:, i].amin(-1).argmin())
            with own("decoding"):
                soft, peak = self._map(result, run, i, tokens["grid"][0], proposals, pixels.shape[:2])
                factors = self._factors(result, run, i, image[i], audio[i], tokens["grid"][0])
            yield self._judged(
                TACO if segmenter else U_ONLY,
                soft,
                peak,
                image=pixels,
                chosen=int(result.k_star[run, i]),
                factors=factors,
                seed=seeds[run],
                wave=wave,
                rate=self.models.clap.sample_rate,
                sound={**asdict(heard), "heard": str(heard)},
                timings=dict(own),
                time=moment,
            )

    def _look(
        self, pixels: np.ndarray, wave: np.ndarray, segmenter: bool
    ) -> tuple[features.Columns, fcclip.Proposals | None]:
        """Tokens, and proposals where a segmenter is wanted, rounded as the workflow's caches round them."""
        resized = media.resize(pixels, self.models.clip.image_size, "fcclip")
        batch = {"fcclip": torch.from_numpy(resized)[None], "wave": torch.from_numpy(wave)[None]}
        pyramid, dense = features.look(batch, self.models, self.how)
        proposals = None
        if segmenter:
            proposals = features.checked(features.segment(pyramid, self.models.clip, self.models.fcclip))
        tokens = features.image_tokens(dense, self.models) | features.sounds(batch["wave"], self.models)
        return features.Leaving(tokens).columns(), proposals

    def _map(
        self,
        result: Result,
        run: int,
        index: int,
        grid: Sequence[int],
        proposals: fcclip.Proposals | None,
        size: tuple[int, int],
    ) -> tuple[np.ndarray, float]:
        """Map of the chosen factor at the image's size, and its greatest value before it was stretched."""
        k_star = int(result.k_star[run, index])
        if proposals is None:
            # The workflow keeps activations in half precision.
            flat = result.image_activations[run, index, :, k_star].half().float()
            raw = flat[: grid[0] * grid[1]].reshape(1, *map(int, grid))
        else:
            found = replace(proposals, masks=proposals.masks.float())
            prompts = result.image_factors[run, index].to(self.device)[None]
            classes = fcclip.classify(found.class_embeddings[0], found.pooled[0], prompts, **self.decoding)
            raw = torch.einsum("pq,qhw->phw", classes[:, :, k_star], fcclip.soft_masks(found))
        ((_, peak),) = evaluate.span_of(raw)
        soft = F.interpolate(evaluate.stretch(raw)[:, None].float(), size, mode="bicubic", align_corners=True)
        return soft[0, 0].cpu().numpy(), peak

    def _factors(
        self, result: Result, run: int, index: int, image: Tensor, audio: Tensor, grid: Sequence[int]
    ) -> tuple[Factor, ...]:
        """All factors, with the words to which their semantic components come closest."""
        activations = result.image_activations[run, index, : len(image)]
        sounding = result.audio_activations[run, index, : len(audio)]
        parts = lexicon.components(image, activations), lexicon.components(audio, sounding)
        seen, heard = self.lexicon.similarities(*parts)
        return tuple(
            Factor(
                cross_entropy=float(result.cross_entropy[run, index, k]),
                image_activation=activations[:, k].reshape(*map(int, grid)).numpy(),
                sound_activation=sounding[:, k].reshape(self.grid).numpy(),
                seen=self.lexicon.closest(seen[k], seen[k], heard[k]),
                heard=self.lexicon.closest(heard[k], seen[k], heard[k]),
            )
            for k in range(activations.shape[1])
        )

    def _judged(self, method: str, soft: np.ndarray, peak: float, **known: Any) -> Segmentation:
        """An answer with its mask: empty where the map's greatest value stays below the suite's threshold."""
        own = self.config["segment"]
        level, least = (own[name][method] for name in ("mask_threshold", "confidence_threshold"))
        visible = least is None or peak >= least
        mask = (soft > level) & visible
        about = {**self.about, "method": method, "mask_threshold": level, "confidence_threshold": least}
        return Segmentation(map=soft, mask=mask, confidence=peak, visible=visible, about=about, **known)


class Clock(Counter):
    """Seconds by stage: ``with clock("features"): …`` adds to one."""

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self[stage] += time.perf_counter() - started


@cache
def _default() -> Segmenter:
    return load()


def segment(
    image: Photo,
    sound: Sound,
    *,
    model: Segmenter | None = None,
    seeds: Sequence[int] | None = None,
    segmenter: bool = True,
    key: str = KEY,
) -> Segmentation:
    """Segment in an image what a sound tells of.

    Parameters
    ----------
    image : path, PIL image or uint8 [H, W, 3]
        See `taco.data.photos.upright`: an EXIF orientation is applied.
    sound : path or (samples, rate)
        See `taco.data.recordings.hear`: of a long one the centre is heard, a short one is repeated.
    model : Segmenter, optional
        From `load`; the miniature suite's, loaded at the first call, where none is given.
    seeds : sequence of int, optional
        Runs of co-NMF; of several, that of least cross-entropy answers. The suite's first seed where none are given.
    segmenter : bool
        False shows the activations of the chosen factor alone (U only), without FC-CLIP.
    key : str
        Names the random streams. ``"<dataset>/<sample_id>"`` gives the very map that the workflow scores.

    Returns
    -------
    Segmentation
        ``mask`` bool [H, W], ``map`` float32 [H, W], ``words``, ``heard``, ``confidence``, ``factors``; ``save(folder)``.

    Raises
    ------
    taco.data.media.MediaError
        An image or a sound that cannot be used, by name.

    Examples
    --------
    >>> from taco import load, segment
    >>> model = load("miniature")
    >>> result = segment("examples/guitar.png", "examples/guitar.wav", model=model)
    >>> result.mask.shape, result.map.dtype.name, len(result.factors)
    ((124, 124), 'float32', 8)
    >>> result.chosen == min(range(8), key=lambda k: result.factors[k].cross_entropy)
    True
    """
    return (model or _default()).segment(image, sound, seeds=seeds, segmenter=segmenter, key=key)


def segment_video(
    path: str | Path,
    *,
    model: Segmenter | None = None,
    fps: float | None = None,
    seeds: Sequence[int] | None = None,
    segmenter: bool = True,
    key: str = KEY,
) -> Iterator[Segmentation]:
    """Segment the frames of a video by its own sound, with the temporal term on.

    Parameters
    ----------
    path : str or Path
    model, seeds, segmenter, key
        As in `segment`.
    fps : float, optional
        Frames a second; the suite's (1) where not given. Each hears the sound of its piece, a second at least.

    Yields
    ------
    Segmentation
        One for each frame, with its ``time``; they are solved together, up to `FRAMES_TOGETHER` at once.
    """
    return (model or _default()).segment_video(path, fps=fps, seeds=seeds, segmenter=segmenter, key=key)
