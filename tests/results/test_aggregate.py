"""Rows to numbers: any sharding equals one pass bit for bit, one definition of std, intervals that cover."""

import numpy as np
import pandas as pd
import pytest
from score_rows import binary_rows, frame_of, histogram_rows, map_of, semantic_rows, truth_of

from taco import metrics
from taco.results import aggregate, comparisons

# -------------------------------------------------------------------------------------------- files


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
    import pyarrow.parquet as pq

    aggregate.write_rows(binary_rows(), tmp_path / "a.parquet", "binary")
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
    with pytest.raises(aggregate.AggregateError, match="row 1 differs in columns"):
        aggregate.write_rows(rows, tmp_path / "a.parquet", "binary")
    assert not list(tmp_path.iterdir())


def test_a_row_given_twice_is_refused(tmp_path):
    for name, samples in [("a", range(4)), ("b", range(3, 8))]:
        aggregate.write_rows(binary_rows(samples=samples), tmp_path / f"{name}.parquet", "binary")
    with pytest.raises(aggregate.AggregateError, match=r"more than once.*clip1_1"):
        aggregate.load_rows([tmp_path / "a.parquet", tmp_path / "b.parquet"])


def test_files_that_are_not_scores_are_refused_by_name(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    aggregate.write_rows(histogram_rows(), tmp_path / "pools.parquet", "histogram")
    for name, message in [("other", "schema none"), ("torn", "Parquet"), ("pools", "kind histogram")]:
        with pytest.raises(aggregate.AggregateError, match=message) as error:
            aggregate.load_rows([tmp_path / f"{name}.parquet"])
        assert f"{name}.parquet" in str(error.value)
    with pytest.raises(aggregate.AggregateError, match="found none"):
        aggregate.load_rows([])


# ----------------------------------------------------------------------------------------- per seed


def test_binary_metrics_are_those_of_the_maps(tmp_path):
    values = aggregate.per_seed(frame_of(binary_rows(), tmp_path)).set_index(["metric", "seed"])
    curves = []
    for threshold in metrics.THRESHOLDS:
        iou = []
        for sample in range(8):
            marked, truth = np.float32(map_of(sample, 1)) > threshold, truth_of(sample)
            iou.append((marked & truth).sum() / ((marked | truth).sum() + 1e-7))
        curves.append(np.mean(iou))
    assert values.loc[("mask-IoU", 1), "value"] == pytest.approx(max(curves), abs=1e-12)
    assert values.loc[("mask-IoU", 1), "threshold"] == metrics.THRESHOLDS[np.argmax(curves)]
    assert set(values["n_samples"]) == {8}


def test_the_tables_conventions_are_the_papers_unless_others_are_set(tmp_path):
    rows = binary_rows(seeds=(0,), skill=0.2)
    rows[0] |= {"positives": 0, "tp": rows[0]["tp"] * 0, "f_tp": rows[0]["f_tp"] * 0}
    frame = frame_of(rows, tmp_path)
    other = aggregate.Conventions(empty_truth="skip", f_aggregation="image")
    paper, changed = (
        aggregate.per_seed(frame, conventions=conventions).set_index("metric")
        for conventions in (aggregate.PAPER, other)
    )
    assert aggregate.per_seed(frame).set_index("metric").equals(paper)
    without = aggregate.per_seed(frame[frame["positives"] > 0]).set_index("metric")["value"]
    assert changed["value"]["mask-IoU"] == without["mask-IoU"] != paper["value"]["mask-IoU"]
    assert changed["value"]["F"] > paper["value"]["F"]
    assert np.isnan(changed["threshold"]["F"])
    assert aggregate.PAPER.notes() == [] and len(other.notes()) == 2


def test_pooled_metrics_are_means_over_classes(tmp_path):
    rows = frame_of(binary_rows("ade_sp"), tmp_path)
    pools = histogram_rows()
    values = aggregate.per_seed(rows, frame_of(pools, tmp_path, "histogram", "pools")).set_index(
        ["metric", "seed"]
    )
    classes = [metrics.ScoreHistogram.from_row(pool) for pool in pools if pool["seed"] == 2]
    assert len(classes) == 2
    assert values.loc[("mAP", 2), "value"] == np.mean([pool.average_precision() for pool in classes])
    assert values.loc[("mIoU", 2), "value"] == np.mean([pool.best_iou() for pool in classes])


def test_semantic_metrics_in_both_conventions(tmp_path):
    rows = semantic_rows(task="ade_sp_semantic", first_id=1)
    values = aggregate.per_seed(frame_of(rows, tmp_path, "semantic")).set_index(["metric", "seed"])["value"]
    lists = [
        np.concatenate([row[name] for row in rows if row["seed"] == 0])
        for name in ("class_ids", "intersection", "predicted", "truth")
    ]
    paper, corrected = (metrics.semantic_scores(*lists, counted) for counted in (range(3), range(1, 4)))
    assert values["mIoU", 0] == pytest.approx(paper["mIoU"], abs=1e-12)
    assert values["F (corrected)", 0] == pytest.approx(corrected["F"], abs=1e-12)
    assert values["mIoU (corrected)", 0] != values["mIoU", 0]


def test_avss_has_one_convention(tmp_path):
    values = aggregate.per_seed(frame_of(semantic_rows(), tmp_path, "semantic"))
    assert set(values["metric"]) == {"mIoU", "F"}


@pytest.mark.parametrize("shards", [[8], [1] * 8, [3, 5], [2, 0, 5, 1]])
def test_any_sharding_equals_one_pass_exactly(tmp_path, shards):
    paths, pools = [], []
    start = 0
    for number, size in enumerate(shards):
        samples = range(start, start + size)
        start += size
        for name, kind, rows in [
            ("s4", "binary", binary_rows(samples=samples)),
            ("ade", "binary", binary_rows("ade_sp", samples)),
            ("avss", "semantic", semantic_rows(samples)),
            ("pools", "histogram", histogram_rows(samples)),
        ]:
            path = tmp_path / f"{name}{number}.parquet"
            aggregate.write_rows(rows, path, kind)
            (pools if kind == "histogram" else paths).append(path)
    whole = [
        frame_of(binary_rows() + binary_rows("ade_sp"), tmp_path),
        frame_of(semantic_rows(), tmp_path, "semantic"),
    ]
    expected = aggregate.summarise(
        pd.concat(whole, ignore_index=True), frame_of(histogram_rows(), tmp_path, "histogram")
    )
    found = aggregate.summarise(aggregate.load_rows(paths[::-1]), aggregate.load_histograms(pools[::-1]))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert len(found) == 2 + 4 + 2
    comparable = aggregate.load_rows(paths)
    scores = [aggregate.image_scores(f[f["task"] == "avss"]) for f in (comparable, whole[1])]
    pd.testing.assert_frame_equal(*scores, check_exact=True)


def test_methods_of_a_task_must_share_their_samples(tmp_path):
    rows = binary_rows() + binary_rows(samples=range(7), method="U only")
    with pytest.raises(aggregate.AggregateError, match="clip3_1.*score the missing"):
        aggregate.per_seed(frame_of(rows, tmp_path))
    seeds = binary_rows(seeds=(0,)) + binary_rows(seeds=(1,), samples=range(1, 8))
    with pytest.raises(aggregate.AggregateError, match="clip0_0"):
        aggregate.per_seed(frame_of(seeds, tmp_path))


def test_histograms_must_match_the_rows(tmp_path):
    rows = frame_of(binary_rows("ade_sp"), tmp_path)
    with pytest.raises(aggregate.AggregateError, match="4 samples expected, 0 found"):
        aggregate.per_seed(rows)
    pools = frame_of(histogram_rows(samples=range(7)), tmp_path, "histogram", "pools")
    with pytest.raises(aggregate.AggregateError, match="'class1': 4 samples expected, 3 found"):
        aggregate.per_seed(rows, pools)


def test_an_unknown_task_is_refused(tmp_path):
    with pytest.raises(aggregate.AggregateError, match="unknown tasks"):
        aggregate.per_seed(frame_of(binary_rows("s5"), tmp_path))


# --------------------------------------------------------------------------------------- over seeds


def values_of(*values, seeds=None):
    seeds = range(len(values)) if seeds is None else seeds
    cell = {"task": "s4", "dataset": "s4", "method": "TACO", "variant": "proposed", "word_bank": "general"}
    records = [
        cell | {"seed": s, "metric": "F", "value": v, "n_samples": 9}
        for s, v in zip(seeds, values, strict=True)
    ]
    return pd.DataFrame(records)


def test_std_is_the_population_one():
    row = aggregate.over_seeds(values_of(0.1, 0.2, 0.6)).iloc[0]
    assert (row["mean"], row["std"]) == pytest.approx((0.3, np.sqrt(0.14 / 3)))
    assert (row["n_seeds"], row["n_samples"]) == (3, 9)


@pytest.mark.parametrize("seed", [-1, 0])
def test_one_value_has_no_std(seed):
    row = aggregate.over_seeds(values_of(0.1, seeds=[seed])).iloc[0]
    assert (row["mean"], row["n_seeds"]) == (0.1, 1)
    assert np.isnan(row["std"])


def test_a_deterministic_row_beside_seeds_is_refused():
    with pytest.raises(aggregate.AggregateError, match="both"):
        aggregate.over_seeds(values_of(0.1, 0.2, seeds=[-1, 0]))


# ---------------------------------------------------------------------------------------- by image


def test_image_scores_choose_each_seeds_own_threshold(tmp_path):
    rows = frame_of(binary_rows(), tmp_path)
    scores = aggregate.image_scores(rows)
    values = aggregate.per_seed(rows)
    assert scores["score"].mean() == pytest.approx(values.loc[values["metric"] == "mask-IoU", "value"].mean())
    assert scores.index.is_monotonic_increasing and len(scores) == 8


PAIR = comparisons.Pair(comparisons.Side("TACO"), comparisons.Side("U only"), ("s4",))


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


def test_a_comparison_that_a_task_must_hold_is_not_dropped(tmp_path):
    with pytest.raises(aggregate.AggregateError, match="U only"):
        comparisons.intervals(frame_of(binary_rows(), tmp_path), (PAIR,))
    elsewhere = frame_of(binary_rows("ms3"), tmp_path)
    with pytest.raises(aggregate.AggregateError, match="no comparison"):
        comparisons.intervals(elsewhere, (PAIR,))


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
