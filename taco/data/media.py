"""Images and sounds: decode, cut, resample, fit to a window, draw a spectrogram.

Every function takes and returns numpy arrays. Nothing here knows of datasets. torch is imported only when an image is
resized, so that manifests and tables stay free of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from taco.data import soundfiles
from taco.data.pictures import open_image, rgb
from taco.data.problems import MediaError, require_file
from taco.runtime import generator

# torchaudio's defaults: the filter's zero crossings on either side, and its cutoff as a share of the lower rate's.
RESAMPLING_ZEROS = 6
RESAMPLING_ROLLOFF = 0.99
# Decoded sounds kept per process: the frames of a clip are cut from one file and follow each other.
CACHED_SOUNDS = 4


class Spectrogram(NamedTuple):
    """Short-time power of a sound: decibels [F, T] in [-range, 0], frequencies [F] in Hz, times [T] in seconds."""

    decibels: np.ndarray
    frequencies: np.ndarray
    times: np.ndarray


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as RGB, uint8 [H, W, 3] in [0, 255] (see `taco.data.pictures.rgb`).

    Orientation tags are ignored, because masks are drawn on the stored pixels.
    """
    return rgb(open_image(path), path)


def resize(image: np.ndarray, side: int, mode: str = "fcclip") -> np.ndarray:
    """Resize an image to a square, as one of the models' own preparations does.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 [H, W, 3].
    side : int
        Pixels.
    mode : {"fcclip", "openclip"}
        ``fcclip``: bilinear with aligned corners, not rounded. ``openclip``: bicubic with antialiasing.

    Returns
    -------
    numpy.ndarray
        [3, side, side] in 0..255; float32 for ``fcclip``, uint8 for ``openclip``.
    """
    if mode == "openclip":
        resized = np.asarray(Image.fromarray(image).resize((side, side), Image.BICUBIC))
        return np.ascontiguousarray(resized.transpose(2, 0, 1))
    if mode != "fcclip":
        raise ValueError(f"image preparation is 'fcclip' or 'openclip', not {mode!r}")
    import torch
    from torch.nn import functional as F

    # A channel at a time (as three images of one): for three together torch's rounding depends on the number of threads.
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[:, None].float().contiguous()
    return F.interpolate(pixels, (side, side), mode="bilinear", align_corners=True)[:, 0].numpy()


def decode_sound(path: str | Path) -> tuple[np.ndarray, int]:
    """Decode a whole sound file (see `taco.data.soundfiles.decode`) and mix its channels down to one by their mean.

    Returns
    -------
    wave : numpy.ndarray
        float32 [T], T >= 1, finite; PCM files lie in [-1, 1].
    rate : int
        Samples per second.
    """
    wave, rate = soundfiles.decode(path)
    return wave.mean(axis=1), rate


def read_sound(
    path: str | Path, start: float, duration: float, rate: int, stereo: str = "mean"
) -> np.ndarray:
    """Read a piece of a sound as one channel, at the wanted rate.

    The piece is cut at the file's own rate and resampled afterwards, as if it had been a file of its own. The last
    piece of a file may be shorter than `duration`. Consecutive pieces of one file decode it once.

    Parameters
    ----------
    path : str or Path
        Any format that libsndfile reads.
    start : float
        Seconds from the beginning of the file, >= 0.
    duration : float
        Seconds, > 0; NaN takes the rest of the file.
    rate : int
        Wanted samples per second.
    stereo : {"mean", "join"}
        What is heard of several channels: their mean, or one after the other (left, then right), as msclap reads a file.

    Returns
    -------
    numpy.ndarray
        float32 [T], T >= 1, a copy of its own; as long as all channels together where they are joined.

    Raises
    ------
    MediaError
        The file is unusable (see `decode_sound`) or ends before `start`.
    """
    if not start >= 0 or duration <= 0 or rate <= 0:
        raise ValueError(f"need start >= 0, duration > 0, rate > 0; found {start}, {duration}, {rate}")
    if stereo not in ("mean", "join"):
        raise ValueError(f"stereo must be 'mean' or 'join', found {stereo!r}")
    require_file(path, "a sound", "Fetch or write this file again.")
    status = Path(path).stat()
    wave, native = _decoded(str(path), status.st_mtime_ns, status.st_size)
    first = round(start * native)
    last = len(wave) if np.isnan(duration) else round((start + duration) * native)
    if first >= len(wave):
        length = len(wave) / native
        remedy = "The clip's sound is too short for its frames: fetch it again or leave the clip out."
        raise MediaError(path, f"sound at {start:g} s", f"a file of {length:.3f} s", remedy)
    piece = wave[first : max(last, first + 1)]
    channels = [piece.mean(axis=1)] if stereo == "mean" else piece.T
    return np.concatenate([c if native == rate else resample(c, native, rate) for c in channels])


@lru_cache(maxsize=CACHED_SOUNDS)
def _decoded(path: str, modified_ns: int, size: int) -> tuple[np.ndarray, int]:
    """All channels of a sound file, remembered until it changes; the array [T, C] is read-only because callers share it."""
    wave, rate = soundfiles.decode(path)
    wave.setflags(write=False)
    return wave, rate


