"""The test of sounds that are not of the image: its readout is the map before it is stretched."""

import numpy as np
import pandas as pd
import pytest
from score_rows import frame_of, identity, truth_of
from scoring import answers, make_sample, make_scorer
from sklearn.metrics import roc_auc_score

from taco import metrics
from taco.method import evaluate
from taco.results import negatives, printing


def rows_of(maps, variant="proposed", seed=0, method="TACO", silent=()):
    """Rows of un-normalised maps by sample, as the scorer writes them."""
    rows = []
    for sample, values in enumerate(maps):
        truth = truth_of(sample) & (sample not in silent)
        row = identity("ms3", sample, variant=variant, seed=seed, method=method)
        row |= metrics.binary_row(metrics.min_max(values), truth)
        rows.append(row | {"floor": float(values.min()), "peak": float(values.max())})
    return rows


def loud_and_faint(seed=0, count=8):
    """Maps that light the truth, and faint ones (a tenth) that light something."""
    rng = np.random.default_rng(seed)
    loud = [truth_of(s) * 0.7 + rng.random((10, 12)) * 0.1 for s in range(count)]
    faint = [truth_of(s + 50) * 0.07 + rng.random((10, 12)) * 0.01 for s in range(count)]
    return loud, faint


def test_auroc_agrees_with_scikit_learn_ties_included():
    rng = np.random.default_rng(0)
    for _ in range(20):
        positives, others = rng.integers(0, 6, 15) + 1.0, rng.integers(0, 6, 9)
        truth = np.repeat([1, 0], [15, 9])
        expected = roc_auc_score(truth, np.concatenate([positives, others]))
        assert negatives.auroc(positives, others) == pytest.approx(expected)


def test_counts_are_those_of_the_map_before_stretching(tmp_path):
    maps = [
        values * scale
        for values, scale in zip(loud_and_faint()[0], (1, 3, 0.2, 1, 1, 2, 1, 0.5), strict=True)
    ]
    maps[3] = np.full((10, 12), 0.4)
    rows = frame_of(rows_of(maps), tmp_path)
    for threshold in (-1.0, 0.0, 0.05, 0.3, 0.39, 0.41, 1.2, 9.0):
        (hit,), (marked,) = negatives.Marks(rows).above([threshold])
        for sample, values in enumerate(maps):
            step = (values.max() - values.min()) / 254 + 1e-6  # counts are kept at 255 levels
            low, high = (values >= threshold + step).sum(), (values >= threshold - step).sum()
            assert low <= marked[sample] <= high
            assert ((values >= threshold + step) & truth_of(sample)).sum() <= hit[sample] <= marked[sample]


def test_faint_maps_are_told_apart_although_stretching_hides_it(tmp_path):
    loud, faint = loud_and_faint()
    rows = frame_of(rows_of(loud) + rows_of(faint, "shuffled audio"), tmp_path)
    found = negatives.per_seed(rows).set_index("metric")
    assert set(found["negatives"]) == {negatives.OFF_SCREEN}
    assert found.loc[negatives.AUROC, "value"] == 1
    assert found.loc[negatives.MARKED, "value"] == 0
    assert found.loc[negatives.MARKED_STRETCHED, "value"] > 0.2
    assert (found["n_positive"] == 8).all() and (found["n_negative"] == 8).all()


def test_where_nothing_differs_there_is_nothing_to_tell(tmp_path):
    loud, _ = loud_and_faint()
    rows = frame_of(rows_of(loud) + rows_of(loud, "shuffled audio"), tmp_path)
    assert negatives.per_seed(rows).set_index("metric").loc[negatives.AUROC, "value"] == 0.5


def test_the_threshold_never_sees_the_held_out_clips(tmp_path):
    loud, faint = loud_and_faint()
    held_out = (2, 3, 6, 7)  # every second clip of two frames
    changed = [values * (40 if sample in held_out else 1) for sample, values in enumerate(faint)]
    rows = frame_of(rows_of(loud) + rows_of(changed, "shuffled audio"), tmp_path)
    assert negatives.per_seed(rows).set_index("metric").loc[negatives.MARKED, "value"] > 0.2


def test_silent_frames_are_negatives_too(tmp_path):
    loud, faint = loud_and_faint()
    maps = [faint[s] if s in (1, 6) else loud[s] for s in range(8)]
    rows = frame_of(rows_of(maps, silent=(1, 6)), tmp_path)
    found = negatives.per_seed(rows)
    assert set(found["negatives"]) == {negatives.NO_SOURCE}
    assert found.set_index("metric").loc[negatives.AUROC, "value"] == 1
    assert (found["n_positive"] == 6).all() and (found["n_negative"] == 2).all()
    assert found.set_index("metric").loc[negatives.MARKED, "value"] == 0  # clips 0 and 3: one for each half


def test_the_table_is_in_percent_over_seeds(tmp_path):
    rows = []
    for seed in (0, 1, 2):
        loud, faint = loud_and_faint(seed)
        rows += rows_of(loud, seed=seed) + rows_of(
            [f * (1 + 9 * (seed == 1)) for f in faint], "shuffled audio", seed
        )
    values = negatives.per_seed(frame_of(rows, tmp_path))
    frame = negatives.table(values, "miniature")
    row = frame[frame["metric"] == negatives.AUROC].iloc[0]
    seeds = 100 * values.loc[values["metric"] == negatives.AUROC, "value"]
    assert (row["mean"], row["std"], row["n_seeds"]) == pytest.approx((seeds.mean(), seeds.std(ddof=0), 3))
    page = printing.negatives_page(frame, "miniature")
    assert f"{row['mean']:.2f} ± {row['std']:.2f}" in page.markdown()
    assert "miniature suite" in page.markdown() and page.latex().isascii()


def test_rows_without_negatives_give_an_empty_table():
    rows = pd.DataFrame(rows_of(loud_and_faint()[0]))
    frame = negatives.table(negatives.per_seed(rows), "test")
    assert frame.empty and tuple(frame.columns) == negatives.COLUMNS
    assert "test suite" in printing.negatives_page(frame, "test").markdown()


def test_the_scorer_keeps_the_span_of_what_it_stretched():
    scorer, sample = make_scorer(), make_sample()
    found = answers(scorer, sample)
    run = sample.runs[0]
    for seed in (0, 1):
        activation = run.image_activations[seed, :, run.k_star[seed]]
        span = found["U only", "proposed", "general", seed].span
        assert span == (float(activation.min()), float(activation.max()))
    maps = evaluate.fcclip.decode(sample.proposals, run.image_factors, **scorer.decoding)
    low, high = found["TACO", "proposed", "general", 0].span
    chosen = maps[0, run.k_star[0]]
    assert (low, high) == pytest.approx((float(chosen.min()), float(chosen.max())), abs=1e-5)
    assert np.isnan(found["oracle mask", "control", "none", -1].span).all()
    semantic = answers(make_scorer("avss"), make_sample(semantic=True))
    assert np.isnan(semantic["TACO", "proposed", "general", 0].span).all()
