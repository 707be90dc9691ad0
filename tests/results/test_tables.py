"""Tables: every number in its place, in percent, and no suite taken for the paper."""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from taco.metrics.tasks import TASKS
from taco.results import pages, printing, tables

REPORTED = Path(__file__).parents[2] / "config" / "reported.yaml"
METRICS = {
    "binary": ("mask-IoU", "F"),
    "pooled": ("mask-IoU", "F", "mIoU", "mAP"),
    "semantic": ("mIoU", "F", "mIoU (corrected)", "F (corrected)"),
}
RUNS = [  # method, variant, word banks, seeds
    *[("TACO", variant, ("general", "specific"), 3) for variant in ("proposed", "no-min", "shuffled audio")],
    *[("TACO", variant, ("general", "specific"), 3) for variant in ("w/o component", "w/o penalty")],
    *[("U only", variant, ("general", "specific"), 3) for variant in ("proposed", "shuffled audio")],
    *[(method, "list", ("specific",), 1) for method in ("A-FC-CLIP", "A⁺-FC-CLIP")],
    ("A-FC-CLIP", "single", ("specific",), 1),
    *[(method, "control", ("none",), 1) for method in ("whole image", "random mask", "oracle mask")],
]


@pytest.fixture
def aggregates():
    """Every cell that a suite scores, each with a value of its own."""
    rng = np.random.default_rng(0)
    records = [
        {
            "task": task,
            "dataset": "ade" if task.startswith("ade") else task,
            "method": method,
            "variant": variant,
            "word_bank": bank,
            "metric": metric,
            "mean": rng.random(),
            "std": rng.random() / 50 if seeds > 1 else np.nan,
            "n_seeds": seeds,
            "n_samples": 100 + len(task),
        }
        for method, variant, banks, seeds in RUNS
        for bank in banks
        for task in TASKS
        for metric in METRICS[TASKS[task].kind]
    ]
    return pd.DataFrame(records)


@pytest.fixture(scope="module")
def reported():
    return tables.load_reported(REPORTED)


