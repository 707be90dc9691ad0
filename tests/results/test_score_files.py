"""Files of score rows: what is written is read again, and a wrong file or row is refused by name."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from score_rows import binary_rows, frame_of, pool_rows, semantic_rows

from taco.cache.hdf5 import CacheWriter
from taco.results import counts, pools, score_files


@pytest.mark.parametrize(("kind", "rows"), [("binary", binary_rows()), ("semantic", semantic_rows())])
def test_rows_survive_parquet(tmp_path, kind, rows):
    frame = frame_of(rows, tmp_path, kind).set_index(["sample_id", "seed"])
    assert len(frame) == len(rows)
    for row in rows:
        kept = frame.loc[(row["sample_id"], row["seed"])]
        for name, value in row.items():
            if name not in ("sample_id", "seed"):
                np.testing.assert_array_equal(kept[name], value)


def test_lists_are_small_integers_on_disk(tmp_path):
    score_files.write_rows(binary_rows(), tmp_path / "a.parquet", "binary")
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert {str(schema.field(n).type) for n in ("tp", "fp", "f_tp", "f_pp")} == {"list<element: int32>"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet"]  # no partial file stays


def test_further_columns_are_kept(tmp_path):
    rows = [row | {"k_star": 3, "confidence": 0.5} for row in binary_rows()]
    assert set(frame_of(rows, tmp_path)["k_star"]) == {3}


@pytest.mark.parametrize("change", [lambda row: row.pop("tp"), lambda row: row.update(surprise=1)])
def test_a_row_that_differs_is_refused_and_nothing_is_written(tmp_path, change):
    rows = binary_rows()
    change(rows[1])
    with pytest.raises(score_files.AggregateError, match="row 1 differs in columns"):
        score_files.write_rows(rows, tmp_path / "a.parquet", "binary")
    assert not list(tmp_path.iterdir())


def test_a_row_given_twice_is_refused(tmp_path):
    for name, samples in [("a", range(4)), ("b", range(3, 8))]:
        score_files.write_rows(binary_rows(samples=samples), tmp_path / f"{name}.parquet", "binary")
    with pytest.raises(score_files.AggregateError, match=r"more than once.*clip1_1"):
        score_files.load_rows([tmp_path / "a.parquet", tmp_path / "b.parquet"])


def test_files_that_are_not_scores_are_refused_by_name(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    frame_of(pool_rows(), tmp_path, "pools", "pools")
    for name, message in [("other", "schema none"), ("torn", "Parquet"), ("pools", "kind pools")]:
        with pytest.raises(score_files.AggregateError, match=message) as error:
            score_files.load_rows([tmp_path / f"{name}.parquet"])
        assert f"{name}.parquet" in str(error.value)
    with pytest.raises(score_files.AggregateError, match="found none"):
        score_files.load_rows([])


def flip(path, column):
    """Change a byte of a column's content."""
    footer = pq.read_metadata(path)
    place = footer.schema.names.index(column) if column in footer.schema.names else column
    chunk = footer.row_group(0).column(place)
    data = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start + chunk.total_compressed_size - 3] ^= 1
    path.write_bytes(data)


def test_a_flipped_byte_is_refused_by_name(tmp_path):
    path = tmp_path / "rows.parquet"
    score_files.write_rows(binary_rows(), path, "binary")
    flip(path, "pixels")
    with pytest.raises(score_files.AggregateError, match=r"rows\.parquet"):
        score_files.load_rows([path])
    found = frame_of(pool_rows(), tmp_path, "pools", "pools")
    flip(tmp_path / "pools.parquet", len(found.columns) - 2)  # scores of negatives
    with pytest.raises(score_files.AggregateError, match=r"pools\.parquet"):
        pools.pool(found.to_dict("records"))


def test_rows_say_what_made_them_and_other_things_make_other_words(tmp_path):
    frame = pd.DataFrame({"sample_id": ["a"], "start": [0.0], "classes": [["dog"]]})
    with CacheWriter(tmp_path / "f.h5", "features", ["a"], {}) as writer:
        writer.put("x", 0, 1.0)
    caches = {"features": (tmp_path / "f.h5", "features")}
    made = score_files.made_from("c", {"size": 1}, frame, caches)
    score_files.write_rows(binary_rows(), tmp_path / "a.parquet", "binary", {"device": "cpu"}, made)
    told = score_files.about(tmp_path / "a.parquet")
    assert told["made"] == made and told["cost"] == {"device": "cpu"} and told["rows"] == len(binary_rows())
    assert made["packages"]["numpy"] == np.__version__
    other = score_files.made_from("c", {"size": 2}, frame.assign(classes=[["cat"]]), caches)
    assert {name for name in made if made[name] != other[name]} == {"settings", "samples"}
    with CacheWriter(tmp_path / "f.h5", "features", ["a"], {}) as writer:
        writer.put("x", 0, 2.0)
    assert score_files.made_from("c", {"size": 1}, frame, caches)["caches"] != made["caches"]


def test_rows_of_another_run_are_refused_by_name(tmp_path):
    path, made = tmp_path / "a.parquet", {"code": "c", "settings": "s"}
    score_files.write_rows(binary_rows(), path, "binary", made=made)
    assert len(score_files.load_rows({path: made})) == len(binary_rows())
    for other in ("code", "settings"):
        with pytest.raises(
            score_files.AggregateError, match=rf"a\.parquet: .* made with other {other}: .* Delete"
        ):
            score_files.load_rows({path: made | {other: "x"}})
    score_files.write_rows(binary_rows(), path, "binary")
    with pytest.raises(score_files.AggregateError, match="other code and settings"):
        score_files.load_rows({path: made})


def test_counts_that_were_replaced_after_the_file_was_opened_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    score_files.write_rows(binary_rows(skill=0.5), path, "binary")
    rows = score_files.load_rows([path])
    score_files.write_rows(binary_rows(skill=0.9), path, "binary")
    with pytest.raises(score_files.AggregateError, match=r"a\.parquet.*tp.*checksum"):
        counts.table(rows, "tp")


def test_a_row_group_holds_one_cell_and_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(score_files, "ROWS_OF_A_GROUP", 3)
    rows = frame_of(binary_rows() + binary_rows(method="U only"), tmp_path)
    (path,) = tmp_path.iterdir()
    sizes = [pq.read_metadata(path).row_group(n).num_rows for n in range(pq.ParquetFile(path).num_row_groups)]
    assert sizes == [3, 3, 2] * 6  # eight samples of two methods and three seeds
    assert [key for key, _ in score_files.cells(rows, ("method", "seed"))] == [
        (method, seed) for method in ("TACO", "U only") for seed in range(3)
    ]
    score_files.check(path)
