"""A result depends on inputs, configuration and seed alone: never on batches, shards, order, threads, beyond stated rounding.

The pipeline's own jobs run on a few clips of a generated world, in this process.
"""

import shutil

import in_process
import numpy as np
import pandas as pd
import pytest
import torch

from taco import suites
from taco.cache.hdf5 import open_cache
from taco.data import manifest

pytestmark = pytest.mark.slow
SUITE = "results/miniature"
CLIPS = {"train": 1, "val": 1, "test": 1}
BASE = {
    "device": "cpu",
    "seeds": [0, 1],
    "world": {
        "clips": {"s4": {**CLIPS, "test": 3}, "ms3": CLIPS, "avss": CLIPS, "ade": {**CLIPS, "test": 7}}
    },
    "tasks": {
        "s4": {"banks": ["general"], "variants": ["shuffled-audio"]},
        "ade_sp": {
            "banks": ["general"],
            "variants": ["shuffled-audio", "no-min", "without-component", "without-penalty"],
        },
        **dict.fromkeys(["ms3", "avss", "ade_sp_semantic"]),
    },
    "methods": {"dense-clip": {"tasks": ["avss"]}, "saliency": {"tasks": ["avss"]}},
    "features": {"batch_size": 1, "audio_crop": "random"},
    "solver": {"steps": 40, "halve_at": [20], "batch_size": 1},
    "tables": {"which": [], "bootstrap_samples": 100},
}
# Of single samples in points of a score in 0 … 1, of tables in percent.
SCORE_TOLERANCE, TABLE_TOLERANCE = 2e-3, 0.01
KEYS = ["task", "sample_id", "method", "variant", "word_bank", "seed"]


def batches(features, solver):
    return {"features": {"batch_size": features}, "solver": {"batch_size": solver}}


def shards(count):
    return {"datasets": {name: {"shards": count} for name in ("s4", "ade")}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with the world, its manifests and words."""
    folder = tmp_path_factory.mktemp("independence") / "prepared"
    folder.mkdir()
    (folder / "weights").symlink_to(in_process.ROOT / "weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        in_process.run(
            folder,
            BASE,
            {f"{SUITE}/text.h5", *(f"{SUITE}/manifests/{name}.parquet" for name in ("s4", "ade"))},
        )
    return folder


@pytest.fixture(scope="module")
def results(prepared, tmp_path_factory):
    """Rows, table and factors of a run with changes; a run is made once."""
    known = {}

    def of(name, changes=None, threads=1, order=None):
        if name not in known:
            folder = tmp_path_factory.mktemp("run") / "project"
            shutil.copytree(prepared, folder, symlinks=True)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                if order is not None:
                    for dataset in ("s4", "ade"):
                        rearrange(folder / SUITE / f"manifests/{dataset}.parquet", order)
                in_process.run(
                    folder, suites.overlay(BASE, changes or {}), {f"{SUITE}/tables/extended.csv"}, threads
                )
                known[name] = read(folder / SUITE)
        return known[name]

    yield of
    torch.set_num_threads(1)


def rearrange(path, seed):
    """Shuffle a manifest's clips; their frames stay together and in order."""
    frame = manifest.read(path)
    clips = [part for _, part in frame.groupby("clip_id", sort=False)]
    order = np.random.default_rng(seed).permutation(len(clips))
    manifest.write(
        pd.concat([clips[index] for index in order], ignore_index=True), path, manifest.read_masks(path)
    )


def read(folder):
    """Score rows by their keys, the table, and every factor array by run and sample."""
    rows = pd.concat(pd.read_parquet(path) for path in sorted(folder.glob("scores/*/*/*.rows.parquet")))
    factors = {}
    for path in sorted(folder.glob("factors/*/*/*/*.h5")):
        with open_cache(path, "factors") as cache:
            for name in ("image_factors", "k_star", "cross_entropy"):
                for index, sample in enumerate(cache.sample_ids):
                    factors[(*path.parts[-4:-1], sample, name)] = cache[name][index]
    return rows.set_index(KEYS).sort_index(), pd.read_csv(folder / "tables/extended.csv"), factors


def overlaps(rows):
    """IoU of each map with its truth at every threshold; NaN without truth."""
    tp, fp = (np.stack(rows[name]).astype(float) for name in ("tp", "fp"))
    positives = rows["positives"].to_numpy(float)[:, None]
    return np.where(positives > 0, tp / np.maximum(positives + fp, 1), np.nan)


def differences(one, other):
    """Largest difference of a score of a sample, of a cell of the table (percent), and of factors, relative to their scale."""
    (rows, table, factors), (rows_2, table_2, factors_2) = one, other
    assert rows.index.equals(rows_2.index) and set(factors) == set(factors_2)
    of_rows = float(np.nanmax(np.abs(overlaps(rows) - overlaps(rows_2))))
    keys = [name for name in table if table[name].dtype == object and name != "source"]
    pd.testing.assert_frame_equal(table[keys], table_2[keys])
    of_table = float((table["mean"] - table_2["mean"]).abs().max())
    floats = [name for name in factors if name[-1] == "image_factors"]
    of_factors = max(
        float(np.abs(factors[name] - factors_2[name]).max() / np.abs(factors[name]).max()) for name in floats
    )
    return of_rows, of_table, of_factors


SAME_TOKENS = {
    "two shards": (shards(2), {}),
    "seven shards": (shards(7), {}),
    "another order": ({}, {"order": 0}),
    "two threads": ({}, {"threads": 2}),
}
OTHER_BATCHES = {
    "batches of 3": (batches(3, 3), {}),
    "batches of 32": (batches(32, 32), {}),
    "batches of 3 in two shards of another order": (suites.overlay(batches(3, 3), shards(2)), {"order": 1}),
    "batches of 32 in seven shards": (suites.overlay(batches(32, 32), shards(7)), {}),
}
QUICK = {"two shards", "batches of 3 in two shards of another order"}


def cases(of):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in of]


@pytest.mark.parametrize("name", cases(SAME_TOKENS))
def test_shards_order_and_threads_change_no_bit(name, results):
    changes, how = SAME_TOKENS[name]
    one, other = results("alone"), results(name, changes, **how)
    for key, values in one[2].items():
        np.testing.assert_array_equal(other[2][key], values, err_msg=str(key))
    assert differences(one, other) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", cases(OTHER_BATCHES))
def test_batches_change_rounding_alone(name, results, record_property):
    changes, how = OTHER_BATCHES[name]
    of_rows, of_table, of_factors = found = differences(results("alone"), results(name, changes, **how))
    record_property("differences", found)
    print(f"{name}: scores {of_rows:.2g}, table {of_table:.2g} %, factors {of_factors:.2g}")
    assert of_rows <= SCORE_TOLERANCE
    assert of_table <= TABLE_TOLERANCE