def cell_of(frame, **names):
    for name, value in names.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def grid_of(markdown):
    """Lines of the Markdown tables: lists of stripped cells."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("**", "") for cell in line.strip("|").split("|")] for line in lines]


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


# ----------------------------------------------------------------------------------------- Markdown


@pytest.mark.parametrize("name", tables.SPECS)
def test_markdown_carries_suite_and_every_number(name, aggregates):
    frame = tables.build(aggregates, tables.SPECS[name], None, "miniature")
    text = printing.table_page(frame, "miniature").markdown()
    assert "miniature suite: a generated world with small models; not the paper's result" in text
    cells = [cell for line in grid_of(text) for cell in line]
    for row in frame.to_dict("records"):
        assert f"{row['mean']:.2f}" + ("" if np.isnan(row["std"]) else f" ± {row['std']:.2f}") in cells
    assert "S4 102" in text or name in ("table3", "table5")
    assert "(…)" not in text


def test_markdown_of_the_paper_suite_shows_both_other_numbers(aggregates, reported):
    frame = tables.build(aggregates, tables.SPECS["table2"], reported, "paper")
    text = printing.table_page(frame, "paper", reported.notes["table2"]).markdown()
    head, *lines = grid_of(text)
    by_name = {line[0]: dict(zip(head, line, strict=True)) for line in lines}
    ours = tables.number(
        *cell_of(frame, dataset="MS3", method="TACO", variant="proposed", metric="F")[["mean", "std"]]
    )
    cell = cell_of(frame, dataset="MS3", method="TACO", variant="proposed", metric="F")
    assert by_name["TACO"]["MS3 F"] == (
        f"{ours} (58.11 ± 2.95) [47.50 ± 0.95] Δ {(cell['mean'] - 47.5) / 1.9:+.2f}"
    )
    assert "(71.50 ± 0.20) Δ" in by_name["TACO"]["S4 F"]  # the release agrees: not repeated
    assert by_name["SLAVC"]["S4 mask-IoU"] == "(28.10)"
    assert by_name["Alignment"]["MS3 F"] == ""
    assert by_name["U only"]["S4 mask-IoU"].split(" Δ")[0].endswith("[29.68 ± 0.16]")
    assert "50.45 ± 3.12 in Table 4" in text
    assert "miniature" not in text


def test_markdown_separates_what_only_bounds(aggregates):
    text = printing.table_page(
        tables.build(aggregates, tables.SPECS["table2"], None, "test"), "test"
    ).markdown()
    above, below = text.split("For comparison")
    assert [line[0] for line in grid_of(above)[2:]] == ["A-FC-CLIP", "TACO"]
    assert [line[0] for line in grid_of(below)[2:]][:3] == [
        "U only",
        "TACO, shuffled audio",
        "U only, shuffled audio",
    ]
    assert "test suite: not the paper's result" in text


def test_table_4_has_a_line_for_each_bank(aggregates):
    text = printing.table_page(
        tables.build(aggregates, tables.SPECS["table4"], None, "test"), "test"
    ).markdown()
    assert [line[:2] for line in grid_of(text)[2:6]] == [
        ["U only", "general"],
        ["U only", "specific"],
        ["TACO", "specific"],
        ["TACO", "general"],
    ]


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [(64.035, 0.25, "64.03 ± 0.25"), (5, np.nan, "5.00"), (np.nan, np.nan, ""), (0, 0, "0.00 ± 0.00")],
)
def test_numbers_have_two_decimals(mean, std, text):
    assert tables.number(mean, std) == text


# ---------------------------------------------------------------------------------------- intervals


@pytest.fixture
def compared():
    record = {
        "task": "s4",
        "metric": "mask-IoU",
        "method_a": "TACO",
        "variant_a": "proposed",
        "word_bank_a": "general",
        "method_b": "TACO",
        "variant_b": "shuffled audio",
        "word_bank_b": "general",
        "mean_a": 0.6,
        "mean_b": 0.45,
        "difference": 0.15,
        "low": 0.1,
        "high": 0.2,
        "p_value": 0.0001,
        "n_clips": 40,
        "n_samples": 200,
        "n_seeds_a": 3,
        "n_seeds_b": 3,
        "draws": 10000,
    }
    return pd.DataFrame(
        [record, record | {"task": "ade_sp", "low": -0.01}, record | {"low": -0.2, "high": -0.1}]
    )


def test_intervals_are_in_points_and_say_whether_they_exclude_zero(compared):
    before = compared.copy()
    frame = tables.intervals(compared, "miniature")
    pd.testing.assert_frame_equal(compared, before)  # the argument is left alone
    assert frame["dataset"].tolist() == ["S4", "ADE SP", "S4"]
    assert frame["excludes_zero"].tolist() == [True, False, True]
    assert frame.loc[0, ["difference", "low", "high"]].tolist() == pytest.approx([15, 10, 20])
    assert set(frame["source"]) == {"measured: miniature suite"}


def test_intervals_read_well(compared):
    text = printing.intervals_page(tables.intervals(compared, "miniature"), "miniature").markdown()
    head, _, first, second, _ = grid_of(text)
    line = dict(zip(head, first, strict=True))
    assert line["B"] == "TACO, shuffled audio (general)"
    assert (line["A − B"], line["95 % interval"], line["excludes 0"]) == ("+15.00", "[+10.00, +20.00]", "yes")
    assert dict(zip(head, second, strict=True))["excludes 0"] == "no"
    assert line["p"] == "< 0.001"
    assert "miniature suite" in text and "10,000 draws" in text


# ------------------------------------------------------------------------------------------- LaTeX


def tabular_of(latex):
    """Rows of the tabular without its rules: lists of stripped cells, bold marked by **."""
    body = latex.split("\\begin{tabular}")[1].split("\\end{tabular}")[0]
    rows = [line.strip() for line in body.splitlines() if line.rstrip().endswith("\\\\")]
    rows = [re.sub(r"\\textbf\{(.*?)\}", r"**\1**", row.removesuffix("\\\\")) for row in rows]
    return [[cell.strip() for cell in row.split(" & ")] for row in rows]


@pytest.mark.parametrize("suite", ["miniature", "paper"])
@pytest.mark.parametrize("name", tables.SPECS)
def test_latex_holds_what_markdown_holds(name, suite, aggregates, reported):
    known = reported if suite == "paper" else None
    frame = tables.build(aggregates, tables.SPECS[name], known, suite)
    page = printing.table_page(frame, suite, known.notes[name] if known else ())
    text = page.latex()
    assert text.isascii() and text.count("{") == text.count("}")
    assert all(rule in text for rule in ("\\toprule", "\\midrule", "\\bottomrule", "\\usepackage{booktabs}"))
    assert pages.latex_text(tables.suite_title(suite)) in text.split("\\caption")[1]
    rows = tabular_of(text)
    printed = [row for grid in page.grids for row in grid.rows]
    assert len(rows) == len(printed) + 2  # a head of two levels
    for row, wanted in zip(rows[2:], printed, strict=True):
        plain = [pages.latex_text(cell.replace("**", "")) for cell in wanted]
        assert [cell.replace("**", "") for cell in row] == plain
        assert [cell.count("**") for cell in row] == [cell.count("**") for cell in wanted]


def test_the_best_of_each_column_is_bold_and_bounds_are_not(aggregates, reported):
    better = aggregates["mean"].where(aggregates["method"] != "oracle mask", 1.0)
    frame = tables.build(aggregates.assign(mean=better), tables.SPECS["table3"], reported, "paper")
    rows = printing.table_page(frame, "paper").grids[0].rows
    for column, metric in ((2, "mIoU"), (3, "mAP")):
        part = frame[(frame["metric"] == metric) & ~frame["variant"].isin(["control", "shuffled audio"])]
        shown = part["mean"].fillna(part["reported_mean"])
        winner = part.loc[shown.astype(float).idxmax()]
        assert [row[0] for row in rows if "**" in row[column]] == [
            tables.label(winner["method"], winner["variant"])
        ]
    bounds = printing.table_page(frame, "paper").grids[1].rows
    assert not any("**" in cell for row in bounds for cell in row)


def test_a_quoted_number_can_be_the_best(aggregates, reported):
    frame = tables.build(aggregates.assign(mean=0.01), tables.SPECS["table2"], reported, "paper")
    rows = {row[0]: row for row in printing.table_page(frame, "paper").grids[0].rows}
    assert rows["ACL-SSL"][2] == "**(59.76)**"
    assert "**" not in rows["TACO"][2]


def test_equal_numbers_are_bold_together(aggregates):
    frame = tables.build(aggregates.assign(mean=0.5), tables.SPECS["table2"], None, "test")
    rows = printing.table_page(frame, "test").grids[0].rows
    assert all(row[2].startswith("**50.00") for row in rows)


def test_latex_refuses_a_letter_that_it_cannot_spell():
    with pytest.raises(ValueError, match="no LaTeX spelling"):
        pages.latex_text("a \N{SNOWMAN}")


def test_intervals_have_a_latex_form(compared):
    text = printing.intervals_page(tables.intervals(compared, "miniature"), "miniature").latex()
    assert text.isascii()
    assert [row[0] for row in tabular_of(text)] == ["Dataset", "S4", "ADE SP", "S4"]
    assert "95 \\% interval" in text


def test_presentation_never_imports_torch():
    code = "import sys; import taco.results.printing, taco.method.controls; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPORTED.parents[2], check=False).returncode == 0
