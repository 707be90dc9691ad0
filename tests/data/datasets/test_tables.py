"""Metadata tables: read alike however they are written; what does not fit is named by its line, what is left out is counted."""

import logging

import pandas as pd
import pytest
import trees

from taco.data import manifest
from taco.data.problems import ManifestError

READERS = sorted(trees.WRITERS)
CSVS = {
    "s4": "Single-source/s4_meta_data.csv",
    "ms3": "Multi-sources/ms3_meta_data.csv",
    "avss": "metadata.csv",
    "ade": "prompted_segmentation.csv",
}


def change(path, function):
    """Rewrite a CSV, line by line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text(
        "\n".join(function(number, line) for number, line in enumerate(lines)) + "\n", encoding="utf-8"
    )


LEGAL = {
    "commas at the end of rows": lambda number, line: line + "," * (number > 0),
    "commas at the end of all lines": lambda number, line: line + ",,",
    "empty lines": lambda number, line: line + "\n\n,,,",
    "blanks": lambda number, line: line.replace(",", " , "),
    "capitals in the header": lambda number, line: line.upper() if number == 0 else line,
    "blanks in the header": lambda number, line: line.replace("_", " ") if number == 0 else line,
    "byte order mark": lambda number, line: "\ufeff" * (number == 0) + line,
    "Windows": lambda number, line: line + "\r",
    "quotes": lambda number, line: ",".join(f'"{cell}"' for cell in line.split(",")),
    "an index": lambda number, line: ("" if number == 0 else str(number)) + "," + line,
    "capitals in the split": lambda number, line: line.replace(",test", ",Test"),
    "blanks in the split": lambda number, line: line.replace(",test", ",\u00a0TEST\u200b "),
    "other columns": lambda number, line: line + (",title" if number == 0 else ",x"),
}


@pytest.mark.parametrize("way", LEGAL)
@pytest.mark.parametrize("reader", READERS)
def test_a_table_is_the_same_however_it_is_written(tmp_path, reader, way):
    dataset = trees.WRITERS[reader](tmp_path)
    before = manifest.build(dataset)
    change(tmp_path / CSVS[reader], LEGAL[way])
    pd.testing.assert_frame_equal(manifest.build(dataset), before)


def cut_cell(line):
    return line.rsplit(",", 1)[0]


FAULTS = {
    "a cell too few": (cut_cell, "fewer in line 3"),
    "a cell too many": (lambda line: "1," + line, "more in line 3"),
    "a NUL": (lambda line: line[0] + "\0" + line[1:], "some in line 3"),
    "a control character": (lambda line: line[0] + "\x1b" + line[1:], "some in line 3"),
    "an open quote": (lambda line: '"' + line, "line 3: "),
    "another encoding": (lambda line: "\udce9" + line, "can't decode byte"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("reader", READERS)
def test_rows_that_do_not_fit_are_named_by_line(tmp_path, reader, fault):
    dataset = trees.WRITERS[reader](tmp_path)
    path, (spoil, found) = tmp_path / CSVS[reader], FAULTS[fault]
    lines = path.read_text().splitlines()
    # The last row, so that an open quote reaches to the end of the file.
    lines[2:] = [spoil(lines[2])]
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    with pytest.raises(ManifestError) as caught:
        trees.rows(dataset)
    (problem,) = caught.value.problems
    assert problem.file == str(path) and found in problem.found


@pytest.mark.parametrize("comma", [";", "\t"])
def test_tables_without_commas_are_refused(tmp_path, comma):
    dataset = trees.s4(tmp_path)
    change(tmp_path / CSVS["s4"], lambda _, line: line.replace(",", comma))
    with pytest.raises(
        ManifestError, match=r"missing: name, category, split\)\. Save it as a CSV with commas"
    ):
        trees.rows(dataset)


@pytest.mark.parametrize("reader", ["s4", "ms3", "avss"])
def test_a_row_without_a_split_is_an_error(tmp_path, reader):
    dataset = trees.WRITERS[reader](tmp_path)
    change(
        tmp_path / CSVS[reader],
        lambda number, line: line.replace(",test", ",\u00a0") if number == 1 else line,
    )
    with pytest.raises(ManifestError, match="expected a split in each row; found none in line 2"):
        trees.rows(dataset)


def test_rows_of_other_splits_are_counted(tmp_path, caplog):
    clips = (
        ("a", "cat", "test"),
        ("b", "cat", "Test"),
        ("c", "cat", "tset"),
        ("d", "cat", "val"),
        ("e", "cat", "val"),
    )
    dataset = trees.s4(tmp_path, clips=clips)
    with caplog.at_level(logging.INFO):
        frame = manifest.build(dataset, require_files=False)
    assert frame["clip_id"].unique().tolist() == ["a", "b"] and set(frame["split"]) == {"test"}
    levels = {record.getMessage().split(": ", 1)[1]: record.levelname for record in caplog.records}
    assert levels == {
        "1 rows of the split 'Test' are read as 'test'": "WARNING",
        "1 of 5 rows are left out: of the split 'tset'": "WARNING",
        "2 of 5 rows are left out: of the split 'val'": "INFO",
    }


@pytest.mark.parametrize(
    ("reader", "what"), [("s4", "clip 'a1b2'"), ("ms3", "clip 'u_0'"), ("avss", "clip 'x_0_10000'")]
)
def test_repeated_rows_are_named_by_line(tmp_path, reader, what):
    dataset = trees.WRITERS[reader](tmp_path)
    path = tmp_path / CSVS[reader]
    trees.add_rows(path, path.read_text().splitlines()[1])
    with pytest.raises(ManifestError) as caught:
        trees.rows(dataset)
    (problem,) = caught.value.problems
    assert (problem.file, problem.expected) == (str(path), f"one row for {what}")
    assert problem.found == f"lines 2, {len(path.read_text().splitlines())}"


def test_a_column_that_stands_twice_is_refused(tmp_path):
    dataset = trees.s4(tmp_path)
    change(tmp_path / CSVS["s4"], lambda number, line: line + (",Split" if number == 0 else ",x"))
    with pytest.raises(ManifestError, match=r"\(split more than once\)"):
        trees.rows(dataset)
