"""Decode a sound file whole, and notice where it was cut.

A header says how long its sound is. Where the file holds less, it was cut on its way, and is refused. A header that leaves
the length open, as a program that writes through a pipe must, promises nothing, and the file is read to its end.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import struct
import threading
from pathlib import Path

import numpy as np
import soundfile

from taco.data.problems import MediaError, reason, require_file

CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3")
"""Those in which a cut can be noticed."""
LOWEST_RATE, HIGHEST_RATE = 1_000, 384_000
"""Samples per second that a recording may have: what a header claims beyond is no rate."""
LONGEST_S = 3600
MOST_VALUES = 2**27
"""Samples times channels of a whole file, half a GiB: the datasets' clips have 10 seconds."""
BLOCK_VALUES = 2**20

OPEN_LENGTH = 0x7F000000
"""Claims of so many bytes stand for "not known yet": pipes leave 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000 or 0x7F000000."""
UNKNOWN_FRAMES = 2**62
"""libsndfile's own sign for a length left open is a little less than twice this."""
HEADER_SLACK = 44
"""Bytes: some programs count their header in."""
MP3_SLACK = 1152
"""Samples of a frame: encoders differ in how much of the last one they count."""
SIZE_FIELDS = re.compile(
    r"^ *(?:data|SSND|Data Size|Riff size|riff) *: *(-?\d+) \(should be (\d+)\)", re.MULTILINE
)
"""How libsndfile notes that the sound's size in bytes (WAV, AIFF, AU, RF64, W64) is not what the header claims."""
LARGEST_OGG_PAGE = 65_307
REMEDY = "Fetch or write this file again."


class _Forwards(soundfile.SoundFile):
    """Read from front to back alone: soundfile seeks after every block otherwise, which an open length forbids."""

    def seekable(self) -> bool:
        return False


def decode(path: str | Path) -> tuple[np.ndarray, int]:
    """Decode a whole sound file.

    Parameters
    ----------
    path : str or Path
        Any format that libsndfile reads.

    Returns
    -------
    wave : numpy.ndarray
        float32 [T, channels], T >= 1, finite; PCM files lie in [-1, 1].
    rate : int
        Samples per second.

    Raises
    ------
    MediaError
        The file is missing, empty, unreadable, cut, of zero length, longer than an hour, of an impossible rate, or holds
        NaN or infinite samples.
    """
    expected = "a sound with at least one sample"
    require_file(path, expected, REMEDY)
    try:
        with _open(path) as stream:
            wave, rate = _read(stream, path), stream.samplerate
            _refuse_cut(stream, len(wave), path)
    except MediaError:
        raise
    except Exception as error:  # libsndfile's own, and what numpy says of impossible sizes
        hint = f"{REMEDY} A video container has to be converted to WAV or FLAC first."
        raise MediaError(path, expected, f"undecodable data ({reason(error)})", hint) from error
    if len(wave) == 0:
        raise MediaError(path, expected, "a sound of zero length", REMEDY)
    broken = ~np.isfinite(wave).all(axis=1)
    if broken.any():
        found = f"{broken.sum()} NaN or infinite samples, the first at {broken.argmax() / rate:.3f} s"
        raise MediaError(path, "finite samples", found, REMEDY)
    return wave, rate


