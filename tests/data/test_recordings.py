"""Recordings of any format, rate and length: what is heard is what the datasets' reading would give."""

import numpy as np
import pytest
import soundfile
from recorded import tone, write_aac

from taco.data import media, recordings
from taco.data.problems import MediaError

RATE, WINDOW = 16000, 16000


def noise(seconds, rate, channels=1, seed=0):
    return (
        np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels)).astype(np.float32)
    )


def spectrum_peak(wave, rate=RATE):
    return np.abs(np.fft.rfft(wave * np.hanning(len(wave)))).argmax() * rate / len(wave)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("seconds", [0.05, 0.7, 3.0, 61.0])
def test_the_same_samples_as_a_dataset_would_give(tmp_path, rate, seconds):
    """Also of a long one, of which only the surroundings of the window are read."""
    soundfile.write(tmp_path / "a.wav", noise(seconds, rate, 2), rate, subtype="FLOAT")
    wave, heard = recordings.hear(tmp_path / "a.wav", RATE, WINDOW)
    expected = media.fit_window(media.read_sound(tmp_path / "a.wav", 0, np.nan, RATE), WINDOW)
    np.testing.assert_array_equal(wave, expected)
    assert heard.total == pytest.approx(seconds, abs=1e-3)
    assert heard.seconds == pytest.approx(min(seconds, 1), abs=1e-3)
    assert heard.start == pytest.approx(max(0, seconds - 1) / 2, abs=1e-3)


@pytest.mark.parametrize("kind", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_depths_of_wav(tmp_path, kind):
    soundfile.write(tmp_path / "a.wav", tone(1, RATE), RATE, subtype=kind)
    wave, _ = recordings.hear(tmp_path / "a.wav", RATE, WINDOW)
    np.testing.assert_allclose(wave, tone(1, RATE)[:, 0], atol=0.01)


@pytest.mark.parametrize("ending", ["flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_of_libsndfile(tmp_path, ending, channels):
    soundfile.write(tmp_path / f"a.{ending}", tone(2, 44100, channels=channels), 44100)
    wave, heard = recordings.hear(tmp_path / f"a.{ending}", RATE, WINDOW)
    assert spectrum_peak(wave) == pytest.approx(440, abs=3)
    assert np.abs(wave).max() == pytest.approx(0.5, abs=0.08)
    assert heard.total == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_m4a(tmp_path, layout):
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    write_aac(tmp_path / "a.m4a", tone(2, 48000, 1000, channels), 48000, layout)
    wave, heard = recordings.hear(tmp_path / "a.m4a", RATE, WINDOW)
    assert spectrum_peak(wave) == pytest.approx(1000, abs=3)
    assert np.abs(wave).max() == pytest.approx(0.5, abs=0.12)
    assert heard.total == pytest.approx(2, abs=0.1)


def test_six_channels_of_wav_are_their_mean(tmp_path):
    wave = noise(1, RATE, 6)
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    np.testing.assert_allclose(recordings.hear(tmp_path / "a.wav", RATE, WINDOW)[0], wave.mean(1), atol=1e-7)


def test_of_an_hour_the_centre_is_heard_without_reading_the_rest(tmp_path, monkeypatch):
    rate = 8000
    with soundfile.SoundFile(str(tmp_path / "a.wav"), "w", rate, 1, "PCM_16") as file:
        for minute in range(60):
            file.write(tone(60, rate, 440 if minute in (29, 30) else 2000))
    read, most = soundfile.SoundFile.read, []
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda self, n, **k: most.append(n) or read(self, n, **k)
    )
    wave, heard = recordings.hear(tmp_path / "a.wav", RATE, WINDOW)
    assert spectrum_peak(wave) == pytest.approx(440, abs=3)
    assert str(heard) == "1799.50 to 1800.50 s of 3600.00 s"
    assert max(most) < 10 * rate


def test_what_is_heard_is_said_in_words():
    assert str(recordings.Heard(0, 0.5, 0.5, 2.0)) == "all of 0.50 s, repeated 2.0 times"
    assert str(recordings.Heard(1, 1, 3, 1.0)) == "1.00 to 2.00 s of 3.00 s"


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.int32])
def test_arrays_of_floats_and_integers(kind):
    scale = 1 if np.issubdtype(kind, np.floating) else -float(np.iinfo(kind).min)
    samples = (tone(1, RATE) * scale).astype(kind)
    for given in (samples[:, 0], samples, samples.repeat(2, axis=1)):
        wave, _ = recordings.hear((given, RATE), RATE, WINDOW)
        np.testing.assert_allclose(wave, tone(1, RATE)[:, 0], atol=1e-4)
        assert wave.dtype == np.float32


@pytest.mark.parametrize("given", [
    (np.zeros((2, 3, 4)), RATE), (np.zeros(0), RATE), (np.zeros(9, dtype=bool), RATE), (np.zeros(9), 0), (np.zeros(9), 0.5),
    (np.zeros((2, 16000)), RATE),
])  # fmt: skip
def test_other_arrays_are_refused(given):
    with pytest.raises(MediaError, match="samples"):
        recordings.hear(given, RATE, WINDOW)


def test_broken_samples_are_named_with_their_place(tmp_path):
    wave = noise(1, RATE)
    wave[8000] = np.nan
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    with pytest.raises(MediaError, match=r"a\.wav.*first at 0\.500 s"):
        recordings.hear(tmp_path / "a.wav", RATE, WINDOW)


@pytest.mark.parametrize("name", ["a.wav", "a.m4a", "a.mp3"])
@pytest.mark.parametrize("content", [b"", b"nothing of the kind" * 20])
def test_what_is_no_sound_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=name):
        recordings.hear(tmp_path / name, RATE, WINDOW)


def test_a_sound_of_zero_length_is_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 1)), RATE)
    with pytest.raises(MediaError, match="zero length"):
        recordings.hear(tmp_path / "a.wav", RATE, WINDOW)
