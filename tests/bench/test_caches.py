"""Cache benchmark: sizes add up, storages and compressions are told apart. Nothing here asserts a time."""

import numpy as np
import pytest

from taco.bench import caches
from taco.bench.caches import Sizes
from taco.cache.storage import COMPRESSION, STORAGES

SMALL = Sizes(queries=24, side=32, n=64, t=16, width=32, d=32)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    found = caches.caches(samples=3, others=2, compressions=("none", COMPRESSION), sizes=SMALL, folder=folder)
    assert not list(folder.iterdir())  # the caches are gone
    return found


def rows_of(report):
    return {(row["storage"], row["compression"]): row for row in report["rows"]}


def test_every_storage_and_compression_has_a_row(report):
    rows = rows_of(report)
    assert set(rows) == {(storage, name) for storage in STORAGES for name in ("none", COMPRESSION)}
    assert rows["uint8", COMPRESSION]["samples"] == 3 and rows["uint8", "none"]["samples"] == 2


def test_tables_show_every_row(report):
    rows, maps = caches.tables(report)
    assert (rows.row_count, maps.row_count) == (len(report["rows"]), 3)


def test_uncompressed_arrays_take_their_raw_size(report):
    rows, raw = rows_of(report), report["raw_mb"]
    assert rows["float16", "none"]["masks_mb"] == pytest.approx(raw["masks"])
    assert rows["uint8", "none"]["masks_mb"] == pytest.approx(raw["masks"] / 2)
    for row in rows.values():
        assert row["masks_mb"] <= rows[row["storage"], "none"]["masks_mb"]
        whole = (row["masks_mb"] + row["embeddings_mb"] + row["tokens_mb"]) * caches.AVSS_FRAMES / 1e3
        assert row["avss_gb"] == pytest.approx(whole)


def test_content_is_drawn_by_its_number_and_looks_like_proposals():
    first, again, other = (caches.sample(index, SMALL)["masks"].astype(np.float32) for index in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # Mean, deviation and compressed share of the miniature suite's trained proposals: -14, 7.4, 0.73 to 0.75.
    assert first.mean() == pytest.approx(-14, abs=1) and first.std() == pytest.approx(7.4, abs=0.1)


def test_synthetic_masks_compress_as_trained_ones_do(report):
    row = rows_of(report)["float16", COMPRESSION]
    assert 0.65 < row["masks_mb"] / report["raw_mb"]["masks"] < 0.85


def test_bytes_change_maps_little(report):
    for effect in report["maps"]:
        assert 0 < effect["largest"] < 0.05 and effect["mean"] < 0.005 and effect["changed"] < 0.05
