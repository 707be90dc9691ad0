"""Measures by image, by class and of the whole set, and thresholds that come from elsewhere."""

import numpy as np
import pandas as pd
import pytest
from score_rows import binary_rows, frame_of, identity, map_of, semantic_rows, truth_of

from taco import metrics
from taco.results import aggregate, extended, printing, score_files


def row_of(sample, scores, truth, class_name):
    counts = metrics.binary_row(np.array(scores, dtype=float), np.array(truth))
    return identity("s4", sample, class_name=class_name) | counts


@pytest.fixture
def by_hand(tmp_path):
    """Two bells, of which the small one is missed, and a drum that is found; 4 pixels each."""
    rows = [
        row_of(0, [[1, 1, 1, 0]], [[1, 1, 1, 0]], "bell"),
        row_of(1, [[0, 1, 1, 1]], [[1, 0, 0, 0]], "bell"),
        row_of(2, [[1, 0, 0, 0]], [[1, 0, 0, 0]], "drum"),
        row_of(3, [[1, 0, 0, 0]], [[0, 0, 0, 0]], ""),
    ]
    return frame_of(rows, tmp_path)


def test_each_measure_counts_what_its_name_says(by_hand):
    found = {name: values[0] for name, (_, values) in extended.curves(by_hand).items()}
    assert found[extended.BY_IMAGE] == pytest.approx((1 + 0 + 1 + 3 / 4) / 4)
    assert found[extended.BY_CLASS] == pytest.approx((3 / 7 + 1) / 2)  # the silent pool has no IoU
    assert found[extended.WHOLE_SET] == pytest.approx(4 / (5 + 3 + 1))


def test_measures_agree_with_pooled_pixels_at_every_threshold(tmp_path):
    group = frame_of(binary_rows(seeds=(0,)), tmp_path)
    curves = extended.curves(group)
    maps = np.stack([map_of(sample, 0) for sample in range(8)]).astype(np.float32)
    truth = np.stack([truth_of(sample) for sample in range(8)])
    classes = np.arange(8) % 2
    for threshold, by_class, whole in zip(
        metrics.THRESHOLDS, curves[extended.BY_CLASS][1], curves[extended.WHOLE_SET][1], strict=True
    ):
        marked = maps > threshold
        pools = [(marked & truth)[classes == c].sum() / (marked | truth)[classes == c].sum() for c in (0, 1)]
        assert by_class == pytest.approx(np.mean(pools))
        assert whole == pytest.approx((marked & truth).sum() / (marked | truth).sum())


def test_by_image_and_f_are_the_tables_numbers(tmp_path):
    rows = frame_of(binary_rows(), tmp_path)
    table = aggregate.per_seed(rows).set_index(["metric", "seed"])["value"]
    values = extended.per_seed(rows, "test").set_index(["metric", "seed"])["value"]
    for seed in (0, 1, 2):
        assert values[extended.BY_IMAGE, seed] == pytest.approx(table["mask-IoU", seed])
        assert values[extended.F_BY_IMAGE, seed] == pytest.approx(table["F", seed])


@pytest.mark.parametrize(("task", "first_id"), [("avss", 0), ("ade_sp_semantic", 1)])
def test_semantic_measures(tmp_path, task, first_id):
    rows = frame_of(semantic_rows(seeds=(0,), task=task, first_id=first_id), tmp_path, "semantic")
    found = extended.semantic_measures(rows)
    summary = aggregate.per_seed(rows).set_index("metric")["value"]
    name = "mIoU" if task == "avss" else "mIoU (corrected)"
    assert found[extended.BY_CLASS] == pytest.approx(summary[name])
    assert found[extended.BY_IMAGE] == pytest.approx(aggregate.image_scores(rows)["score"].mean())
    ids, inter, predicted, truth = (np.concatenate(rows[name].to_numpy()) for name in aggregate.ENTRIES)
    ratios = [
        inter[ids == c].sum() / (predicted[ids == c].sum() + truth[ids == c].sum() - inter[ids == c].sum())
        for c in range(first_id, 4)
        if (ids == c).any()
    ]
    assert found[extended.WHOLE_SET] == pytest.approx(np.mean(ratios))
    values = extended.per_seed(rows, "test")
    assert set(values["rule"]) == {"none"} and values["threshold"].isna().all()


