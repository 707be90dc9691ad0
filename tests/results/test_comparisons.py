"""Comparisons: intervals that find a difference and its absence, and pairs of which a side was not scored."""

import pytest
from score_rows import binary_rows, frame_of, semantic_rows

from taco.results import comparisons, score_files

PAIR = comparisons.Pair(comparisons.Side("TACO"), comparisons.Side("U only"))


def test_intervals_find_a_difference_and_its_absence(tmp_path):
    rows = (
        binary_rows(skill=0.6)
        + binary_rows(skill=0.3, method="U only")
        + binary_rows(method="twin", skill=0.6)
    )
    twin = comparisons.Pair(comparisons.Side("TACO"), comparisons.Side("twin"))
    found = comparisons.intervals(frame_of(rows, tmp_path), (PAIR, twin), draws=500)
    better, same = found.to_dict("records")
    assert 0 < better["low"] < better["difference"] < better["high"]
    assert better["difference"] == pytest.approx(better["mean_a"] - better["mean_b"])
    assert (same["low"], same["high"], same["p_value"]) == (0, 0, 1)
    assert better["p_value"] == 2 / 16  # the least that four clips allow
    assert (better["n_clips"], better["n_samples"], better["n_seeds_a"], better["draws"]) == (4, 8, 3, 500)


def test_intervals_of_semantic_tasks_by_image(tmp_path):
    rows = semantic_rows(skill=0.9) + semantic_rows(
        skill=0.2, method="A-FC-CLIP", variant="list", seeds=(-1,)
    )
    pair = comparisons.Pair(comparisons.Side("TACO"), comparisons.Side("A-FC-CLIP", "list", "specific"))
    row = comparisons.intervals(frame_of(rows, tmp_path, "semantic"), (pair,), draws=500).iloc[0]
    assert row["metric"] == "mIoU by image"
    assert row["low"] > 0
    assert (row["n_seeds_a"], row["n_seeds_b"]) == (3, 1)


def test_a_comparison_without_one_side_is_left_out_and_one_is_needed(tmp_path):
    rows = binary_rows() + binary_rows(method="U only") + binary_rows("ms3")
    assert comparisons.intervals(frame_of(rows, tmp_path), (PAIR,), draws=200)["task"].tolist() == ["s4"]
    with pytest.raises(score_files.AggregateError, match="no comparison"):
        comparisons.intervals(frame_of(binary_rows("ms3"), tmp_path), (PAIR,))


def test_the_papers_comparisons_are_made_with_the_tasks_default_bank(tmp_path):
    rows = binary_rows() + binary_rows(method="U only")
    rows += binary_rows(variant="shuffled audio", skill=0.1)
    rows += binary_rows(method="U only", variant="shuffled audio", skill=0.1)
    rows += binary_rows(method="A-FC-CLIP", variant="list", bank="specific", seeds=(-1,))
    rows += binary_rows(bank="specific", skill=0.9)
    found = comparisons.intervals(frame_of(rows, tmp_path), draws=200)
    sides = found[["method_a", "variant_a", "word_bank_a", "method_b", "variant_b", "word_bank_b"]]
    assert sides.to_numpy().tolist() == [
        ["TACO", "proposed", "general", "TACO", "shuffled audio", "general"],
        ["U only", "proposed", "general", "U only", "shuffled audio", "general"],
        ["TACO", "proposed", "general", "U only", "proposed", "general"],
        ["TACO", "proposed", "general", "A-FC-CLIP", "list", "specific"],
    ]
