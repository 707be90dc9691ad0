"""Files between stages that are damaged or foreign: one error with the file's name, never another number."""

import random

import h5py
import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file
from score_rows import binary_rows, pool_rows, semantic_rows

from taco.cache import receipts
from taco.cache.hdf5 import CacheError, CacheWriter, open_cache
from taco.data import manifest
from taco.data.problems import ManifestError
from taco.models.weights import WeightsError, read_state
from taco.results import pools, score_files
from taco.results.score_files import AggregateError

FLIPS = 150


def write_cache(path):
    numbers = np.random.default_rng(0).normal(size=(3, 6, 5)).astype(np.float16)
    with CacheWriter(path, "features", ["a", "b", "c"], {"dataset": "s4"}) as writer:
        for index, array in enumerate(numbers):
            writer.put("tokens", index, array)
            writer.put("count", index, np.int64(index))
            writer.put("name", index, f"sample {index}")


def read_cache(path):
    with open_cache(path, "features", {"dataset": "s4"}) as cache:
        return [cache.sample_ids, *([cache[name][i].tolist() for i in range(3)] for name in sorted(cache))]


def write_manifest(path):
    row = dict.fromkeys(manifest.COLUMNS, "dog") | {"classes": ["dog", "bell"]}
    numbers = {name: 1 for name, kind in manifest.COLUMNS.items() if kind != "object"}
    frame = manifest.from_rows([row | numbers | {"sample_id": f"k{n}"} for n in range(4)])
    manifest.write(frame, path, {"masks": 4})


def read_manifest(path):
    return manifest.read(path).to_dict("records"), manifest.read_masks(path)


def write_pools(path):
    with pools.writer(path) as keep:
        keep(pool_rows(range(3), seeds=(0,)))


def read_pools(path):
    index = pools.load([path])
    found = [
        [part.tolist() for part in pools.pool([row]).sorted_scores()] for row in index.to_dict("records")
    ]
    return index.drop(columns=["file"]).to_dict("records"), found


def rows_of(rows, kind):
    return (
        lambda path: score_files.write_rows(rows, path, kind),
        lambda path: score_files.load_rows([path]).map(lambda value: np.asarray(value).tolist()).to_json(),
        AggregateError,
    )


FILES = {
    "cache.h5": (write_cache, read_cache, CacheError),
    "manifest.parquet": (write_manifest, read_manifest, ManifestError),
    "binary.rows.parquet": rows_of(binary_rows(), "binary"),
    "semantic.rows.parquet": rows_of(semantic_rows(), "semantic"),
    "pools.parquet": (write_pools, read_pools, AggregateError),
}


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_bit_changes_what_is_read(tmp_path, name):
    write, read, error = FILES[name]
    path, draw, refused = tmp_path / name, random.Random(name), []
    write(path)
    whole, expected = path.read_bytes(), read(path)
    for _ in range(FLIPS):
        data = bytearray(whole)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        try:
            assert read(path) == expected
        except error as refusal:
            refused.append(str(refusal))
    assert len(refused) > FLIPS / 10 and all(str(path) in message for message in refused)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_off_is_refused_by_name(tmp_path, name):
    write, read, error = FILES[name]
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    for keep in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(error, match=name):
            read(path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_program_is_refused_by_name(tmp_path, name):
    _, read, error = FILES[name]
    path = tmp_path / name
    pd.DataFrame({"sample_id": ["a"], "tp": [1]}).to_parquet(path)
    with pytest.raises(error, match=name):
        read(path)
    with h5py.File(path, "w") as file:
        file["tokens"] = np.ones(3)
    with pytest.raises(error, match=name):
        read(path)
    path.write_bytes(b"\x89PNG and something else")
    with pytest.raises(error, match=name):
        read(path)


def test_a_receipt_that_was_cut_off_is_refused_by_name(tmp_path):
    path = tmp_path / "0.json"
    (tmp_path / "a.h5").touch()
    receipts.write(path, {("general", "proposed"): tmp_path / "a.h5"}, "")
    whole = path.read_bytes()
    for keep in (0, 1, len(whole) // 2):
        path.write_bytes(whole[:keep])
        with pytest.raises(receipts.ReceiptError, match=r"0\.json"):
            receipts.read(path)
        assert receipts.state(path) == "unreadable"


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_weights_that_were_cut_off_are_refused_by_name(tmp_path, keep):
    import torch

    path = tmp_path / "clip.safetensors"
    save_file({"a": torch.ones(50), "b": torch.ones(3, 3)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="clip.safetensors"):
        read_state(path)
