"""Sound files: whole ones of every container, cut ones refused, lengths left open by a pipe read to their end."""

import struct

import numpy as np
import pytest
import soundfile

from taco.data import soundfiles
from taco.data.problems import MediaError

RATE = 16000
# Container, coding, and options of the encoder.
KINDS = {
    "wav": ("WAV", "PCM_16", {}),
    "wav 24 bits": ("WAV", "PCM_24", {}),
    "wav float": ("WAV", "FLOAT", {}),
    "wav adpcm": ("WAV", "MS_ADPCM", {}),
    "wav extensible": ("WAVEX", "PCM_16", {}),
    "rf64": ("RF64", "PCM_16", {}),
    "w64": ("W64", "PCM_16", {}),
    "aiff": ("AIFF", "PCM_16", {}),
    "au": ("AU", "PCM_16", {}),
    "caf": ("CAF", "PCM_16", {}),
    "alac": ("CAF", "ALAC_16", {}),
    "flac": ("FLAC", "PCM_16", {}),
    "vorbis": ("OGG", "VORBIS", {}),
    "opus": ("OGG", "OPUS", {}),
    "mp3": ("MP3", None, {}),
    "mp3 of variable rate": ("MP3", None, {"bitrate_mode": "VARIABLE"}),
}
LOSSLESS = ("wav", "wav 24 bits", "wav extensible", "rf64", "w64", "aiff", "au", "caf", "alac", "flac")


def signal(seconds=3.0, channels=2):
    """Noise that swells and fades, silent for a while, so that no codec gives each second the same number of bytes."""
    samples = round(seconds * RATE)
    swell = np.abs(np.sin(np.arange(samples) / RATE))
    swell[samples // 3 : samples // 2] = 0
    wave = np.random.default_rng(0).normal(0, 0.1, (samples, channels)) * swell[:, None]
    return np.rint(wave * 2**15) / 2**15


@pytest.fixture
def file(tmp_path):
    """Write the signal as one of the kinds; the file and its bytes."""

    def write(kind, wave=None):
        container, coding, options = KINDS[kind]
        path = tmp_path / "sound.wav"  # whatever it is called, it is known by its content
        wave = signal() if wave is None else wave
        soundfile.write(path, wave, RATE, format=container, subtype=coding, **options)
        return path, path.read_bytes()

    return write


def refused(path):
    """The error of a file that cannot be used."""
    with pytest.raises(MediaError) as caught:
        soundfiles.decode(path)
    assert caught.value.file == str(path)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read_whole(file, kind):
    path, _ = file(kind)
    wave, rate = soundfiles.decode(path)
    # Opus decodes to its own 48 kHz grid, ADPCM to whole blocks.
    assert rate == RATE and len(wave) == pytest.approx(3 * RATE, abs=1100)
    assert wave.dtype == np.float32 and wave.shape[1] == 2
    if kind in LOSSLESS:
        np.testing.assert_allclose(wave, signal(), atol=1e-6)


@pytest.mark.parametrize("share", [0.05, 0.6, 0.97])
@pytest.mark.parametrize("kind", KINDS)
def test_cut_files_are_refused(file, kind, share):
    path, data = file(kind)
    path.write_bytes(data[: round(len(data) * share)])
    refused(path)


def test_the_error_of_a_cut_file_says_so(file):
    path, data = file("wav")
    path.write_bytes(data[: 44 + 120_000])
    error = refused(path)
    assert error.expected == "the 192000 bytes of sound that its header promises"
    assert error.found == "120000: the file was cut" and error.remedy == "Fetch it again."


OPEN = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x7F000000, 0x80000000)


@pytest.mark.parametrize("size", OPEN, ids=hex)
@pytest.mark.parametrize("kind", ["wav", "wav 24 bits", "wav float", "wav extensible"])
def test_a_wav_written_through_a_pipe_is_read_to_its_end(file, kind, size):
    path, data = file(kind)
    place = data.index(b"data") + 4
    whole = soundfiles.decode(path)[0]
    for riff in (size, struct.unpack("<I", data[4:8])[0], 36):
        opened = (
            data[:4] + struct.pack("<I", riff) + data[8:place] + struct.pack("<I", size) + data[place + 4 :]
        )
        path.write_bytes(opened)
        np.testing.assert_array_equal(soundfiles.decode(path)[0], whole)


