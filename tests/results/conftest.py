"""Made-up aggregates and comparisons, and the numbers that others reported."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from taco.metrics.tasks import TASKS
from taco.results import tables

METRICS = {
    "binary": ("mask-IoU", "F"),
    "pooled": ("mask-IoU", "F", "mIoU", "mAP"),
    "semantic": ("mIoU", "F", "mIoU (corrected)", "F (corrected)"),
}
RUNS = [  # method, variant, word banks, seeds
    *[("TACO", variant, ("general", "specific"), 3) for variant in ("proposed", "no-min", "shuffled audio")],
    *[("TACO", variant, ("general", "specific"), 3) for variant in ("w/o component", "w/o penalty")],
    *[("U only", variant, ("general", "specific"), 3) for variant in ("proposed", "shuffled audio")],
    *[(method, "list", ("specific",), 1) for method in ("A-FC-CLIP", "A⁺-FC-CLIP")],
    ("A-FC-CLIP", "single", ("specific",), 1),
    *[(method, "control", ("none",), 1) for method in ("whole image", "random mask", "oracle mask")],
]


@pytest.fixture
def aggregates():
    """Every cell that a suite scores, each with a value of its own."""
    rng = np.random.default_rng(0)
    records = [
        {
            "task": task,
            "dataset": "ade" if task.startswith("ade") else task,
            "method": method,
            "variant": variant,
            "word_bank": bank,
            "metric": metric,
            "mean": rng.random(),
            "std": rng.random() / 50 if seeds > 1 else np.nan,
            "n_seeds": seeds,
            "n_samples": 100 + len(task),
        }
        for method, variant, banks, seeds in RUNS
        for bank in banks
        for task in TASKS
        for metric in METRICS[TASKS[task].kind]
    ]
    return pd.DataFrame(records)


@pytest.fixture(scope="module")
def reported():
    return tables.load_reported(Path(__file__).parents[2] / "config/reported.yaml")


@pytest.fixture
def compared():
    record = {
        "task": "s4",
        "metric": "mask-IoU",
        "method_a": "TACO",
        "variant_a": "proposed",
        "word_bank_a": "general",
        "method_b": "TACO",
        "variant_b": "shuffled audio",
        "word_bank_b": "general",
        "mean_a": 0.6,
        "mean_b": 0.45,
        "difference": 0.15,
        "low": 0.1,
        "high": 0.2,
        "p_value": 0.0001,
        "n_clips": 40,
        "n_samples": 200,
        "n_seeds_a": 3,
        "n_seeds_b": 3,
        "draws": 10000,
    }
    return pd.DataFrame(
        [record, record | {"task": "ade_sp", "low": -0.01}, record | {"low": -0.2, "high": -0.1}]
    )
