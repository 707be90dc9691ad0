"""Sounds with nothing in them: their tokens, and which of them a sample hears."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from taco.method import stimuli


def make_clap(window=400):
    """Tokens are the wave in pieces, so that a token says which wave it came from."""

    def tokens_and_embedding(waves):
        return waves.reshape(len(waves), 4, -1), waves[:, :3]

    return SimpleNamespace(window=window, tokens_and_embedding=tokens_and_embedding)


def test_silence_is_zero_and_noise_has_its_level():
    waves = stimuli.waves(16000, seed=0)
    assert waves["silence"].shape == (1, 16000) and not waves["silence"].any()
    assert waves["noise"].shape == (stimuli.N_NOISES, 16000)
    level = np.sqrt((waves["noise"] ** 2).mean(axis=1))
    np.testing.assert_allclose(level, stimuli.NOISE_LEVEL, rtol=0.03)
    assert len({wave.tobytes() for wave in waves["noise"]}) == stimuli.N_NOISES


def test_tokens_are_clamped_and_kept_as_features_are():
    kept = stimuli.constants(make_clap(), seed=3)
    assert kept["silence_tokens"].shape == (1, 4, 100) and kept["noise_tokens"].shape == (8, 4, 100)
    wave = stimuli.waves(400, seed=3)["noise"][5]
    expected = wave.clip(0).astype(np.float16).reshape(4, -1)
    np.testing.assert_array_equal(kept["noise_tokens"][5], expected)


@pytest.mark.parametrize("kind", stimuli.KINDS)
def test_what_a_sample_hears_depends_on_seed_and_name_alone(kind):
    kept = stimuli.constants(make_clap(), seed=0)
    keys = [f"s4/{number}" for number in range(60)]
    whole = stimuli.tokens(kept, kind, 0, keys)
    alone = [stimuli.tokens(kept, kind, 0, [key])[0] for key in reversed(keys)]
    assert all(torch.equal(a, b) for a, b in zip(whole, reversed(alone), strict=True))
    different = {tokens.numpy().tobytes() for tokens in whole}
    assert len(different) == (1 if kind == stimuli.SILENCE else stimuli.N_NOISES)
