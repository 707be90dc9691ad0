"""Sounds with nothing in them, digital silence and noise: what each sample hears in the negative-audio test.

Their audio tokens do not depend on a dataset, so they are computed once per suite, with the text, and kept there
(`taco.method.text`, group ``constants``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taco.runtime import generator

SILENCE, NOISE = "silence", "noise"
KINDS = (SILENCE, NOISE)
N_NOISES = 8
NOISE_LEVEL = 0.1  # root mean square, -20 dB below full scale


def waves(length: int, seed: int) -> dict[str, np.ndarray]:
    """Silence and white noises.

    Parameters
    ----------
    length : int
        Samples of the model's window.
    seed : int

    Returns
    -------
    dict kind → float32 [n, length]: one silence, `N_NOISES` noises
    """
    rng = generator(seed, "noise")
    noises = NOISE_LEVEL * rng.standard_normal((N_NOISES, length), dtype=np.float32)
    return {SILENCE: np.zeros((1, length), dtype=np.float32), NOISE: noises.clip(-1, 1)}


def constants(clap: Any, seed: int) -> dict[str, np.ndarray]:
    """Audio tokens of silence and noises, clamped at >= 0 and rounded as features are.

    Parameters
    ----------
    clap : taco.models.clap.FrozenCLAP
        Only ``window``, ``device`` and ``tokens_and_embedding`` are used.
    seed : int

    Returns
    -------
    dict: ``silence_tokens`` float16 [1, T, C_A], ``noise_tokens`` float16 [8, T, C_A]
    """
    tokens = {}
    for kind, sounds in waves(clap.window, seed).items():
        # One at a time: rounding can depend on the size of a batch.
        found = [clap.tokens_and_embedding(torch.from_numpy(wave[None]))[0][0] for wave in sounds]
        tokens[f"{kind}_tokens"] = torch.stack(found).clamp(min=0).half().cpu().numpy()
    return tokens


def tokens(kept: Mapping[str, np.ndarray], kind: str, seed: int, keys: Sequence[str]) -> list[Tensor]:
    """Audio tokens of each sample in the test.

    Parameters
    ----------
    kept : mapping
        Text constants, from `constants`.
    kind : {"silence", "noise"}
    seed : int
    keys : sequence of str
        ``<dataset>/<sample_id>``; which of the noises a sample hears depends on seed and key alone.

    Returns
    -------
    list of float16 [T, C_A]
    """
    found = torch.from_numpy(np.asarray(kept[f"{kind}_tokens"])).half()
    rngs = (generator(seed, kind, key) for key in keys)
    return [found[int(rng.integers(len(found)))] for rng in rngs]
