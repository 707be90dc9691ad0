"""What tables, figures and calibration hold of score rows: scalars of each row, counts of a portion alone."""

import tracemalloc

import numpy as np
import pytest
from score_rows import identity, map_of, truth_of

from taco import metrics
from taco.figures import gallery
from taco.results import calibration, pools, score_files, whole

SAMPLES = 120, 480
MOST = {"tables": 800, "calibrated": 1300, "by_image": 800}
"""Bytes that a row may add to the peak; its counts alone are 2.2 kB, and to compute with them takes several times that."""
CELLS = (
    *(("TACO", variant, "general", seed) for variant in ("proposed", "shuffled audio") for seed in (0, 1)),
    ("TACO", "silence", "general", 0),
    *(("U only", variant, "general", 0) for variant in ("proposed", "shuffled audio")),
    ("A-FC-CLIP", "list", "specific", -1),
)
CONFIG = {
    "suite": "small",
    "split": "test",
    "seed": 0,
    "segment": {"confidence_threshold": {"TACO": 0.3, "U only": None}},
    "tables": {
        "which": [],
        "reported": None,
        "thresholds": None,
        "empty_truth": "background",
        "f_aggregation": "set",
        "bootstrap_samples": 100,
    },
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Score files of three shards, few rows in a row group, by number of samples: (rows, paths)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_files, "ROWS_OF_A_GROUP", 40)
        return written(tmp_path_factory)


def written(tmp_path_factory):
    rng, counted = (
        np.random.default_rng(0),
        [metrics.binary_row(map_of(n, 0), truth_of(n)) for n in range(16)],
    )
    found = {}
    for samples in SAMPLES:
        folder, paths, total = tmp_path_factory.mktemp("rows"), [], 0
        for shard, part in enumerate(np.array_split(np.arange(samples), 3)):
            rows = [
                identity("s4", sample, method, variant, bank, seed, f"class{sample % 5}")
                | counted[rng.integers(16)]
                | {"floor": rng.random() / 9, "peak": rng.random()}
                for sample in part
                for method, variant, bank, seed in CELLS
            ]
            paths.append(folder / f"{shard}.rows.parquet")
            score_files.write_rows(rows, paths[-1], "binary")
            total += len(rows)
        found[samples] = total, paths
    return found


def tables(paths, at_once):
    found = whole.Tables.of(CONFIG, score_files.load_rows(paths, at_once), pools.load([]))
    return [whole.csv(found.thresholds()), *(table.csv() for table in found.all())]


def calibrated(paths, at_once):
    return [frame.to_csv() for frame in calibration.table(score_files.load_rows(paths, at_once))]


def by_image(paths, at_once):
    return [gallery.all_scores(score_files.load_rows(paths, at_once)).to_csv()]


STAGES = [tables, calibrated, by_image]


@pytest.mark.parametrize("stage", STAGES)
def test_memory_grows_by_scalars_of_a_row_not_by_its_counts(files, stage):
    peaks = []
    for _, paths in (
        files[SAMPLES[0]],
        *files.values(),
    ):  # once before, for what is kept from the first call on
        tracemalloc.start()
        stage(paths, at_once=80)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    added = (peaks[2] - peaks[1]) / (files[SAMPLES[1]][0] - files[SAMPLES[0]][0])
    print(f"{stage.__name__}: {added:.0f} bytes a row, peak {peaks[2] / 1e6:.1f} MB")
    assert added <= MOST[stage.__name__]


@pytest.mark.parametrize("stage", STAGES)
def test_no_number_depends_on_how_many_rows_are_in_memory(files, stage):
    _, paths = files[SAMPLES[0]]
    assert stage(paths, at_once=25) == stage(paths[::-1], at_once=10_000)
