"""Rows to numbers: any sharding equals one pass bit for bit, one definition of std."""

import numpy as np
import pandas as pd
import pytest
from score_rows import binary_rows, frame_of, map_of, pool_rows, semantic_rows, truth_of

from taco import metrics
from taco.results import aggregate, pools, score_files

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
    pooled = pool_rows()
    index = frame_of(pooled, tmp_path, "pools", "pools")
    values = aggregate.per_seed(rows, index).set_index(["metric", "seed"])
    classes = [metrics.ScorePool.from_row(row) for row in pooled if row["seed"] == 2]
    assert len(classes) == 2
    assert values.loc[("mAP", 2), "value"] == np.mean([pool.average_precision() for pool in classes])
    assert values.loc[("mIoU", 2), "value"] == np.mean([pool.best_iou() for pool in classes])
    in_memory = aggregate.per_seed(rows, pd.DataFrame(pooled)).set_index(["metric", "seed"])
    pd.testing.assert_frame_equal(in_memory, values, check_exact=True)


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
    paths, pooled = [], []
    start = 0
    for number, size in enumerate(shards):
        samples = range(start, start + size)
        start += size
        for name, kind, rows in [
            ("s4", "binary", binary_rows(samples=samples)),
            ("ade", "binary", binary_rows("ade_sp", samples)),
            ("avss", "semantic", semantic_rows(samples)),
        ]:
            paths.append(tmp_path / f"{name}{number}.parquet")
            score_files.write_rows(rows, paths[-1], kind)
        pooled.append(tmp_path / f"pools{number}.parquet")
        with pools.writer(pooled[-1]) as keep:
            keep(pool_rows(samples))
    whole = [
        frame_of(binary_rows() + binary_rows("ade_sp"), tmp_path),
        frame_of(semantic_rows(), tmp_path, "semantic"),
    ]
    expected = aggregate.summarise(
        pd.concat(whole, ignore_index=True), frame_of(pool_rows(), tmp_path, "pools")
    )
    found = aggregate.summarise(score_files.load_rows(paths[::-1]), pools.load(pooled[::-1]))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert len(found) == 2 + 4 + 2
    comparable = score_files.load_rows(paths)
    scores = [aggregate.image_scores(f[f["task"] == "avss"]) for f in (comparable, whole[1])]
    pd.testing.assert_frame_equal(*scores, check_exact=True)


def test_methods_of_a_task_must_share_their_samples(tmp_path):
    rows = binary_rows() + binary_rows(samples=range(7), method="U only")
    with pytest.raises(
        score_files.AggregateError, match=r"s4: U only, .*, 0 was scored.*clip3_1.*score the missing"
    ):
        aggregate.per_seed(frame_of(rows, tmp_path))
    seeds = binary_rows(seeds=(0,)) + binary_rows(seeds=(1,), samples=range(1, 8))
    with pytest.raises(score_files.AggregateError, match="clip0_0"):
        aggregate.per_seed(frame_of(seeds, tmp_path))


def test_pools_must_match_the_rows(tmp_path):
    rows = frame_of(binary_rows("ade_sp"), tmp_path)
    with pytest.raises(score_files.AggregateError, match="4 samples expected, 0 found"):
        aggregate.per_seed(rows)
    pooled = frame_of(pool_rows(samples=range(7)), tmp_path, "pools", "pools")
    with pytest.raises(score_files.AggregateError, match="'class1': 4 samples expected, 3 found"):
        aggregate.per_seed(rows, pooled)


def test_an_unknown_task_is_refused(tmp_path):
    with pytest.raises(score_files.AggregateError, match="unknown tasks"):
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
    with pytest.raises(score_files.AggregateError, match="both"):
        aggregate.over_seeds(values_of(0.1, 0.2, seeds=[-1, 0]))


# ---------------------------------------------------------------------------------------- by image


def test_image_scores_choose_each_seeds_own_threshold(tmp_path):
    rows = frame_of(binary_rows(), tmp_path)
    scores = aggregate.image_scores(rows)
    values = aggregate.per_seed(rows)
    assert scores["score"].mean() == pytest.approx(values.loc[values["metric"] == "mask-IoU", "value"].mean())
    assert scores.index.is_monotonic_increasing and len(scores) == 8
