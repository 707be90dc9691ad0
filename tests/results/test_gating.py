"""An empty mask below a threshold: counted exactly from rows, and chosen where it costs little."""

import numpy as np
import pandas as pd
import pytest
from score_rows import binary_rows, frame_of, identity, map_of, truth_of

from taco import metrics
from taco.figures import gate
from taco.results import aggregate, counts, extended, gating, negative_audio, negatives, printing
from taco.results.ours import GATED

ANY = {"TACO": 0.5, "U only": None}


def rows_of(peaks, variant="proposed", task="s4", method="TACO", share=1.0, empty=(), seed=0):
    """A row for each peak; the map lights a share of the image's rows, its truth the upper half."""
    rows = []
    for sample, peak in enumerate(peaks):
        truth = np.zeros((10, 12), dtype=bool)
        truth[: 0 if sample in empty else 5] = True
        values = np.zeros((10, 12))
        values[: round(10 * share)] = 1.0
        row = identity(task, sample, variant=variant, method=method, seed=seed)
        row |= metrics.binary_row(values, truth)
        rows.append(row | {"floor": 0.0, "peak": float(peak)})
    return rows


def test_a_gated_row_is_the_row_of_an_empty_map(tmp_path):
    rows = [
        identity("s4", sample)
        | metrics.binary_row(map_of(sample, 0), truth_of(sample))
        | {"floor": 0.0, "peak": (0.2, 0.5, 0.9)[sample]}
        for sample in range(3)
    ]
    found = gating.rows(frame_of(rows, tmp_path), ANY)
    assert set(found["variant"]) == {GATED}
    for sample in range(3):
        values = map_of(sample, 0) * (sample > 0)  # a peak at the threshold stays
        for name, expected in metrics.binary_row(values, truth_of(sample)).items():
            one = counts.table(found, name) if np.ndim(expected) else found[name].to_numpy()
            np.testing.assert_array_equal(one[sample], expected)


def test_only_the_proposed_variant_of_methods_with_a_threshold_is_gated(tmp_path):
    rows = [
        *rows_of([0.1, 0.9]),
        *rows_of([0.1, 0.9], "silence"),
        *rows_of([0.1, 0.9], method="U only"),
        *(row | {"word_bank": "specific"} for row in rows_of([0.1, 0.9])),
    ]
    frame = frame_of(rows, tmp_path)
    found = gating.rows(frame, ANY)
    assert len(found) == 2 and set(found["method"]) == {"TACO"} and set(found["word_bank"]) == {"general"}
    assert gating.rows(frame, {"TACO": None, "U only": None}).empty
    assert gating.rows(frame_of(binary_rows(), tmp_path, name="old"), ANY).empty


def test_gated_rows_are_scored_as_others_are(tmp_path):
    """Of four images with the truth, one is gated; of frames without truth, one is rightly left free."""
    frame = frame_of(rows_of([0.9, 0.1, 0.9, 0.9], share=0.5), tmp_path)
    both = pd.concat([frame, gating.rows(frame, ANY)])
    found = aggregate.summarise(both).set_index(["variant", "metric"])["mean"]
    assert found["proposed", "mask-IoU"] == pytest.approx(1)
    assert found[GATED, "mask-IoU"] == pytest.approx(0.75)
    frame = frame_of(rows_of([0.9, 0.1], task="ms3", share=0.5, empty=(1,)), tmp_path, name="ms3")
    both = pd.concat([frame, gating.rows(frame, ANY)])
    found = aggregate.summarise(both).set_index(["variant", "metric"])["mean"]
    assert (found["proposed", "mask-IoU"], found[GATED, "mask-IoU"]) == pytest.approx((0.75, 1))


def test_thresholds_of_another_split_serve_the_gated_rows_too(tmp_path):
    frame = frame_of(rows_of([0.9, 0.1]), tmp_path)
    given = extended.thresholds(extended.per_seed(frame, "val"), "small", "val")
    both = pd.concat([frame, gating.rows(frame, ANY)], ignore_index=True)
    found = extended.per_seed(both, "test", given)
    assert set(found.loc[found["variant"] == GATED, "rule"]) == {"best on test", "best on val"}


