"""Videos of people's own: upright frames at an even pace with the sound around each, and a video written back.

By PyAV, whose wheels bring ffmpeg. A video is read once, forwards, and never held whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Self

import av
import numpy as np
from PIL import Image

from taco.data.problems import MediaError, reason, require_file
from taco.data.recordings import sound_blocks

VIDEO_ENDINGS = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".3gp", ".ts"})
EXPECTED, REMEDY = "a video with a picture and a sound", "Convert it to MP4, or give an image and a sound."
SHORTEST_SOUND = 1.0  # seconds around each frame, as AVSBench's frames have
SOUND_RATE, BIT_RATE = 48000, 96000  # of written videos; every player takes them


@dataclass(frozen=True)
class Frame:
    """A frame and what is heard around it.

    Attributes
    ----------
    number : int
        From 0.
    time : float
        Seconds from the beginning: the middle of this frame's piece of the video.
    image : uint8 [H, W, 3]
        Upright.
    sound : (float32 [T], int)
        Mono samples, and their rate.
    """

    number: int
    time: float
    image: np.ndarray
    sound: tuple[np.ndarray, int]


def frames(path: str | Path, fps: float) -> Iterator[Frame]:
    """Yield the frames of a video at an even pace, whatever its own rate.

    The video is cut into pieces of 1 / fps seconds; of each piece the frame in its middle is taken, with the sound of the
    piece (of a second around it, where the piece is shorter).

    Parameters
    ----------
    path : str or Path
    fps : float
        Frames a second, > 0.

    Raises
    ------
    MediaError
        It is no video, has no sound, or cannot be decoded.
    """
    check(path)
    sounds = _Sounds(path)
    half = max(1 / fps, SHORTEST_SOUND) / 2
    for number, (time, image) in enumerate(_pictures(Path(path), fps)):
        yield Frame(number, time, image, (sounds.between(time - half, time + half), sounds.rate))


def check(path: str | Path) -> tuple[float, int]:
    """Length in seconds (0 where unknown) and rate of the sound of a video; raises `MediaError` for anything else."""
    require_file(path, EXPECTED, REMEDY)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError(path, EXPECTED, "a file without a picture", "Give an image beside it.")
            if not container.streams.audio:
                remedy = "Give one of its frames and a sound: taco segment IMAGE SOUND."
                raise MediaError(path, EXPECTED, "a video without a sound track", remedy)
            rate = container.streams.audio[0].codec_context.sample_rate
            return (container.duration or 0) / av.time_base, rate
    except av.FFmpegError as error:
        raise MediaError(path, EXPECTED, f"undecodable data ({reason(error)})", REMEDY) from error


def _pictures(path: Path, fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (time, upright pixels) of the middle of each piece; the last piece may be cut short by the video's end."""
    targets = ((number + 0.5) / fps for number in count())
    target, shown, end = next(targets), None, 0.0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            beginning, usual = None, float(1 / (stream.average_rate or 25))
            for frame in container.decode(stream):
                time = frame.time if frame.time is not None else end
                beginning = time if beginning is None else beginning
                time -= beginning
                while shown is not None and target < time:
                    yield target, _upright(shown)
                    target = next(targets)
                shown, end = frame, time + usual
    except av.FFmpegError as error:
        if shown is None:
            raise MediaError(path, EXPECTED, f"undecodable data ({reason(error)})", REMEDY) from error
        raise MediaError(path, "a complete video", f"one that breaks off at {end:.2f} s", REMEDY) from error
    if shown is None:
        raise MediaError(path, EXPECTED, "a video without a frame", REMEDY)
    while (
        target < end or target * fps < 1
    ):  # the last piece may not reach its middle; the first always counts
        yield target, _upright(shown)
        target = next(targets)


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Pixels of a frame, turned as its display matrix says (phones store every video lying on its side)."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))


class _Sounds:
    """The sound of a video, read forwards: pieces are asked for in the order of time."""

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        _, self.rate = check(path)
        self.blocks = sound_blocks(path)
        self.kept = np.zeros(0, dtype=np.float32)
        self.first = 0  # place of kept[0] in the whole

    def between(self, start: float, stop: float) -> np.ndarray:
        """Mono samples from ``start`` to ``stop`` seconds, moved so far as the beginning or the end of the sound asks for."""
        first = max(0, round(start * self.rate))
        last = first + max(1, round((stop - start) * self.rate))
        while self.first + len(self.kept) < last and (block := next(self.blocks, None)) is not None:
            self.kept = np.concatenate([self.kept, block.mean(axis=0)])
        reached = self.first + len(self.kept)
        first = max(self.first, min(first, reached - (last - first)))  # the picture may outlast the sound
        self.kept, self.first = self.kept[first - self.first :], first
        piece = self.kept[: last - first]
        if len(piece) == 0:
            raise MediaError(self.name, EXPECTED, "a sound track of zero length", REMEDY)
        return piece.copy()


# ------------------------------------------------------------------------------------ writing


class Writer:
    """Writes an MP4: H.264 pictures at a constant pace, and the sound of another file as AAC.

    Parameters
    ----------
    path : str or Path
    fps : float
        Pictures a second.
    source : str or Path
        Its sound is taken, whole.

    Notes
    -----
    Use it in a ``with`` block; `add` pictures uint8 [H, W, 3] of one size. Odd sides lose a line, as H.264 wants even ones.
    """

    def __init__(self, path: str | Path, fps: float, source: str | Path) -> None:
        self.container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        self.video = self.container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        self.video.pix_fmt = "yuv420p"
        self.source, self.pictures = str(source), 0
        with av.open(self.source) as file:
            self.layout = "mono" if file.streams.audio[0].codec_context.channels == 1 else "stereo"
        self.sound = self.container.add_stream("aac", rate=SOUND_RATE, layout=self.layout, bit_rate=BIT_RATE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._add_sound()
            self.container.mux(self.video.encode(None))
        self.container.close()

    def add(self, picture: np.ndarray) -> None:
        """Append a picture."""
        height, width = (max(2, side // 2 * 2) for side in picture.shape[:2])
        if self.pictures == 0:
            self.video.width, self.video.height = width, height
        if picture.shape[:2] != (height, width):
            picture = np.asarray(Image.fromarray(picture).resize((width, height)))
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = self.pictures
        frame.time_base = 1 / Fraction(self.video.average_rate)
        self.pictures += 1
        self.container.mux(self.video.encode(frame))

    def _add_sound(self) -> None:
        length = float(self.pictures / self.video.average_rate)
        with av.open(self.source) as source:
            resampler = av.AudioResampler(format="fltp", layout=self.layout, rate=SOUND_RATE)
            for frame in source.decode(audio=0):
                if frame.time is not None and frame.time > length:
                    break
                for part in resampler.resample(frame):
                    self.container.mux(self.sound.encode(part))
            for part in resampler.resample(None):
                self.container.mux(self.sound.encode(part))
        self.container.mux(self.sound.encode(None))
