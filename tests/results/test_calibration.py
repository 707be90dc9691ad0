"""Thresholds on the validation split: what separates is found, and what it costs is said."""

import numpy as np
import pandas as pd
import pytest
from score_rows import frame_of, identity, truth_of

from taco import metrics
from taco.results import calibration, negatives
from taco.results.score_files import AggregateError


def rows_of(peaks, variant="proposed", task="s4", method="TACO", empty=()):
    """A row for each peak; the map lights the truth above 0.6 of its range."""
    rows = []
    for sample, peak in enumerate(peaks):
        truth = truth_of(sample) & (sample not in empty)
        values = np.where(truth_of(sample), 1.0, 0.58)
        values[0, 0] = 0
        row = identity(task, sample, variant=variant, method=method) | metrics.binary_row(values, truth)
        rows.append(row | {"floor": 0.0, "peak": float(peak)})
    return rows


def test_a_threshold_that_separates_is_found(tmp_path):
    rows = rows_of([0.5, 0.7, 0.9, 1.1]) + rows_of([0.1, 0.2, 0.3, 0.45], "shuffled audio")
    table, curves = calibration.table(frame_of(rows, tmp_path))
    (found,) = table.to_dict("records")
    assert found["confidence_threshold"] == pytest.approx(0.5)
    assert (found["kept"], found["emptied"], found["cost"], found["auroc"]) == (1, 1, 0, 1)
    assert found["marked"] == 0 < found["marked_ungated"] == curves[negatives.OFF_SCREEN].max()
    assert len(curves) == 8 and set(curves["method"]) == {"TACO"}
    assert 0.58 < found["mask_threshold"] < 1 and found["mask_iou"] > 0.9
    assert (found["method"], found["negatives"]) == ("TACO", negatives.OFF_SCREEN)


def test_each_kind_counts_as_much_and_is_told(tmp_path):
    """Silence at 0.8 throughout, above the faintest positive: it stays, as a quarter of the positives is too much to lose."""
    rows = rows_of([0.5, 0.7, 0.9, 1.1]) + rows_of([0.8] * 4, "silence") + rows_of([0.1, 0.6], "noise")
    frame = calibration.table(frame_of(rows, tmp_path))[0].set_index("negatives")
    assert set(frame.index) == {negatives.SILENCE, negatives.NOISE}
    assert (frame["confidence_threshold"] == 0.5).all() and (frame["kept"] == 1).all()
    assert frame["emptied"].to_dict() == {negatives.SILENCE: 0, negatives.NOISE: 0.5}
    assert (frame["marked"] <= frame["marked_ungated"]).all()


def test_frames_without_a_source_are_negatives(tmp_path):
    rows = rows_of([0.9, 0.8, 0.1, 0.2], task="ms3", empty=(2, 3))
    (found,) = calibration.table(frame_of(rows, tmp_path))[0].to_dict("records")
    assert found["negatives"] == negatives.NO_SOURCE and found["confidence_threshold"] == pytest.approx(0.8)
    assert (found["n_positive"], found["n_negative"]) == (2, 2)


def test_without_negatives_nothing_is_chosen(tmp_path):
    with pytest.raises(AggregateError, match="silence and noise"):
        calibration.table(frame_of(rows_of([0.5, 0.6]), tmp_path))


def test_the_overlay_is_the_section_of_a_configuration():
    table = pd.DataFrame({
        "method": ["TACO", "TACO", "U only"], "mask_threshold": [0.45, 0.45, 0.6],
        "confidence_threshold": [0.0123456, 0.0123456, 0.9],
    })  # fmt: skip
    assert calibration.overlay(table) == {
        "segment": {
            "mask_threshold": {"TACO": 0.45, "U only": 0.6},
            "confidence_threshold": {"TACO": 0.0123456, "U only": 0.9},
        }
    }
