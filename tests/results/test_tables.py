"""Tables: every number in its place, in percent, and no suite taken for the paper."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from taco.metrics.tasks import TASKS
from taco.results import tables

REPORTED = Path(__file__).parents[2] / "config" / "reported.yaml"


def cell_of(frame, **names):
    for name, value in names.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


# ------------------------------------------------------------------------------- numbers of others


def test_reported_holds_every_printed_number(reported):
    printed = {table: sum(key[0] == table for key in reported.paper) for table in tables.SPECS}
    assert printed == {"table1": 10, "table2": 8, "table3": 12, "table4": 12, "table5": 8}
    literature = {table: [m for t, m in reported.literature if t == table] for table in ("table2", "table3")}
    assert literature == {
        "table2": ["SLAVC", "MarginNCE", "FNAC", "Alignment", "ACL-SSL"],
        "table3": ["DAVENet", "CAVMAE", "ImageBind", "DenseAV"],
    }
    assert sum(len(cells) for cells in reported.literature.values()) == 18 + 8
    assert len(reported.release) == 6 + 4 + 6
    sources = [v[2] for v in (*reported.paper.values(), *reported.release.values())]
    sources += [v[2] for cells in reported.literature.values() for v in cells.values()]
    assert all(sources)


def test_reported_keeps_the_papers_contradictions(reported):
    taco_ms3 = ("ms3", "TACO", "proposed", "general", "mask-IoU")
    assert reported.paper["table2", *taco_ms3][:2] == (50.46, 3.12)
    assert reported.paper["table4", *taco_ms3][:2] == (50.45, 3.12)
    assert reported.release[taco_ms3][:2] == (43.15, 0.91)
    u_only = ("ade_sp", "U only", "proposed", "general", "mIoU")
    assert reported.paper["table3", *u_only][0] == 27.74
    assert reported.paper["table4", *u_only][0] == 32.42
    assert reported.release[u_only][:2] == (27.74, 0.48)
    assert reported.release[(*u_only[:4], "mAP")][:2] == (35.75, 0.33)
    afc = ("ade_sp_semantic", "A-FC-CLIP", "list", "specific", "mIoU")
    assert (reported.paper["table1", *afc][0], reported.paper["table5", *afc][0]) == (24.95, 20.91)
    assert all(reported.notes[table] for table in tables.SPECS)


def test_every_reported_number_has_a_cell_in_its_table(reported, aggregates):
    for name, spec in tables.SPECS.items():
        frame = tables.build(aggregates, spec, reported, "paper")
        wanted = sum(key[0] == name for key in reported.paper)
        wanted += sum(len(cells) for (table, _), cells in reported.literature.items() if table == name)
        assert frame["reported_mean"].notna().sum() == wanted


def test_the_release_meets_its_cells_in_tables_2_to_5(reported, aggregates):
    frames = [tables.build(aggregates, spec, reported, "paper") for spec in tables.SPECS.values()]
    frame = pd.concat(frames)
    cells = frame.dropna(subset=["release_mean"])[["dataset", "method", "metric"]]
    assert set(cells.itertuples(index=False, name=None)) == {
        (TASKS[task].title, method, metric) for task, method, _, _, metric in reported.release
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[s4, mask-IoU], [s4, F]", "[s5, mask-IoU], [s4, F]"),  # unknown task
        ("values: [28.10, 34.60, 24.37, 25.56]", "values: [28.10, 34.60]"),  # a value for each column
        ("values: [28.10, 34.60", "values: [[28.10], 34.60"),  # mean without std
        ("release:\n", "realease:\n"),
    ],
)
def test_a_malformed_file_of_numbers_is_refused_by_name(tmp_path, old, new):
    text = REPORTED.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "numbers.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(tables.TableError, match=r"numbers\.yaml: malformed"):
        tables.load_reported(path)


# -------------------------------------------------------------------------------------------- build


@pytest.mark.parametrize("name", tables.SPECS)
def test_a_table_holds_each_number_in_percent(name, aggregates):
    spec = tables.SPECS[name]
    frame = tables.build(aggregates, spec, None, "miniature")
    assert tuple(frame.columns) == tables.COLUMNS
    assert len(frame) == len(spec.rows) * len(spec.columns)
    assert set(frame["table"]) == {name}
    index = aggregates.assign(dataset=aggregates["task"].map(lambda task: TASKS[task].title))
    keys = ["dataset", "method", "variant", "word_bank", "metric"]
    found = frame.merge(index, on=keys, suffixes=("", "_fraction"), validate="one_to_one")
    assert len(found) == len(frame)
    np.testing.assert_allclose(found["mean"], 100 * found["mean_fraction"])
    np.testing.assert_allclose(found["std"], 100 * found["std_fraction"])
    assert (found["n_seeds"] == found["n_seeds_fraction"]).all()
    assert (found["n_samples"] == found["n_samples_fraction"]).all()


def test_default_banks_are_the_papers(aggregates):
    frames = [
        tables.build(aggregates, tables.SPECS[n], None, "paper") for n in ("table2", "table3", "table5")
    ]
    frame = pd.concat(frames).query("method == 'TACO'")
    banks = frame.groupby("dataset")["word_bank"].unique().map(list).to_dict()
    assert banks == {
        "S4": ["general"],
        "MS3": ["general"],
        "ADE SP": ["general"],
        "AVSS": ["specific"],
        "ADE SP Semantic": ["specific"],
    }


def test_table_2_has_the_issues_rows_in_order(aggregates, reported):
    frame = tables.build(aggregates, tables.SPECS["table2"], reported, "paper")
    rows = list(dict.fromkeys(zip(frame["method"], frame["variant"], strict=True)))
    assert rows == [
        *[(name, "literature") for name in ("SLAVC", "MarginNCE", "FNAC", "Alignment", "ACL-SSL")],
        ("A-FC-CLIP", "list"),
        ("TACO", "proposed"),
        ("U only", "proposed"),
        ("TACO", "shuffled audio"),
        ("U only", "shuffled audio"),
        ("whole image", "control"),
        ("random mask", "control"),
        ("oracle mask", "control"),
    ]


def test_reported_and_release_stand_beside_our_number_on_the_paper_suite(aggregates, reported):
    frame = tables.build(aggregates, tables.SPECS["table2"], reported, "paper")
    row = cell_of(frame, dataset="MS3", method="TACO", variant="proposed", metric="mask-IoU")
    expected = {"reported_mean": 50.46, "reported_std": 3.12, "release_mean": 43.15, "release_std": 0.91}
    assert row[list(expected)].to_dict() == expected
    assert row["release_deviation"] == pytest.approx((row["mean"] - 43.15) / 1.82)
    assert row["reported_deviation"] == pytest.approx((row["mean"] - 50.46) / 6.24)
    s4 = cell_of(frame, dataset="S4", method="TACO", variant="proposed", metric="F")
    assert s4["release_deviation"] == pytest.approx(s4["mean"] - 71.5)  # 2 · 0.20 is below one point
    single = cell_of(frame, dataset="S4", method="A-FC-CLIP", metric="F")
    assert single["reported_deviation"] == pytest.approx(single["mean"] - 57.25)
    assert np.isnan(single["release_deviation"])
    assert row["source"] == (
        "measured: paper suite; reported: paper, Table 2; release: authors' release (journal version), expected values"
    )
    assert np.isfinite(row["mean"])
    literature = cell_of(frame, method="ACL-SSL", dataset="S4", metric="F")
    assert literature["reported_mean"] == 69.03
    assert literature[["mean", "std", "n_seeds", "reported_std"]].isna().all()
    assert literature["source"] == "paper, Table 2, quoting [31]"
    assert frame.query("method == 'Alignment'")["dataset"].unique().tolist() == ["S4"]  # "-" on MS3
    shuffled = frame[frame["variant"] == "shuffled audio"]
    assert shuffled[["reported_mean", "release_mean"]].isna().all(axis=None)


def test_miniature_stays_empty_of_the_papers_numbers(aggregates):
    frame = tables.build(aggregates, tables.SPECS["table2"], None, "miniature")
    others = [name for name in tables.COLUMNS if name.startswith(("reported", "release"))]
    assert frame[others].isna().all(axis=None)
    assert "literature" not in set(frame["variant"])
    assert set(frame["source"]) == {"measured: miniature suite"}


def test_csv_keeps_its_form(aggregates, reported):
    frame = tables.build(aggregates, tables.SPECS["table3"], reported, "paper")
    back = pd.read_csv(io.StringIO(frame.to_csv(index=False)), keep_default_na=True)
    assert tuple(back.columns) == tables.COLUMNS
    np.testing.assert_allclose(back["mean"], frame["mean"].astype(float))
    assert back["n_seeds"].dropna().isin([1, 3]).all()
    assert back[back["n_seeds"] == 1]["std"].isna().all()


def test_missing_numbers_are_an_error_that_lists_them_all(aggregates):
    gone = (aggregates["method"] == "oracle mask") | (
        (aggregates["variant"] == "w/o penalty") & (aggregates["metric"] == "mAP")
    )
    with pytest.raises(tables.TableError) as error:
        tables.build(aggregates[~gone], tables.SPECS["table3"], None, "miniature")
    message = str(error.value)
    assert "lacks 3 numbers" in message
    assert "ade_sp mAP: TACO, w/o penalty, general bank" in message
    assert "ade_sp mIoU: oracle mask, control" in message


def test_a_control_under_two_banks_is_refused(aggregates):
    twice = aggregates[aggregates["method"] == "random mask"].assign(word_bank="general")
    with pytest.raises(tables.TableError, match="several word banks"):
        tables.build(pd.concat([aggregates, twice]), tables.SPECS["table2"], None, "miniature")


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [(64.035, 0.25, "64.03 ± 0.25"), (5, np.nan, "5.00"), (np.nan, np.nan, ""), (0, 0, "0.00 ± 0.00")],
)
def test_numbers_have_two_decimals(mean, std, text):
    assert tables.number(mean, std) == text


# ---------------------------------------------------------------------------------------- intervals


def test_intervals_are_in_points_and_say_whether_they_exclude_zero(compared):
    before = compared.copy()
    frame = tables.intervals(compared, "miniature")
    pd.testing.assert_frame_equal(compared, before)  # the argument is left alone
    assert frame["dataset"].tolist() == ["S4", "ADE SP", "S4"]
    assert frame["excludes_zero"].tolist() == [True, False, True]
    assert frame.loc[0, ["difference", "low", "high"]].tolist() == pytest.approx([15, 10, 20])
    assert set(frame["source"]) == {"measured: miniature suite"}
