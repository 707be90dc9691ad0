"""Files of pooled scores: bit for bit, small, read a class at a time, and refused by name where they are others."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from score_rows import binary_rows, frame_of, pool_rows

from taco import metrics
from taco.results import pools, score_files


def test_pools_survive_their_file_bit_for_bit(tmp_path):
    rows = pool_rows()
    index = frame_of(rows, tmp_path, "pools", "rows")
    assert list(index["class_name"]) == [row["class_name"] for row in rows]
    assert not set(pools.SCORES) & set(index.columns)  # an index of files holds no score
    for kept, row in zip(index.to_dict("records"), rows, strict=True):
        found, expected = pools.pool([kept]), metrics.ScorePool.from_row(row)
        for a, b in zip(found.sorted_scores(), expected.sorted_scores(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert (found.n_samples, found.n_pixels) == (expected.n_samples, expected.n_pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_parts_of_a_class_are_one_pool_wherever_they_lie(tmp_path):
    """Written in parts by a job that is short of memory, and by several shards."""
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path, groups in zip(paths, [[range(2), range(2, 5)], [range(5, 8)]], strict=True):
        with pools.writer(path) as keep:
            for samples in groups:
                keep(pool_rows(samples, seeds=(0,)))
    index = pools.load(paths)
    assert len(index) == 6 and index["n_samples"].sum() == 8
    (whole,) = (row for row in pool_rows(seeds=(0,)) if row["class_name"] == "class1")
    found = pools.pool(index[index["class_name"] == "class1"].to_dict("records"))
    np.testing.assert_array_equal(found.sorted_scores()[0], metrics.from_ordered(whole["positives"]))
    assert found.n_samples == 4


def test_each_class_is_a_row_group_of_its_own(tmp_path):
    index = frame_of(pool_rows(), tmp_path, "pools", "rows")
    assert pq.ParquetFile(tmp_path / "rows.parquet").num_row_groups == len(index)


def test_a_pool_takes_less_than_two_bytes_a_pixel(tmp_path):
    x = np.linspace(0, 1, 224)
    pool = metrics.ScorePool()
    for n in range(4):
        scores = np.exp(-5 * ((x[:, None] - n / 4) ** 2 + (x - 0.4) ** 2))
        pool.update(scores, scores > 0.7)
    identity = dict(zip(metrics.POOL_IDENTITY, ("ade_sp", "ade", "bell", "TACO", "proposed", "general", 0)))
    frame_of([identity | pool.to_row()], tmp_path, "pools", "rows")
    assert (tmp_path / "rows.parquet").stat().st_size < 2 * pool.n_pixels


def test_no_pool_and_no_file_give_an_empty_index(tmp_path):
    assert frame_of([], tmp_path, "pools").empty
    assert list(pools.load([]).columns) == [*pools.KEPT, "file", "group"]


def test_an_error_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), pools.writer(tmp_path / "a.parquet") as keep:
        keep([{"task": "ade_sp"}])
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_pools_are_refused_by_name(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    score_files.write_rows(binary_rows(), tmp_path / "rows.parquet", "binary")
    for name, message in (
        ("other", "schema none"),
        ("torn", "Parquet"),
        ("rows", "kind binary"),
        ("none", "No such file"),
    ):
        with pytest.raises(score_files.AggregateError, match=message) as error:
            pools.load([tmp_path / f"{name}.parquet"])
        assert f"{name}.parquet" in str(error.value)
