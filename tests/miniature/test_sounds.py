"""Sounds of the miniature world: sources, levels, noise and what captions name."""

import numpy as np
import pytest

from taco.miniature import sounds, vocabulary

RATE = 16000


def rng(seed=0):
    return np.random.default_rng(seed)


def decibel(ratio):
    return 10 * np.log10(ratio)


@pytest.mark.parametrize("name", vocabulary.SOUNDING)
def test_a_source_is_finite_bounded_reproducible_and_sounds_throughout(name):
    wave = sounds.synthesise(rng(11), name, 3.0, RATE)
    assert wave.dtype == np.float32 and wave.shape == (3 * RATE,)
    assert np.isfinite(wave).all() and np.abs(wave).max() <= 1
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(sounds.RMS, rel=0.35)
    assert np.array_equal(wave, sounds.synthesise(rng(11), name, 3.0, RATE))
    assert not np.array_equal(wave, sounds.synthesise(rng(12), name, 3.0, RATE))
    power = np.mean(wave.reshape(6, -1) ** 2, axis=1)
    assert power.min() > 0.1 * power.mean(), "half a second is nearly silent"


@pytest.mark.parametrize("snr", [-8.0, 2.0])
def test_the_noise_has_the_level_asked_for(snr):
    """The sources draw first, so the same stream without noise is the clean part up to one gain."""
    clean = sounds.mixture(rng(13), ["bell", "mower"], 2.0, RATE).astype(float)
    noisy = sounds.mixture(rng(13), ["bell", "mower"], 2.0, RATE, snr).astype(float)
    factor = noisy @ clean / (clean @ clean)  # noise is uncorrelated with the sources
    noise = noisy - factor * clean
    assert decibel(factor**2 * np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(snr, abs=0.5)
    assert np.abs(noisy).max() <= 1


def test_the_noise_is_pink():
    noise = sounds.mixture(rng(14), [], 8.0, RATE, 0.0)
    density = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(len(noise), 1 / RATE)
    octaves = [
        density[(frequency >= low) & (frequency < 2 * low)].sum() for low in (125, 250, 500, 1000, 2000)
    ]
    assert decibel(max(octaves) / min(octaves)) < 1.0  # equal power in each octave


def test_silence_and_levels():
    assert not sounds.mixture(rng(), [], 1.0, RATE).any()
    loud = sounds.mixture(rng(15), ["siren"], 1.0, RATE)
    soft = sounds.mixture(rng(15), ["siren"], 1.0, RATE, name_levels_db=[-20.0])
    assert np.allclose(soft, 0.1 * loud, atol=1e-6)


def test_bad_requests():
    with pytest.raises(ValueError, match="'vase' has no sound"):
        sounds.synthesise(rng(), "vase", 1.0, RATE)
    with pytest.raises(ValueError, match="positive duration"):
        sounds.mixture(rng(), ["bell"], 0.0, RATE)
    with pytest.raises(ValueError, match="one level per source"):
        sounds.mixture(rng(), ["bell"], 1.0, RATE, name_levels_db=[0.0, 1.0])


# ---------------------------------------------------------------- captions


def test_every_word_is_known():
    known, draw = set(vocabulary.vocabulary()), rng(1)
    for _ in range(150):
        heard = [vocabulary.SOUNDING[i] for i in draw.permutation(12)[: draw.integers(0, 4)]]
        assert set(vocabulary.words(sounds.describe(draw, heard))) <= known


def test_shares_of_names_synonyms_and_family_words():
    draw = rng(3)
    drawn = [sounds.phrase_for(draw, "harp") for _ in range(3000)]
    family = vocabulary.FAMILY_WORDS["string instrument"]
    assert np.mean([phrase == "harp" for phrase in drawn]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([phrase in family for phrase in drawn]) == pytest.approx(0.15, abs=0.03)


def test_one_of_two_objects_is_left_out_now_and_then():
    draw = rng(4)
    captions = [sounds.describe(draw, ["siren", "drum"]) for _ in range(2000)]
    assert np.mean([" and " not in caption for caption in captions]) == pytest.approx(0.1, abs=0.03)


def test_silence_has_captions_of_its_own():
    assert sounds.describe(rng(), []) in vocabulary.SILENCE_CAPTIONS
