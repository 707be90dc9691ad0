"""Costs of the pipeline: sums of stages. Nothing here asserts a time."""

import pytest
import torch

from taco import suites
from taco.bench.costs import costs, totals
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


STAGES = {
    "read, one process": 1,
    "CLIP trunk": 20,
    "proposals": 30,
    "tokens, CLAP": 4,
    "cache write, tokens": 2,
    "cache write, float16": 50,
    "cache read, float16": 25,
    "proposals again, from the image": 45,
    "decode s4, image": 5,
    "decode s4, run": 0.25,
    "score s4, run": 0.5,
    "decode avss, image": 6,
    "decode avss, run": 0.5,
    "score avss, run": 0.25,
    "co-NMF, 1800 steps, 3 seeds": 2,
}
FRAMES = {"s4": 3700, "ms3": 320, "avss": 7500}
SIZES = {"tokens": 0.5, "float16": 12.0, "uint8": 6.0, "factors": 0.04}


@pytest.fixture(scope="module")
def paper():
    return suites.read([suites.ROOT / "config/paper.yaml"])


def totals_of(config, kind, device):
    watch = Stopwatch(torch.device(device))
    for name, milliseconds in STAGES.items():
        watch.note(name, "image", milliseconds / 1e3, milliseconds / 1e3)
    config = {**config, "features": {**config["features"], "proposals": kind}}
    return {row["dataset"]: row for row in totals(watch, config, SIZES, FRAMES)}


def test_the_whole_suite_is_the_sum_of_its_datasets(paper):
    rows = totals_of(paper, "none", "cpu")
    *parts, whole = rows.values()
    assert whole["frames"] == 11_520 and whole["factorisations"] == 125_880
    for key in ("features", "conmf", "scores", "hours", "gb"):
        assert whole[key] == pytest.approx(sum(part[key] for part in parts))
    assert whole["hours"] == pytest.approx(whole["features"] + whole["conmf"] + whole["scores"])
    assert rows["s4"]["gb"] == pytest.approx(3700 * (0.5 + 15 * 0.04) / 1e3)
    assert rows["s4"]["conmf"] == pytest.approx(3700 * 15 * 2 / 3.6e6)
    # Proposals made again; nine runs are solved, three more are decoded from their factors.
    assert rows["avss"]["features"] == pytest.approx(7500 * (1 + 20 + 4 + 2) / 3.6e6)
    assert rows["avss"]["score_ms"] == pytest.approx(45 + 6 + 12 * 0.75)
    assert rows["s4"]["score_ms"] == pytest.approx(45 + 5 + 15 * 0.75)


def test_on_a_gpu_what_overlaps_counts_once_and_kept_proposals_take_disk(paper):
    rows = totals_of(paper, "float16", "cuda")
    assert rows["ms3"]["features"] == pytest.approx(320 * max(1, 20 + 4 + 30, 50 + 2) / 3.6e6)
    assert rows["ms3"]["score_ms"] == pytest.approx(max(25, 5 + 9 * 0.75))
    assert rows["ms3"]["gb"] == pytest.approx(320 * (0.5 + 12 + 9 * 0.04) / 1e3)
    # AVSS's tokens are of another preparation of the image than its proposals: two passes of the trunk.
    assert rows["avss"]["features"] == pytest.approx(7500 * max(1, 2 * 20 + 4 + 30, 50 + 2) / 3.6e6)