def _read(stream: soundfile.SoundFile, path: str | Path) -> np.ndarray:
    """All samples, float32 [T, channels], a block at a time: the length in the header is a claim, no allocation."""
    if stream.format not in CONTAINERS:
        expected = f"one of the containers {', '.join(CONTAINERS)}"
        raise MediaError(path, expected, stream.format, "Convert it to WAV or FLAC.")
    require_rate(stream.samplerate, path)
    most = min(LONGEST_S * stream.samplerate, MOST_VALUES // stream.channels)
    size = max(1, BLOCK_VALUES // stream.channels)
    blocks, total = [], 0
    while not blocks or len(blocks[-1]) == size:
        blocks.append(stream.read(size, dtype="float32", always_2d=True))
        total += len(blocks[-1])
        if total > most:
            limit = most / stream.samplerate
            raise MediaError(
                path, f"a clip of at most {limit:.0f} s", "a longer sound", "Cut the clip out of it."
            )
    return np.concatenate(blocks)


def require_rate(rate: int, path: str | Path) -> None:
    """Raise `MediaError` for a rate that no recording has: what is resampled takes memory by it."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        expected = f"{LOWEST_RATE} to {HIGHEST_RATE} samples per second"
        raise MediaError(path, expected, f"a header that says {rate}", REMEDY)


def _open(path: str | Path) -> soundfile.SoundFile:
    """The file, front to back; where its length is left open in a way that libsndfile does not know, made known to it."""
    stream = _Forwards(str(path))
    if stream.format in ("WAV", "WAVEX") and stream.frames == 0:
        stream.close()
        return _Forwards(io.BytesIO(_with_open_size(Path(path).read_bytes())))
    if stream.format == "MP3" and not _tells_frames(path):
        # libsndfile would guess the length from the first frame's bit rate and stop there.
        stream.close()
        return _Forwards(_piped(path))
    return stream


def _with_open_size(data: bytes) -> bytes:
    """A WAV whose data is said to have 0 bytes although some follow that are no chunk, with 0xFFFFFFFF in place of the 0."""
    place = 12
    while place + 8 < len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        if name == b"data":
            a_chunk = all(32 <= byte < 127 for byte in data[place + 8 : place + 12])
            return data if size or a_chunk else data[: place + 4] + b"\xff" * 4 + data[place + 8 :]
        place += 8 + size + size % 2
    return data


def _tells_frames(path: str | Path) -> bool:
    """Whether an MP3's first frame tells their number (the tag of Xing and LAME, or Fraunhofer's)."""
    with open(path, "rb") as stream:
        head = stream.read(10)
        if head[:3] == b"ID3":  # its size has 7 bits to the byte
            stream.seek(10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)))
        else:
            stream.seek(0)
        first = stream.read(4096)
    for name, count in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        place = first.find(name)
        told = (
            name == b"VBRI" or int.from_bytes(first[place + 4 : place + 8], "big") & 1
        )  # a flag: the number is there
        if place >= 0 and told and any(first[place + count : place + count + 4]):
            return True
    return False


def _piped(path: str | Path) -> int:
    """The reading end of a pipe through which the file comes."""
    reader, writer = os.pipe()

    def feed() -> None:
        # The reader may have given up, and has said why.
        with (
            contextlib.suppress(BrokenPipeError),
            open(path, "rb") as source,
            os.fdopen(writer, "wb") as sink,
        ):
            shutil.copyfileobj(source, sink)

    threading.Thread(target=feed, daemon=True).start()
    return reader


def _refuse_cut(stream: soundfile.SoundFile, decoded: int, path: str | Path) -> None:
    """Raise `MediaError` where the header promises more than the file holds."""
    for claimed, held in SIZE_FIELDS.findall(stream.extra_info):
        if 0 < int(claimed) < OPEN_LENGTH and int(claimed) > int(held) + HEADER_SLACK:
            raise _cut(path, f"the {claimed} bytes of sound that its header promises", f"{held}")
    slack = MP3_SLACK if stream.format == "MP3" else 0
    if decoded + slack < stream.frames < UNKNOWN_FRAMES:
        raise _cut(path, f"the {stream.frames} samples that its header promises", f"{decoded}")
    if stream.format == "OGG" and not _ends(path):
        raise _cut(path, "an Ogg stream with its last page", "a file that ends before it")


def _cut(path: str | Path, expected: str, found: str) -> MediaError:
    return MediaError(path, expected, f"{found}: the file was cut", "Fetch it again.")


def _ends(path: str | Path) -> bool:
    """Whether an Ogg file's last page is whole and marked as the last of its stream."""
    with open(path, "rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - LARGEST_OGG_PAGE))
        tail = stream.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    return bool(page[5] & 4) and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
