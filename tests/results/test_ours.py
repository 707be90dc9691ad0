"""Variants that are not of the paper have rows of their own, and every page that shows them says so."""

import pandas as pd
import pytest
from score_rows import frame_of, semantic_rows

from taco.results import comparisons, printing, tables
from taco.results.ours import BY_PROPOSAL, GATED, OURS_NOTE


@pytest.fixture
def with_ours(aggregates):
    """Every cell of a suite that scores the variants, too: the gate without pooled scores."""
    proposed = (aggregates["method"] == "TACO") & (aggregates["variant"] == "proposed")
    named = aggregates[proposed & aggregates["task"].isin(["avss", "ade_sp_semantic"])]
    baseline = aggregates[(aggregates["method"] == "A-FC-CLIP") & (aggregates["variant"] == "list")]
    baseline = baseline[baseline["task"].isin(["avss", "ade_sp_semantic"])]
    gated = aggregates[proposed & aggregates["task"].isin(["s4", "ms3"])]
    named = named[named["word_bank"] == "specific"].assign(variant=BY_PROPOSAL, mean=0.99)
    gated = gated[gated["word_bank"] == "general"].assign(variant=GATED)
    return pd.concat([aggregates, named, baseline.assign(variant=BY_PROPOSAL), gated], ignore_index=True)


def test_they_stand_apart_and_are_never_the_best_in_bold(with_ours):
    frame = tables.build(with_ours, tables.SPECS["table5"], None, "small")
    assert set(frame.loc[frame["variant"] == BY_PROPOSAL, "method"]) == {"TACO", "A-FC-CLIP"}
    page = printing.table_page(frame, "small")
    text = page.markdown()
    first, apart = text.split("Not of the paper:")
    assert "ours" not in first and "TACO, classes by proposal (ours)" in apart and OURS_NOTE in apart
    assert "**99.00" not in text and "99.00" in apart


def test_a_table_without_their_scores_is_as_it_was(with_ours, aggregates):
    for name in ("table1", "table3", "table4"):
        found = tables.build(with_ours, tables.SPECS[name], None, "small")
        pd.testing.assert_frame_equal(found, tables.build(aggregates, tables.SPECS[name], None, "small"))
    plain = printing.table_page(tables.build(aggregates, tables.SPECS["table5"], None, "small"), "small")
    assert "Not of the paper" not in plain.markdown() and OURS_NOTE not in plain.markdown()
    gated = tables.build(with_ours, tables.SPECS["table2"], None, "small")
    assert set(gated.loc[gated["variant"] == GATED, "dataset"]) == {"S4", "MS3"}


def test_each_is_compared_with_what_it_changes(tmp_path):
    rows = semantic_rows(skill=0.4) + semantic_rows(skill=0.9, variant=BY_PROPOSAL)
    rows += semantic_rows(skill=0.4, seeds=(-1,), method="A-FC-CLIP", variant="list")
    frame = tables.intervals(comparisons.intervals(frame_of(rows, tmp_path, "semantic"), draws=200), "small")
    row = next(row for row in frame.to_dict("records") if row["variant_a"] == BY_PROPOSAL)
    assert (row["variant_a"], row["variant_b"]) == (BY_PROPOSAL, "proposed") and row["low"] > 0
    page = printing.intervals_page(frame, "small").markdown()
    assert "TACO, classes by proposal (ours) (specific)" in page and OURS_NOTE in page
