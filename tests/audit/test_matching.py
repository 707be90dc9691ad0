"""What no longer matches its inputs is named: a damaged array, another setting, a file of somebody else."""

import numpy as np
import pandas as pd
import pytest

from taco import suites
from taco.audit import matching
from taco.cache.hdf5 import CacheWriter


@pytest.fixture
def checker(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return matching.Checker(suites.read())


def write_cache(path, values=(1.0, 2.0), **attributes):
    rng = np.random.default_rng(0)
    with CacheWriter(
        path, "features", ["a", "b"], {"code": "new", "how": {"x": 1, "y": 2}, **attributes}
    ) as writer:
        for index, value in enumerate(values):
            writer.put("tokens", index, value * rng.random((8, 8)))
    return path


def found_in(checker, path, expect, samples=("a", "b")):
    return list(checker._cache(path, "features", expect, list(samples)))


def test_a_cache_that_is_right_is_passed_over(checker, tmp_path):
    path = write_cache(tmp_path / "a.h5")
    assert found_in(checker, path, {"code": "new", "how": {"x": 1}}) == []
    assert checker.checked == 1


def test_what_made_it_is_compared_by_name(checker, tmp_path):
    path = write_cache(tmp_path / "a.h5")
    (line,) = found_in(checker, path, {"code": "newer", "how": {"x": 5, "y": 2}})
    assert line.startswith(str(path)) and "code, how (x)" in line
    (line,) = found_in(checker, path, {"code": "new"}, ("a", "c"))
    assert "samples" in line


def test_a_flipped_byte_is_found_in_the_array_that_it_hit(checker, tmp_path):
    import h5py

    path = write_cache(tmp_path / "a.h5")
    with h5py.File(path) as file:
        place = file["tokens"].id.get_chunk_info(1).byte_offset + 20
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    (line,) = found_in(checker, path, {"code": "new"})
    assert "sample 1 of tokens" in line and "\n" not in line


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"PAR1"])
def test_a_file_of_somebody_else_is_one_line(checker, tmp_path, content):
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    (line,) = found_in(checker, path, {"code": "new"})
    assert str(path) in line and "\n" not in line


def test_files_that_no_stage_writes_are_named(checker):
    folder = checker.folder / "tables"
    folder.mkdir(parents=True)
    (folder / "table2.csv").touch()
    (folder / "table2 (copy).csv").touch()
    (folder / ".snakemake_timestamp").touch()
    (line,) = checker._strangers()
    assert "table2 (copy).csv" in line


def test_an_empty_folder_has_a_line_for_what_is_missing(checker):
    lines = list(checker.mismatches())
    assert any("manifests/s4.parquet" in line for line in lines) and any("text.h5" in line for line in lines)
    assert all("\n" not in line for line in lines)


def test_manifests_that_differ_say_where():
    frame = pd.DataFrame({"sample_id": ["a", "b"], "start": [0.0, 1.0]})
    assert matching._unlike(frame, frame.iloc[:1]) == "2 rows"
    assert matching._unlike(frame.assign(start=2.0), frame) == "others in start"