# --------------------------------------------------------------------------------------- thresholds


@pytest.fixture
def validated(tmp_path):
    """Scores of a test split, and the file of thresholds of a validation split with other samples."""
    val = frame_of(binary_rows(samples=range(20, 26), skill=0.3), tmp_path, name="val")
    path = tmp_path / "thresholds.csv"
    extended.thresholds(extended.per_seed(val, "val"), "miniature-val", "val").to_csv(path, index=False)
    return frame_of(binary_rows(), tmp_path, name="test"), path


def test_given_thresholds_stand_beside_the_best_ones(validated):
    rows, path = validated
    given = extended.read_thresholds(path, "test")
    values = extended.per_seed(rows, "test", given)
    pairs = values.pivot(index=["seed", "metric"], columns="rule", values=["value", "threshold"])
    assert len(pairs) == 3 * 4
    assert (pairs["value", "best on val"] <= pairs["value", "best on test"] + 1e-12).all()
    assert (pairs["value", "best on val"] < pairs["value", "best on test"]).any()
    taken = given.set_index(["seed", "metric"])["threshold"].loc[pairs.index]
    np.testing.assert_allclose(pairs["threshold", "best on val"].to_numpy(float), taken, atol=1e-6)
    for (seed, metric), pair in pairs.iterrows():
        thresholds, curve = extended.curves(rows[rows["seed"] == seed])[metric]
        index = np.abs(thresholds - pair["threshold", "best on val"]).argmin()
        assert pair["value", "best on val"] == curve[index]


def test_thresholds_of_the_scored_split_are_refused(validated):
    _, path = validated
    with pytest.raises(score_files.AggregateError, match=r"other than 'val'.*found \['val'\]"):
        extended.read_thresholds(path, "val")


def test_a_file_that_lacks_a_run_is_refused_by_name(validated):
    rows, path = validated
    given = extended.read_thresholds(path, "test")
    with pytest.raises(score_files.AggregateError, match="no threshold is given for [^(]*, TACO, [^(]*, 1, "):
        extended.per_seed(rows, "test", given[given["seed"] != 1])


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "", ",".join(extended.THRESHOLD_COLUMNS) + "\n"])
def test_a_file_of_another_form_is_refused_by_name(tmp_path, text):
    path = tmp_path / "thresholds.csv"
    path.write_text(text)
    with pytest.raises(score_files.AggregateError, match=r"thresholds\.csv: expected"):
        extended.read_thresholds(path, "test")


# -------------------------------------------------------------------------------------------- table


def test_the_extended_table_names_measure_and_threshold(validated, tmp_path):
    rows, path = validated
    rows = pd.concat([frame_of(semantic_rows(), tmp_path, "semantic", "avss"), rows], ignore_index=True)
    values = extended.per_seed(rows, "test", extended.read_thresholds(path, "test"))
    frame = extended.table(values, "miniature")
    assert frame["dataset"].drop_duplicates().tolist() == ["S4", "AVSS"]
    assert frame["mean"].between(0, 100).all() and (frame["mean"] > 1).any()
    assert set(frame["n_seeds"]) == {3}
    best = values.query("metric == 'IoU by class' and rule == 'best on val' and dataset == 's4'")["value"]
    row = frame.query("metric == 'IoU by class' and rule == 'best on val'").iloc[0]
    assert (row["mean"], row["std"]) == pytest.approx((100 * best.mean(), 100 * best.std(ddof=0)))
    page = printing.extended_page(frame, "miniature")
    thresholds = {grid.caption: [line[2] for line in grid.rows] for grid in page.grids}
    assert thresholds == {"S4:": ["best on test", "best on val"], "AVSS:": ["none"]}
    assert f"{row['mean']:.2f} ± {row['std']:.2f}" in page.markdown()
    assert "miniature suite" in page.markdown() and page.latex().isascii()