def test_a_wav_of_no_samples_is_empty_even_where_other_chunks_follow(file):
    path, data = file("wav", np.zeros((0, 2)))
    path.write_bytes(data + b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert refused(path).found == "a sound of zero length"


def test_an_au_of_unknown_length_is_read_to_its_end(file):
    path, data = file("au")
    whole = soundfiles.decode(path)[0]
    path.write_bytes(data[:8] + b"\xff" * 4 + data[12:])
    np.testing.assert_array_equal(soundfiles.decode(path)[0], whole)


def with_total(data, samples):
    """A FLAC whose STREAMINFO tells another number of samples (36 bits)."""
    return (
        data[:21]
        + bytes([data[21] & 0xF0 | samples >> 32])
        + struct.pack(">I", samples & 0xFFFFFFFF)
        + data[26:]
    )


@pytest.mark.parametrize("seconds", [0.01, 1, 3, 70])
def test_a_flac_written_through_a_pipe_is_read_to_its_end(file, seconds):
    path, data = file("flac", signal(seconds))
    path.write_bytes(with_total(data, 0))
    np.testing.assert_allclose(soundfiles.decode(path)[0], signal(seconds), atol=1e-6)


@pytest.mark.parametrize("samples", [48_001, 2**33, 2**36 - 1])
def test_a_flac_that_promises_more_than_it_holds_is_refused_in_little_memory(file, samples):
    path, data = file("flac")
    path.write_bytes(with_total(data, samples))
    assert refused(path).expected == f"the {samples} samples that its header promises"


@pytest.mark.parametrize("kind", ["mp3", "mp3 of variable rate"])
def test_an_mp3_that_tells_no_length_is_read_to_its_end(file, kind):
    path, data = file(kind)
    # Without its first frame, which holds the tag; and with a tag that was never filled in.
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    untagged = data[data.index(data[:2], tag) :]
    blank = data[:tag] + bytes(12) + data[tag + 12 :]
    for written in (untagged, blank, b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(128) + untagged):
        path.write_bytes(written)
        wave, _ = soundfiles.decode(path)
        assert len(wave) == pytest.approx(3 * RATE, abs=4 * 1152)


def test_an_mp3_with_tags_at_both_ends_is_whole(file):
    path, data = file("mp3")
    path.write_bytes(b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(128) + data + b"TAG" + bytes(125))
    assert len(soundfiles.decode(path)[0]) == 3 * RATE


def test_a_header_that_counts_itself_in_is_legal(file):
    path, data = file("wav")
    path.write_bytes(data[:40] + struct.pack("<I", 192_000 + 44) + data[44:])
    assert len(soundfiles.decode(path)[0]) == 3 * RATE


@pytest.mark.parametrize("rate", [1, 7, 999, 384_001, 2**31 - 1])
def test_impossible_rates_are_refused(file, rate):
    path, data = file("wav")
    path.write_bytes(data[:24] + struct.pack("<I", rate) + data[28:])
    assert f"a header that says {rate}" in refused(path).found


def test_sounds_beyond_an_hour_are_refused(tmp_path):
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(1000 * 3601, dtype=np.int16), 1000)
    assert refused(path).expected == "a clip of at most 3600 s"


def test_containers_in_which_no_cut_shows_are_refused(tmp_path):
    path = tmp_path / "sound.wav"
    soundfile.write(path, signal(), RATE, format="IRCAM")
    assert "one of the containers WAV" in refused(path).expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_end_in_one_error_or_in_sound(file, kind, seed):
    path, data = file(kind, signal(1))
    rng = np.random.default_rng(seed)
    broken = bytearray(data)
    # Headers first: that is where a wrong number asks for too much.
    for place in rng.integers(0, [120] * 6 + [len(data)] * 6):
        broken[place] = rng.integers(256)
    path.write_bytes(bytes(broken))
    try:
        wave, rate = soundfiles.decode(path)
    except MediaError as error:
        named = error.file == str(path)
    else:
        named = len(wave) and np.isfinite(wave).all() and rate > 0
    assert named
