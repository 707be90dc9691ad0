"""Costs of the pipeline: sums of stages. Nothing here asserts a time."""

import pytest
import torch

from taco.bench.costs import costs
from taco.bench.measure import Stopwatch


def test_costs_are_sums_of_stages():
    config = {"seeds": [0, 1, 2], "solver": {"steps": 300}}
    watch = Stopwatch(torch.device("cpu"))
    parts = {"read, one process": 1, "CLIP trunk": 2, "proposals": 3, "tokens, CLAP": 4, "text of a bank": 5}
    parts |= {
        f"co-NMF, {steps} steps, {seeds} seeds": 10 * seeds for steps in (300, 1000) for seeds in (1, 3)
    }
    parts |= {"decode s4, image": 6, "decode s4, run": 7, "score s4, run": 8}
    for name, milliseconds in parts.items():
        watch.note(name, "image", 99.0, milliseconds / 1e3)
    found = costs(watch, config)
    assert found["features_ms"] == pytest.approx(9)
    assert found["one_seed_inference_ms"] == pytest.approx(1 + 9 + 13 + 10)
    assert found["conmf_share"] == pytest.approx(10 / 33)
    assert found["one_more_seed_ms"] == pytest.approx(30 + 15)
    assert found["one_more_variant_of_3_seeds_ms"] == pytest.approx(3 * 45)