def test_the_frontier_counts_what_is_lost_and_what_is_left():
    positives = pd.DataFrame(rows_of([0.2, 0.4, 0.6, 0.8], share=0.5))
    kinds = {"silence": pd.DataFrame(rows_of([0.1, 0.5], share=1.0)), "noise": pd.DataFrame(rows_of([0.3]))}
    found = gating.frontier(positives, kinds, level=9).set_index("threshold")
    assert found.index.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8]
    assert found["cost"].tolist() == pytest.approx([0, 0, 0.25, 0.25, 0.5, 0.5, 0.75])
    assert found["kept"].tolist() == pytest.approx([1, 1, 0.75, 0.75, 0.5, 0.5, 0.25])
    assert found["silence"].tolist() == pytest.approx([1, 0.5, 0.5, 0.5, 0.5, 0, 0])
    assert found["noise"].tolist() == pytest.approx([1, 1, 1, 0, 0, 0, 0])
    assert found["marked"].tolist() == pytest.approx(((found["silence"] + found["noise"]) / 2).tolist())


def test_each_task_counts_as_much():
    """Ninety images of one task do not outvote ten of another."""
    many, few = rows_of([0.9] * 90, share=0.5), rows_of([0.1] * 10, task="ms3", share=0.5)
    found = gating.frontier(pd.DataFrame(many + few), {"silence": pd.DataFrame(rows_of([0.5]))}, level=9)
    assert found.set_index("threshold")["cost"][0.9] == pytest.approx(0.5)


def test_the_greatest_threshold_that_costs_a_point_is_chosen():
    peaks = np.linspace(0.001, 1, 1000)
    positives = pd.DataFrame(rows_of(peaks, share=0.5))
    kinds = {"silence": pd.DataFrame(rows_of(peaks))}
    chosen = gating.choose(gating.frontier(positives, kinds, level=9))
    assert chosen["threshold"] == pytest.approx(peaks[10]) and chosen["cost"] == pytest.approx(0.01)
    assert chosen["marked"] == pytest.approx(0.99)


def test_the_page_shows_what_the_gate_does(tmp_path):
    rows = [row for seed in (0, 1) for row in rows_of([0.9, 0.1, 0.9, 0.9], share=0.5, seed=seed)]
    rows += [row for seed in (0, 1) for row in rows_of([0.9, 0.1, 0.1, 0.1], "silence", share=0.5, seed=seed)]
    values = gating.per_seed(frame_of(rows, tmp_path), ANY)
    frame = negatives.table(values, "small")
    cells = frame.set_index(["negatives", "metric"])["mean"]
    assert cells[negatives.ALL, gating.WITHOUT] == pytest.approx(100)
    assert cells[negatives.ALL, gating.WITH] == pytest.approx(75)
    assert cells[negatives.ALL, gating.KEPT] == pytest.approx(75)
    assert cells[negatives.SILENCE, gating.MARKED_WITHOUT] == pytest.approx(50)
    assert cells[negatives.SILENCE, gating.MARKED_WITH] == pytest.approx(12.5)
    page = printing.negatives_page(frame, "small", ANY)
    assert page.latex().isascii()
    page = page.markdown()
    assert "50.00 ± 0.00 → 12.50 ± 0.00" in page and "TACO 0.5" in page and "not of the paper" in page
    scored = frame_of(rows, tmp_path)
    assert gating.per_seed(scored, {"TACO": None}).empty
    whole = pd.concat([negatives.per_seed(scored), negative_audio.per_seed(scored), values])
    frame = negatives.table(whole, "small", unscaled=(negative_audio.UNIVERSAL,))
    assert printing.negatives_page(frame, "small", ANY).latex().count(r"\begin{table}") == 3


def test_the_figure_shows_each_method_and_kind():
    positives = pd.DataFrame(rows_of([0.2, 0.4, 0.6], share=0.5))
    kinds = {
        negatives.SILENCE: pd.DataFrame(rows_of([0.1])),
        negatives.NO_SOURCE: pd.DataFrame(rows_of([0.3])),
    }
    curve = gating.frontier(positives, kinds, level=9)
    drawn = gate.figure(pd.concat([curve.assign(method=method) for method in ("TACO", "U only")]), "small")
    assert [ax.get_title() for ax in drawn.axes] == ["TACO", "U only"]
    lines = {line.get_label() for line in drawn.axes[0].lines}
    assert {negatives.SILENCE, negatives.NO_SOURCE, "mean of kinds"} <= lines
