"""Printed pages: Markdown and LaTeX carry the suite and every number, the best in bold."""

import re

import numpy as np
import pytest

from taco.results import pages, printing, tables


def grid_of(markdown):
    """Lines of the Markdown tables: lists of stripped cells."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("**", "") for cell in line.strip("|").split("|")] for line in lines]


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
    chosen = "dataset == 'MS3' and method == 'TACO' and variant == 'proposed' and metric == 'F'"
    cell = frame.query(chosen).squeeze()
    ours = tables.number(cell["mean"], cell["std"])
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


# ---------------------------------------------------------------------------------------- intervals


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


def test_latex_spells_every_letter_in_ascii():
    assert pages.latex_text("é, 名 and ﬁ") == 'e, \\symbol{"540D} and fi'


def test_names_stay_within_their_cell():
    grid = pages.Grid([("", "Method"), ("", "F")], [["a|b\n<script>[x](y)\x00", "1"]], left=1)
    page = pages.Page("t", "A table", "test suite", [grid], [])
    assert page.markdown().splitlines()[-3] == "| a\\|b &lt;script>[x]\\(y) |   1 |"


def test_intervals_have_a_latex_form(compared):
    text = printing.intervals_page(tables.intervals(compared, "miniature"), "miniature").latex()
    assert text.isascii()
    assert [row[0] for row in tabular_of(text)] == ["Dataset", "S4", "ADE SP", "S4"]
    assert "95 \\% interval" in text


def test_a_table_is_written_to_the_paths_of_its_forms(tmp_path):
    page = pages.Page("t", "A table", "test suite", [pages.Grid([("", "F")], [["1"]], left=0)], [])
    pages.write(page, "f\n1\n", [tmp_path / name for name in ("t.csv", "t.md", "t.tex", "t.png")])
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "t.md", "t.tex"}
    assert (tmp_path / "t.csv").read_text() == "f\n1\n" and (tmp_path / "t.md").read_text() == page.markdown()
    assert (tmp_path / "t.tex").read_text() == page.latex()