def resample(wave: np.ndarray, native: int, rate: int) -> np.ndarray:
    """Change a sound's rate by torchaudio's windowed sinc, to double precision and in bounded memory.

    torchaudio keeps a filter for each of the new rate's samples, whose number is the product of both rates where they share
    no factor. Here it is one filter of about 12 times the greater rate, read in steps.

    Parameters
    ----------
    wave : numpy.ndarray
        float32 [T].
    native, rate : int
        Samples per second before and after.

    Returns
    -------
    numpy.ndarray
        float32 [ceil(T · rate / native)].
    """
    from scipy import signal  # takes a second, which a sound of the wanted rate is spared

    shared = math.gcd(native, rate)
    up, down = rate // shared, native // shared
    return signal.resample_poly(wave, up, down, window=_sinc(up, down)).astype(np.float32)


@lru_cache(maxsize=4)
def _sinc(up: int, down: int) -> np.ndarray:
    """Low-pass filter between two rates, sampled up · down times where they have `up` and `down` samples: Hann-windowed sinc."""
    cutoff = RESAMPLING_ROLLOFF * min(up, down)
    half = math.ceil(RESAMPLING_ZEROS * up * down / cutoff)
    time = np.arange(-half, half + 1) * (cutoff / (up * down))
    window = np.cos(np.pi / 2 * np.clip(time / RESAMPLING_ZEROS, -1, 1)) ** 2
    return np.sinc(time) * window * (cutoff / (up * down))


def fit_window(
    wave: np.ndarray,
    samples: int,
    crop: str = "centre",
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Bring a sound to a fixed length: a short one is repeated, a long one cropped.

    Parameters
    ----------
    wave : numpy.ndarray
        [T], T >= 1.
    samples : int
        Wanted length, >= 1.
    crop : {"centre", "random"}
        Which part of a long sound is kept; "random" draws its start from `rng`.
    rng : numpy.random.Generator, optional
        Needed by "random" alone.

    Returns
    -------
    numpy.ndarray
        [samples], dtype of `wave`.
    """
    if wave.ndim != 1 or len(wave) == 0 or samples < 1:
        raise ValueError(
            f"need a sound [T >= 1] and samples >= 1; found shape {wave.shape}, samples {samples}"
        )
    if crop not in ("centre", "random"):
        raise ValueError(f"crop must be 'centre' or 'random', found {crop!r}")
    if crop == "random" and rng is None:
        raise ValueError("crop='random' needs a numpy Generator as rng, so that the run can be repeated")
    excess = len(wave) - samples
    if excess <= 0:
        return np.tile(wave, -(-samples // len(wave)))[:samples]
    start = excess // 2 if crop == "centre" else int(rng.integers(excess + 1))
    return wave[start : start + samples].copy()


@dataclass(frozen=True)
class Hearing:
    """What a model hears of a sample's sound.

    Attributes
    ----------
    sample_rate : int
        In Hz.
    window : int
        Samples.
    audio_crop : {"centre", "random"}
        See `fit_window`.
    seed : int
        Of random crops.
    stereo : {"mean", "join"}
        See `read_sound`.
    """

    sample_rate: int
    window: int
    audio_crop: str
    seed: int
    stereo: str = "mean"

    def hear(self, row: Mapping[str, Any], dataset: str) -> np.ndarray:
        """Read what is heard of a manifest's row: float32 [window]. A random crop is drawn by dataset and sample id."""
        wave = read_sound(row["audio"], row["start"], row["duration"], self.sample_rate, self.stereo)
        rng = generator(self.seed, "audio crop", f"{dataset}/{row['sample_id']}")
        return fit_window(wave, self.window, self.audio_crop, rng).astype(np.float32)


def spectrogram(
    wave: np.ndarray, rate: int, *, window_s: float = 0.032, range_db: float = 80.0
) -> Spectrogram:
    """Log-power spectrogram for figures (Hann window, hop of a quarter window).

    Parameters
    ----------
    wave : numpy.ndarray
        [T], T >= 1.
    rate : int
        Samples per second.
    window_s : float
        Window length in seconds.
    range_db : float
        Power below the maximum by more than this is shown as -range_db; digital silence is -range_db throughout.

    Returns
    -------
    Spectrogram
        Decibels relative to the maximum, float32 [F, T].
    """
    from scipy import signal

    window = max(8, round(window_s * rate))
    padded = np.pad(np.asarray(wave, dtype=np.float64), (0, max(0, window - len(wave))))
    frequencies, times, power = signal.spectrogram(
        padded,
        fs=rate,
        window="hann",
        nperseg=window,
        noverlap=window - window // 4,
        mode="psd",
        detrend=False,
    )
    peak = power.max()
    decibels = np.full(power.shape, -range_db)
    if peak > 0:
        decibels = 10 * np.log10(np.maximum(power / peak, 10 ** (-range_db / 10)))
    return Spectrogram(decibels.astype(np.float32), frequencies, times)
