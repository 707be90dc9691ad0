"""Rules by which figures choose their samples, on known cases."""

import numpy as np
import pandas as pd
import pytest
from figure_data import disc
from PIL import Image

from taco.figures import choosing


def test_nearest_quantile_takes_the_first_of_equals():
    scores = pd.Series({"b": 0.5, "a": 0.5, "c": 0.0, "d": 1.0})
    assert choosing.nearest_quantile(scores, 0.5) == "a"
    assert choosing.nearest_quantile(scores, 1.0) == "d"
    assert choosing.nearest_quantile(scores.iloc[:0], 0.5) is None


def test_draw_takes_one_sample_of_a_clip_and_repeats():
    table = pd.DataFrame({"clip_id": [f"c{i // 5}" for i in range(50)]}, [f"s{i:02d}" for i in range(50)])
    chosen = choosing.draw(table, 4, seed=0, purpose="p")
    assert chosen == sorted(chosen) == choosing.draw(table.sample(frac=1, random_state=1), 4, 0, "p")
    assert table.loc[chosen, "clip_id"].nunique() == 4
    assert {tuple(choosing.draw(table, 4, seed, "p")) for seed in range(5)} != {tuple(chosen)}
    assert len(choosing.draw(table, 99, 0, "p")) == 10


@pytest.mark.parametrize(
    ("codes", "expected"), [([], 0), ([(0, 3)], 0), ([(0, 3), (10, 3)], 1), ([(0, 3), (3, 3)], 0)]
)
def test_other_objects_counts_classes_beside_one(codes, expected, tmp_path):
    code = np.zeros((4, 6, 3), dtype=np.uint8)
    for row, (red, green) in enumerate(codes):
        code[row, :, 0], code[row, :, 1] = red, green  # the last digit of red is no part of the class
    code[:, :, 2] = 9  # nor is blue
    Image.fromarray(code).save(tmp_path / "a_seg.png")
    assert choosing.other_objects(tmp_path / "a_seg.png") == expected


def test_missed_source_needs_one_part_found_and_one_left_out():
    truth = disc(8, 8, 5) | disc(24, 24, 5)
    assert choosing.missed_source(truth, disc(8, 8, 5))
    assert not choosing.missed_source(truth, truth)
    assert not choosing.missed_source(truth, np.zeros_like(truth))
    assert not choosing.missed_source(disc(8, 8, 5), disc(8, 8, 5))
    speck = disc(8, 8, 5)
    speck[30, 30] = True  # less than 5 % of the truth is no part
    assert not choosing.missed_source(speck, disc(8, 8, 5))


def test_failures_follow_their_rules_or_are_none(sources):
    found = choosing.failures(sources["ms3"][0])
    assert list(found) == list(choosing.FAILURES)
    assert found["one source missed"].endswith("/1")
    assert found["no clear factor"] is not None
    assert found["right factor, poor mask"] is None  # U alone is never better here
