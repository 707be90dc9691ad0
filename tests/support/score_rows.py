"""Made-up score rows of a few samples, as tests of aggregation, tables and figures share them."""

import numpy as np
import pandas as pd

from taco import metrics
from taco.results import pools, score_files

SIZE = (10, 12)


def identity(task, sample, method="TACO", variant="proposed", bank="general", seed=0, class_name="bell"):
    return {
        "task": task,
        "dataset": "ade" if task.startswith("ade") else task,
        "sample_id": f"clip{sample // 2}_{sample % 2}",
        "clip_id": f"clip{sample // 2}",
        "class_name": class_name,
        "method": method,
        "variant": variant,
        "word_bank": bank,
        "seed": seed,
    }


def truth_of(sample):
    return np.random.default_rng(sample).random(SIZE) < 0.3


def map_of(sample, seed, skill=0.5):
    noise = np.random.default_rng([sample, seed + 1, 7]).random(SIZE)
    return skill * truth_of(sample) + (1 - skill) * noise


def binary_rows(task="s4", samples=range(8), seeds=(0, 1, 2), skill=0.5, **names):
    return [
        identity(task, sample, seed=seed, class_name=f"class{sample % 2}", **names)
        | metrics.binary_row(map_of(sample, seed, skill), truth_of(sample))
        for seed in seeds
        for sample in samples
    ]


def semantic_rows(samples=range(8), seeds=(0, 1, 2), task="avss", first_id=0, skill=0.5, **names):
    rows = []
    for seed in seeds:
        for sample in samples:
            rng = np.random.default_rng([sample, seed + 1])
            truth = truth_of(sample) * (1 + sample % 3)
            prediction = np.where(rng.random(SIZE) < skill, truth, rng.integers(0, 4, SIZE))
            labels = 4 if first_id == 0 else 3
            row = metrics.semantic_row(prediction, truth, labels, first_id)
            rows.append(identity(task, sample, bank="specific", seed=seed, **names) | row)
    return rows


def pool_rows(samples=range(8), seeds=(0, 1, 2), **names):
    found = {}
    for seed in seeds:
        for sample in samples:
            name = identity("ade_sp", sample, seed=seed, class_name=f"class{sample % 2}", **names)
            key = tuple(name[k] for k in metrics.POOL_IDENTITY)
            found.setdefault(key, metrics.ScorePool()).update(map_of(sample, seed), truth_of(sample))
    return [dict(zip(metrics.POOL_IDENTITY, key, strict=True)) | p.to_row() for key, p in found.items()]


def frame_of(rows, folder, kind="binary", name=None, **options):
    path = folder / f"{name or f'rows{len(list(folder.iterdir()))}'}.parquet"
    if kind == "pools":
        with pools.writer(path) as keep:
            keep(rows)
        return pools.load([path])
    score_files.write_rows(rows, path, kind)
    return score_files.load_rows([path], **options)


def rows_of_s4(quality, seeds=(0, 1), clips=12):
    """Rows of S4: TACO marks a share of the truth, the controls as they do."""
    rng, rows = np.random.default_rng(5), []
    for clip in range(clips):
        truth = np.zeros((16, 16), dtype=bool)
        truth[: rng.integers(5, 9), 4:12] = True
        answers = {
            ("TACO", "proposed", "general"): truth * rng.uniform(quality, 1),
            ("whole image", "control", "none"): truth | True,
        }
        answers[("oracle mask", "control", "none")] = truth
        answers[("TACO", "shuffled audio", "general")] = np.roll(truth, 5, axis=1)
        for (method, variant, bank), scores in answers.items():
            for seed in seeds if bank == "general" else (-1,):
                cell = ("s4", "s4", f"c{clip}_0", f"c{clip}", "bell", method, variant, bank, seed)
                row = dict(zip(metrics.IDENTITY, cell))
                rows.append(row | metrics.binary_row(scores.astype(np.float32), truth))
    return pd.DataFrame(rows)
