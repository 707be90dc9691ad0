"""The benchmark's figures: as its authors' code defines them, on held-out clips, under their names."""

import numpy as np
import pandas as pd
import pytest
from score_rows import frame_of, identity
from sklearn.metrics import auc

from taco import metrics
from taco.results import negative_audio, negatives, printing


def rows_of(peaks, variant="proposed", seed=0):
    """Rows of maps that light the left part of the image at ``peak``; the truth is the left half."""
    rows = []
    truth = np.zeros((10, 12), dtype=bool)
    truth[:, :6] = True
    for sample, peak in enumerate(peaks):
        values = np.zeros((10, 12))
        values[:, :6] = peak
        row = identity("s4", sample, variant=variant, seed=seed)
        row |= metrics.binary_row(metrics.min_max(values), truth)
        rows.append(row | {"floor": 0.0, "peak": float(peak)})
    return rows


def figures(tmp_path, positives, **exchanged):
    rows = rows_of(positives)
    for variant, peaks in exchanged.items():
        rows += rows_of(peaks, variant.replace("_", " "))
    frame = negative_audio.per_seed(frame_of(rows, tmp_path))
    return frame.set_index(["negatives", "metric"])["value"]


def test_where_maps_tell_the_sounds_apart_every_figure_is_full(tmp_path):
    found = figures(tmp_path, [0.9] * 8, silence=[0.1] * 8, noise=[0.2] * 8, shuffled_audio=[0.3] * 8)
    whole = found[negatives.ALL]
    assert whole[negative_audio.CIOU] == 1 and whole[negative_audio.AUC] == pytest.approx(1)
    assert found[negatives.SILENCE, negative_audio.PIA] == 0
    assert found[negatives.SILENCE, negative_audio.AUC_N] == pytest.approx(1)
    # The quartile of off-screen maps is their own greatest value: at it, their pixels count.
    assert whole[negative_audio.UNIVERSAL] == pytest.approx(0.3)
    assert found[negatives.OFF_SCREEN, negative_audio.PIA] == 0.5
    assert whole[negative_audio.F_LOC] == pytest.approx(2 * (5 / 6) / (1 + 5 / 6))


def test_the_threshold_is_the_third_quartile_of_other_clips(tmp_path):
    """Clips of two frames; every second clip chooses."""
    chosen, held_out = [0.1, 0.2, 0.3, 0.4], [9.0] * 4
    peaks = [*chosen[:2], *held_out[:2], *chosen[2:], *held_out[2:]]
    found = figures(tmp_path, [0.5] * 8, silence=peaks)
    assert found[negatives.ALL, negative_audio.UNIVERSAL] == pytest.approx(np.quantile(chosen, 0.75))
    assert found[negatives.SILENCE, negative_audio.PIA] == 0.5


def test_areas_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    values, steps = rng.random(50), np.arange(21) / 20
    assert negative_audio.success_auc(values) == pytest.approx(
        auc(steps, [(values >= t).mean() for t in steps])
    )
    assert negative_audio.free_auc(values) == pytest.approx(auc(steps, [(values <= t).mean() for t in steps]))


def test_without_exchanged_sounds_there_are_no_figures(tmp_path):
    rows = rows_of([0.5] * 4)
    assert negative_audio.per_seed(frame_of(rows, tmp_path)).empty


def test_the_page_names_and_defines_them(tmp_path):
    rows = rows_of([0.9] * 8) + rows_of([0.1] * 8, "silence")
    scored = frame_of(rows, tmp_path)
    values = pd.concat([negatives.per_seed(scored), negative_audio.per_seed(scored)])
    frame = negatives.table(values, "small", unscaled=(negative_audio.UNIVERSAL,))
    cells = frame.set_index(["negatives", "metric"])["mean"]
    assert cells[negatives.ALL, negative_audio.UNIVERSAL] == pytest.approx(0.1)
    assert cells[negatives.ALL, negative_audio.CIOU] == pytest.approx(100)
    page = printing.negatives_page(frame, "small")
    assert page.latex().count("begin{table}") == 2  # heads differ
    page = page.markdown()
    for word in (*negative_audio.WHOLE, "pIA, silence", "AUC_N, silence", "2410.01020"):
        assert word in page
