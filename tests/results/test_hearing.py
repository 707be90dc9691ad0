"""Scores against the signal-to-noise ratio: what is counted, which range is chosen, where lines cross."""

import pandas as pd
import pytest
from score_rows import binary_rows, pool_rows

from taco.results import aggregate, hearing
from taco.results.score_files import AggregateError


def heard(rows, right):
    """Rows whose sounds CLAP names rightly in the samples of `right`."""
    for row in rows:
        row["clap_label"] = row["class_name"] if row["sample_id"] in right else "gong"
    return pd.DataFrame(rows)


def test_top_1_counts_each_image_once_and_leaves_silent_ones_out():
    rows = heard(binary_rows(samples=range(4), seeds=(0, 1)), {"clip0_0", "clip1_1"})
    rows.loc[rows["sample_id"] == "clip0_1", "class_name"] = ""
    found = hearing.top_1(rows)
    assert found["score"].to_dict() == {"clip0_0": 1.0, "clip1_0": 0.0, "clip1_1": 1.0}
    assert found.loc["clip1_1", "clip_id"] == "clip1"


def test_any_of_several_sounding_classes_is_right():
    rows = heard(binary_rows(samples=range(2), seeds=(0,)), set())
    rows["class_name"] = ["bell, gong", "bell, drum"]
    assert hearing.top_1(rows)["score"].tolist() == [1.0, 0.0]


def test_scores_are_means_over_images_inside_their_interval_and_mean_iou_pools():
    rows = heard(binary_rows("ade_sp"), {"clip0_0"})
    found = hearing.scores(rows, pd.DataFrame(pool_rows())).set_index(["method", "metric"])
    assert found.loc[("CLAP", "top-1"), "mean"] == pytest.approx(100 / 8)
    taco = found.loc[("TACO", "mask-IoU")]
    assert taco["mean"] == pytest.approx(100 * aggregate.image_scores(rows)["score"].mean())
    assert taco["low"] < taco["mean"] < taco["high"] and taco["n_clips"] == 4
    pooled = aggregate.summarise(rows, pd.DataFrame(pool_rows())).set_index("metric").loc["mIoU", "mean"]
    assert found.loc[("TACO", "mIoU"), "mean"] == pytest.approx(100 * pooled)
    assert pd.isna(found.loc[("TACO", "mIoU"), "low"])


def sweep(values, method="A-FC-CLIP", variant="list", task="s4"):
    """A table of one method by range, and CLAP's top-1."""
    shared = {"low": 0.0, "high": 100.0, "n_clips": 4, "n_samples": 8, "n_seeds": 1, "task": task}
    return pd.DataFrame(
        {**shared, "low_db": low, "high_db": high, **cell}
        for (low, high), mean in values.items()
        for cell in (
            {"method": method, "variant": variant, "metric": "mask-IoU", "mean": mean},
            {"method": "CLAP", "variant": "", "metric": "top-1", "mean": 50.0},
        )
    )


def test_the_range_nearest_to_the_target_is_chosen_whatever_the_other_tasks_say():
    values = {(-20, -10): 40.0, (-10, 0): 53.0, (0, 10): 70.0}
    other = sweep({key: 51.5 if key == (0, 10) else 9.0 for key in values}, task="ms3")
    frame = hearing.calibration(pd.concat([sweep(values), other]), 51.52)
    assert set(map(tuple, frame.loc[frame["chosen"], ["low_db", "high_db"]].to_numpy())) == {(-10, 0)}
    text = hearing.calibration_page(frame, 51.52, "miniature-world", "val").markdown()
    assert "**-10 to 0**" in text and "**53.0 [0.0, 100.0]**" in text and "Split: val" in text


def test_of_equally_near_ranges_the_one_with_less_noise_is_chosen():
    frame = hearing.calibration(sweep({(-10, 0): 50.0, (0, 10): 54.0}), 52.0)
    assert set(frame.loc[frame["chosen"], "low_db"]) == {0}


def test_a_sweep_without_s4_is_refused():
    with pytest.raises(AggregateError, match="on S4.*found .'ms3'"):
        hearing.calibration(sweep({(0, 10): 54.0}, task="ms3"), 52.0)


def test_lines_cross_where_their_difference_is_zero():
    taco = sweep({(-20, -20): 50.0, (-10, -10): 60.0, (0, 0): 70.0}, "TACO", "proposed")
    named = sweep({(-20, -20): 40.0, (-10, -10): 58.0, (0, 0): 76.0})
    frame = pd.concat([taco, named])
    assert hearing.crossings(frame, "s4") == [pytest.approx(-7.5)]  # 2 points ahead at -10 dB, 6 behind at 0
    assert hearing.crossings(frame, "ms3") == []


def test_the_page_names_methods_ratios_and_crossing():
    frames = []
    for ratio in (-10, 0):
        rows = heard(
            binary_rows() + binary_rows(method="A-FC-CLIP", variant="list", seeds=(-1,)), {"clip0_0"}
        )
        found = hearing.scores(rows, pd.DataFrame())
        frames.append(found.assign(low_db=ratio, high_db=ratio))
    text = hearing.page(pd.concat(frames), "miniature", "test").markdown()
    assert "| CLAP top-1 " in text and "SNR in dB -10" in text and "A-FC-CLIP do not cross" in text
    assert "95 % bootstrap interval by clip" in text and "S4 4 (8 images)" in text
