"""Recordings of people's own: the part of any sound that the model hears, read without the rest of an hour.

What libsndfile knows (WAV, FLAC, OGG, MP3, AIFF) is read by it, as datasets are; M4A, WebM and the sound of a video by
PyAV, which brings ffmpeg.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile

from taco.data import media, soundfiles
from taco.data.problems import MediaError, reason, require_file

SOUND_ENDINGS = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".au", ".wma"}
)
# Sounds up to so many seconds are resampled whole, as a dataset's are; of a longer one only the surroundings of the window.
LONGEST_WHOLE = 60
EXPECTED = "a sound with at least one sample"
REMEDY = "Convert it to WAV or FLAC, or write it again."
UNKNOWN_LENGTH = 1 << 48  # libsndfile's count of samples where a header does not tell


@dataclass(frozen=True)
class Heard:
    """Which part of a recording the model hears.

    Attributes
    ----------
    start : float
        Seconds from the beginning.
    seconds : float
        Length of what is heard, before it is repeated.
    total : float
        Length of the recording in seconds.
    repeated : float
        How often it is heard: more than 1 for a sound shorter than the model's window.
    """

    start: float
    seconds: float
    total: float
    repeated: float

    def __str__(self) -> str:
        part = (
            "all" if self.seconds >= self.total else f"{self.start:.2f} to {self.start + self.seconds:.2f} s"
        )
        again = f", repeated {self.repeated:.1f} times" if self.repeated > 1 else ""
        return f"{part} of {self.total:.2f} s{again}"


@dataclass(frozen=True)
class Recording:
    """A sound that can be read in parts.

    Attributes
    ----------
    name : str
    rate : int
        Samples per second.
    length : int
        Samples of each channel.
    read : callable (first, last) -> float32 [T]
        Mono, the mean of all channels; T is last - first, or less at the end.
    """

    name: str
    rate: int
    length: int
    read: Callable[[int, int], np.ndarray]


def hear(
    sound: str | Path | tuple[np.ndarray, int] | Recording, rate: int, window: int
) -> tuple[np.ndarray, Heard]:
    """Bring a recording to the model's rate and window: a long one is cropped at its centre, a short one repeated.

    Parameters
    ----------
    sound : path, (samples, rate) or Recording
        Samples are [T] or [T, channels]: float (full scale is 1) or signed integers (full scale is their type's).
    rate : int
        Samples per second that the model takes.
    window : int
        Samples that the model takes.

    Returns
    -------
    wave : float32 [window]
        Mono. Of a recording of at most a minute exactly what `taco.data.media.read_sound` and `fit_window` give.
    heard : Heard

    Raises
    ------
    MediaError
        There is no sound, it cannot be decoded, or it holds NaN or infinite samples.
    """
    recording = sound if isinstance(sound, Recording) else open_recording(sound)
    soundfiles.require_rate(recording.rate, recording.name)
    length = math.ceil(recording.length * rate / recording.rate)
    start = max(0, length - window) // 2
    first, last = 0, recording.length
    if recording.length > LONGEST_WHOLE * recording.rate:
        # Whole seconds, so that the resampled samples fall on the same places; one more at either side for the filter.
        first = max(0, start // rate - 1) * recording.rate
        last = min(last, ((start + window) // rate + 2) * recording.rate)
    piece = _finite(recording, recording.read(first, last), first)
    if recording.rate != rate:
        piece = media.resample(piece, recording.rate, rate)
    offset = start - first // recording.rate * rate if first else max(0, len(piece) - window) // 2
    wave = media.fit_window(piece[offset : offset + window], window)
    total, seconds = recording.length / recording.rate, min(window / rate, recording.length / recording.rate)
    return wave.astype(np.float32, copy=False), Heard(start / rate, seconds, total, window / rate / seconds)


def _finite(recording: Recording, piece: np.ndarray, first: int) -> np.ndarray:
    if len(piece) == 0:
        raise MediaError(recording.name, EXPECTED, "a sound of zero length", REMEDY)
    broken = ~np.isfinite(piece)
    if broken.any():
        place = (first + broken.argmax()) / recording.rate
        found = f"{broken.sum()} NaN or infinite samples, the first at {place:.3f} s"
        raise MediaError(recording.name, "finite samples", found, REMEDY)
    return piece


def open_recording(sound: str | Path | tuple[np.ndarray, int]) -> Recording:
    """Look at a sound without reading it; see `hear` for what it may be."""
    if isinstance(sound, tuple):
        return _of_array(*sound)
    require_file(sound, EXPECTED, REMEDY)
    try:
        return _of_sound_file(Path(sound))
    except (soundfile.LibsndfileError, TypeError) as error:
        try:
            return _of_container(Path(sound))
        except av.FFmpegError as other:
            found = f"undecodable data ({reason(error)}; ffmpeg: {reason(other)})"
            raise MediaError(sound, EXPECTED, found, REMEDY) from None


def _of_array(samples: np.ndarray, rate: int) -> Recording:
    samples = np.asarray(samples)
    kind, shape = samples.dtype, list(samples.shape)
    good = samples.ndim in (1, 2) and kind.kind in "fi" and samples.shape[-1] > 0
    if not good or len(samples) == 0 or rate != int(rate) or rate <= 0:
        found = f"{kind} {shape} at {rate!r} Hz"
        raise MediaError(
            "sound", "samples [T] or [T, channels], floats or signed integers, and their rate", found,
            "Give (samples, rate).",
        )  # fmt: skip
    if samples.ndim == 2 and samples.shape[1] > samples.shape[0] and samples.shape[1] > 32:
        raise MediaError("sound", "samples [T, channels]", str(shape), "Transpose the array.")
    scale = 1 if kind.kind == "f" else -float(np.iinfo(kind).min)

    def read(first: int, last: int) -> np.ndarray:
        part = (samples[first:last] / scale).astype(np.float32)
        return part if part.ndim == 1 else part.mean(axis=1)

    return Recording("sound", int(rate), len(samples), read)


def _of_sound_file(path: Path) -> Recording:
    """A file that libsndfile reads: a short one is decoded as a dataset's is, of a long one parts are read."""
    with soundfile.SoundFile(str(path)) as file:
        rate, length = file.samplerate, file.frames
    if not LONGEST_WHOLE * rate < length < UNKNOWN_LENGTH:
        wave, rate = soundfiles.decode(path)
        mono = wave.mean(axis=1)
        return Recording(str(path), rate, len(mono), lambda first, last: mono[first:last])

    def read(first: int, last: int) -> np.ndarray:
        try:
            with soundfile.SoundFile(str(path)) as file:
                file.seek(first)
                found = file.read(last - first, dtype="float32", always_2d=True).mean(axis=1)
        except soundfile.LibsndfileError as error:
            raise MediaError(path, EXPECTED, f"undecodable data ({reason(error)})", REMEDY) from error
        if len(found) < last - first:
            expected = f"a sound of the {length / rate:.0f} s that its header promises"
            raise MediaError(path, expected, f"one that breaks off before {last / rate:.0f} s", REMEDY)
        return found

    return Recording(str(path), rate, length, read)


# ------------------------------------------------------------------------------------ by PyAV


def _of_container(path: Path) -> Recording:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise MediaError(path, "a sound", "a file without a sound track", "Give a sound beside it.")
        stream = container.streams.audio[0]
        rate = stream.codec_context.sample_rate
    length = sum(block.shape[1] for block in sound_blocks(path))

    def read(first: int, last: int) -> np.ndarray:
        parts, place = [np.zeros(0, dtype=np.float32)], 0
        for block in sound_blocks(path):
            inside = slice(max(0, first - place), max(0, last - place))
            parts.append(block[:, inside].mean(axis=0))
            place += block.shape[1]
            if place >= last:
                break
        return np.concatenate(parts)

    if length == 0:
        raise MediaError(path, EXPECTED, "a sound track of zero length", REMEDY)
    return Recording(str(path), rate, length, read)


def sound_blocks(path: str | Path) -> Iterator[np.ndarray]:
    """Yield the sound of any container that ffmpeg reads in blocks, float32 [channels, T], at its own rate.

    Raises
    ------
    MediaError
        Where it breaks off.
    """
    with av.open(str(path)) as container:
        planar = av.AudioResampler(format="fltp")
        try:
            for frame in container.decode(audio=0):
                yield from (part.to_ndarray() for part in planar.resample(frame))
        except av.FFmpegError as error:
            raise MediaError(path, "a complete sound track", reason(error), REMEDY) from error
