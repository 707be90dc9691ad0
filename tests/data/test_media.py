"""Images and sounds: what is decoded, what is refused and how, windows and spectrograms."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch
import trees
from PIL import Image

from taco.data import media, soundfiles
from taco.data.media import MediaError

RATE = 16000


@pytest.fixture
def sound(tmp_path):
    """A mono file of 2.5 seconds of noise, and its samples as stored."""
    path = tmp_path / "sound.wav"
    wave = np.random.default_rng(0).uniform(-0.9, 0.9, round(2.5 * RATE))
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    return path, wave.astype(np.float32)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_images_of_every_mode_become_rgb(tmp_path, mode):
    grey = np.zeros((5, 7), dtype=np.uint8)
    grey[1:3, 2:] = 255
    Image.fromarray(grey).convert(mode).save(tmp_path / "image.png")
    image = media.read_image(tmp_path / "image.png")
    assert image.dtype == np.uint8 and image.shape == (5, 7, 3)
    assert (image == grey[..., None]).all()


@pytest.mark.parametrize("mode", ["fcclip", "openclip"])
def test_resizing_does_not_depend_on_threads(mode):
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        found.append(media.resize(image, 124, mode))
    torch.set_num_threads(before)
    assert found[0].shape == (3, 124, 124)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_open_image_keeps_palette_indices(tmp_path):
    image = Image.fromarray(np.array([[0, 5], [5, 0]], dtype=np.uint8), mode="P")
    image.putpalette([9, 9, 9] * 6)
    image.save(tmp_path / "palette.png")
    assert np.asarray(media.open_image(tmp_path / "palette.png")).tolist() == [[0, 5], [5, 0]]


def test_orientation_tags_do_not_turn_the_image_against_its_mask(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert media.read_image(tmp_path / "turned.jpg").shape == (4, 8, 3)


def damaged(tmp_path, kind, suffix):
    """A file that is no usable image or sound, of the given kind."""
    path = tmp_path / f"bad{suffix}"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("<html>quota exceeded</html>")
    elif kind == "truncated":
        trees.picture(path, (64, 64))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("missing", "no such file"),
        ("folder", "a folder"),
        ("empty", "0 bytes"),
        ("text", "undecodable"),
        ("truncated", "undecodable"),
    ],
)
def test_unusable_images_are_refused_by_name(tmp_path, kind, found, suffix):
    path = damaged(tmp_path, kind, suffix)
    with pytest.raises(MediaError) as caught:
        media.read_image(path)
    error = caught.value
    assert error.file == str(path) and found in error.found and error.remedy
    assert all(part in str(error) for part in (error.file, error.expected, error.found, error.remedy))


@pytest.mark.parametrize(
    ("kind", "found"), [("missing", "no such file"), ("empty", "0 bytes"), ("text", "undecodable")]
)
def test_unusable_sounds_are_refused_by_name(tmp_path, kind, found):
    path = damaged(tmp_path, kind, ".wav")
    for read in (media.decode_sound, lambda p: media.read_sound(p, 0, 1, RATE)):
        with pytest.raises(MediaError) as caught:
            read(path)
        assert caught.value.file == str(path) and found in caught.value.found


def test_sounds_of_zero_length_or_with_nan_are_refused(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    with pytest.raises(MediaError, match="zero length"):
        media.decode_sound(tmp_path / "none.wav")
    wave = np.zeros((RATE, 2), dtype=np.float32)
    wave[RATE // 2, 1] = np.nan
    wave[RATE // 2 + 9, 0] = np.inf
    soundfile.write(tmp_path / "nan.wav", wave, RATE, subtype="FLOAT")
    with pytest.raises(MediaError, match="2 NaN or infinite samples, the first at 0.500 s"):
        media.decode_sound(tmp_path / "nan.wav")


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_channels_are_mixed_by_their_mean(tmp_path, suffix):
    rng = np.random.default_rng(1)
    channels = (rng.integers(-(2**14), 2**14, (800, 2)) * 2 / 2**15).astype(np.float32)
    soundfile.write(tmp_path / f"stereo{suffix}", channels, RATE, subtype="PCM_16")
    wave, rate = media.decode_sound(tmp_path / f"stereo{suffix}")
    assert rate == RATE and wave.dtype == np.float32
    np.testing.assert_allclose(wave, channels.mean(axis=1), atol=1e-7)


def test_digital_silence_is_a_sound(tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    assert not media.read_sound(tmp_path / "silence.wav", 0, 1, RATE).any()


def test_pieces_in_order_make_up_the_file_and_the_last_may_be_short(sound):
    path, wave = sound
    pieces = [media.read_sound(path, start, 1.0, RATE) for start in (0.0, 1.0, 2.0)]
    assert [len(piece) for piece in pieces] == [RATE, RATE, RATE // 2]
    np.testing.assert_array_equal(np.concatenate(pieces), wave)


def test_duration_nan_reads_the_rest_of_the_file(sound):
    path, wave = sound
    np.testing.assert_array_equal(media.read_sound(path, 0.5, float("nan"), RATE), wave[RATE // 2 :])


def test_a_piece_beyond_the_end_is_an_error(sound):
    with pytest.raises(MediaError, match=r"expected sound at 2.5 s; found a file of 2.500 s"):
        media.read_sound(sound[0], 2.5, 1.0, RATE)


@pytest.mark.parametrize("arguments", [(-1, 1, RATE), (float("nan"), 1, RATE), (0, 0, RATE), (0, 1, 0)])
def test_impossible_pieces_are_refused(sound, arguments):
    with pytest.raises(ValueError, match="need start"):
        media.read_sound(sound[0], *arguments)


@pytest.mark.parametrize("rate", [8000, 44100])
def test_resampling_keeps_pitch_level_and_duration(tmp_path, rate):
    trees.tone(tmp_path / "tone.wav", 1.0, RATE, frequency=1000)
    wave = media.read_sound(tmp_path / "tone.wav", 0, 1, rate)
    assert wave.dtype == np.float32 and len(wave) == rate
    expected = 0.05 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    inner = slice(rate // 10, -rate // 10)  # the filter rings at both ends
    np.testing.assert_allclose(wave[inner], expected[inner], atol=5e-4)


@pytest.mark.parametrize(
    ("native", "rate"), [(22050, 44100), (48000, 44100), (44100, 16000), (1601, 1600), (1600, 1601)]
)
@pytest.mark.parametrize("length", [1, 50, 3001])
def test_resampling_is_torchaudios(native, rate, length):
    from torchaudio.functional import resample

    wave = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    expected = resample(torch.from_numpy(wave).double(), native, rate).numpy()
    found = media.resample(wave, native, rate)
    assert found.dtype == np.float32 and found.shape == (-(-length * rate // native),) == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("native", [44099, 44056, 1009, 383_987])
def test_rates_without_a_common_factor_take_little_memory(native):
    tone = np.sin(2 * np.pi * 200 * np.arange(native) / native).astype(np.float32)
    media.resample(tone[:9], 2, 1)  # imports what it needs
    tracemalloc.start()
    found = media.resample(tone, native, 44100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6  # torchaudio's filter for 44099 Hz has 7.8 GB
    inner = slice(4410, -4410)
    expected = np.sin(2 * np.pi * 200 * np.arange(44100) / 44100)
    np.testing.assert_allclose(found[inner], expected[inner], atol=2e-3)


def test_a_file_is_decoded_once_for_its_pieces_and_again_when_it_changes(tmp_path, monkeypatch):
    path, calls = tmp_path / "clip.wav", []
    trees.tone(path, 3)
    decode = soundfiles.decode
    monkeypatch.setattr(soundfiles, "decode", lambda name: calls.append(name) or decode(name))
    pieces = [media.read_sound(path, start, 1, RATE) for start in range(3)]
    assert len(calls) == 1 and np.abs(pieces[2]).max() > 2 * np.abs(pieces[0]).max()
    trees.tone(path, 2, frequency=100)
    assert len(media.read_sound(path, 0, float("nan"), RATE)) == 2 * RATE
    assert len(calls) == 2


@pytest.mark.parametrize("native", [RATE, 22050])
def test_channels_are_mixed_or_follow_one_another(tmp_path, native):
    """Joined as msclap flattens a file: a piece of each channel, resampled for itself, left before right."""
    noise = np.random.default_rng(3).normal(0, 0.1, (2 * native, 2)).astype(np.float32)
    for number, part in enumerate((noise, noise[:, 0], noise[:, 1], noise.mean(axis=1))):
        soundfile.write(tmp_path / f"{number}.wav", part, native, subtype="FLOAT")
    both, left, right, mixed = (tmp_path / f"{number}.wav" for number in range(4))
    sides = [media.read_sound(path, 0.5, 1.0, RATE) for path in (left, right)]
    np.testing.assert_array_equal(media.read_sound(both, 0.5, 1.0, RATE, "join"), np.concatenate(sides))
    np.testing.assert_array_equal(
        media.read_sound(both, 0.5, 1.0, RATE), media.read_sound(mixed, 0.5, 1.0, RATE)
    )
    np.testing.assert_array_equal(
        media.read_sound(left, 0.5, 1.0, RATE, "join"), media.read_sound(left, 0.5, 1.0, RATE)
    )
    with pytest.raises(ValueError, match="stereo must be 'mean' or 'join', found 'left'"):
        media.read_sound(both, 0, 1, RATE, "left")


def test_a_piece_may_be_changed_without_harm_to_the_next_reader(sound):
    path, wave = sound
    media.read_sound(path, 0, 1, RATE)[:] = 5
    np.testing.assert_array_equal(media.read_sound(path, 0, 1, RATE), wave[:RATE])


@pytest.mark.parametrize("length", [1, 3, 7, 8, 20])
def test_short_sounds_repeat_to_the_window(length):
    wave = np.arange(length, dtype=np.float32)
    window = media.fit_window(wave, 20)
    np.testing.assert_array_equal(window, wave[np.arange(20) % length])
    assert window.dtype == np.float32


@pytest.mark.parametrize("length", [21, 30, 61])
def test_long_sounds_keep_their_centre(length):
    window = media.fit_window(np.arange(length), 20)
    before, after = window[0], length - 1 - window[-1]
    assert (np.diff(window) == 1).all() and len(window) == 20 and 0 <= after - before <= 1


def test_random_crops_repeat_with_their_seed_and_cover_every_start():
    wave = np.arange(24)
    crops = [media.fit_window(wave, 20, "random", np.random.default_rng(seed)) for seed in range(60)]
    again = [media.fit_window(wave, 20, "random", np.random.default_rng(seed)) for seed in range(60)]
    assert all((one == two).all() for one, two in zip(crops, again, strict=True))
    assert {int(crop[0]) for crop in crops} == {0, 1, 2, 3, 4}
    assert all((np.diff(crop) == 1).all() for crop in crops)


@pytest.mark.parametrize(
    ("wave", "samples", "crop", "message"),
    [
        (np.zeros(0), 5, "centre", r"T >= 1"),
        (np.zeros((2, 5)), 5, "centre", r"T >= 1"),
        (np.zeros(5), 0, "centre", r"samples >= 1"),
        (np.zeros(5), 2, "left", "crop must be"),
        (np.zeros(5), 2, "random", "Generator"),
    ],
)
def test_impossible_windows_are_refused(wave, samples, crop, message):
    with pytest.raises(ValueError, match=message):
        media.fit_window(wave, samples, crop)


def test_spectrogram_shows_a_tone_where_it_is():
    time = np.arange(RATE) / RATE
    picture = media.spectrogram(np.sin(2 * np.pi * 2000 * time), RATE)
    assert picture.decibels.shape == (len(picture.frequencies), len(picture.times))
    assert picture.decibels.max() == 0 and picture.decibels.min() >= -80
    assert picture.frequencies[picture.decibels.mean(axis=1).argmax()] == pytest.approx(2000, abs=RATE / 512)
    assert 0 < picture.times[0] < picture.times[-1] < 1


@pytest.mark.parametrize("length", [1, 100, RATE])
def test_spectrogram_of_silence_and_of_short_sounds_is_defined(length):
    picture = media.spectrogram(np.zeros(length), RATE)
    assert picture.decibels.shape[1] >= 1 and (picture.decibels == -80).all()


def test_reading_data_does_not_import_torch():
    code = "import sys, taco.data.manifest, taco.data.datasets, taco.data.media; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_heard_is_drawn_by_dataset_and_sample(tmp_path):
    """The same piece wherever it is read: for the model, and for the pages that show what it heard."""
    wave = np.arange(4 * 8000, dtype=np.float32)[:, None] / 40000 * [1.0, -1.0]
    soundfile.write(tmp_path / "a.wav", wave, 8000, subtype="FLOAT")
    row = {"sample_id": "a", "audio": str(tmp_path / "a.wav"), "start": 0.0, "duration": float("nan")}
    how = media.Hearing(8000, 8000, "random", 3, "join")
    one = how.hear(row, "s4")
    assert one.shape == (8000,) and one.dtype == np.float32
    np.testing.assert_array_equal(one, how.hear(row, "s4"))
    assert not np.array_equal(one, how.hear({**row, "sample_id": "b"}, "s4"))
    assert not np.array_equal(one, how.hear(row, "ms3"))
    assert not media.Hearing(8000, 8000, "centre", 3).hear(row, "s4").any()  # the channels' mean is nothing
