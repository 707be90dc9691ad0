"""A hand-made sample to score: two proposals, two classes, two seeds."""

import numpy as np
import torch

from taco.method import evaluate
from taco.method.text import Labels
from taco.models import fcclip

SIZE = 32
CHANNELS = 6
CONSTANTS = {
    "void_embedding": np.eye(CHANNELS, dtype=np.float32)[5],
    "clip_logit_scale": np.float32(50.0),
    "fcclip_logit_scale": np.float32(50.0),
    "clap_logit_scale": np.float32(20.0),
}


def proposals():
    """Left half is class 0, right upper quarter class 1; the rest is nothing. Mask logits at a quarter of 32 × 32."""
    masks = torch.full((1, 2, 8, 8), -9.0)
    masks[0, 0, :, :4] = 9.0
    masks[0, 1, :4, 4:] = 9.0
    embeddings = torch.eye(CHANNELS)[None, :2]
    return fcclip.Proposals(masks, embeddings, embeddings, [(32, 32, 32, 32)])


def classes(names=("bell", "drum")):
    rows = np.eye(CHANNELS, dtype=np.float32)
    return Labels(list(names), rows[: len(names)], rows[: len(names), :4])


def truth(semantic=False):
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[:, :16] = True
    return mask * np.int64(1) if semantic else mask


def make_run(variant="proposed", bank="general", k_star=(0, 1)):
    """Two seeds; factor 0 is class 0 and lights the left half of a 4 × 4 grid, factor 1 is class 1."""
    factors = torch.eye(CHANNELS)[:2].expand(2, 2, CHANNELS).clone()
    activations = torch.zeros(2, 16, 2)
    activations.view(2, 4, 4, 2)[:, :, :2, 0] = 1.0
    activations.view(2, 4, 4, 2)[:, :2, 2:, 1] = 1.0
    return evaluate.Run(variant, bank, [0, 1], activations, factors, torch.tensor(k_star))


def make_scorer(task="s4", **changes):
    settings = {
        "task": task,
        "dataset": "toy",
        "size": SIZE,
        "seed": 0,
        "prompt_sets": ["list", "single"],
        "controls": ["whole image", "random mask", "oracle mask"],
        "alpha": 0.0,
        "beta": 1.0,
    }
    return evaluate.Scorer(evaluate.Scoring(**settings | changes), classes(), CONSTANTS, torch.device("cpu"))


def make_sample(semantic=False, runs=None, heard=0):
    embedding = torch.eye(4)[heard]
    return evaluate.Sample("toy/a", proposals(), embedding, (4, 4), truth(semantic), runs or [make_run()])


def answers(scorer, sample):
    listened = scorer._listen(sample.clap_embedding)
    return {(a.method, a.variant, a.bank, a.seed): a for a in scorer.predictions(sample, listened[1])}
