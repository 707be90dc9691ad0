"""Scores of few clips against published ones: the interval of a draw, widened by the number's own tolerance."""

import numpy as np
import pandas as pd
from score_rows import rows_of_s4

from taco import metrics
from taco.results import aggregate, agreement, pools, tables
from taco.results.verify import DEVIATES, OK


def test_scores_agree_within_the_uncertainty_of_few_clips():
    reported = tables.Reported()
    key = ("TACO", "proposed", "general")
    rows = rows_of_s4(0.9)
    values = aggregate.per_seed(rows).query(
        "method == 'TACO' and variant == 'proposed' and metric == 'mask-IoU'"
    )
    own = 100 * values["value"].mean()
    reported.release[("s4", *key, "mask-IoU")] = (own - 0.9, 0.2, "release")
    reported.paper[("table2", "s4", *key, "mask-IoU")] = (own - 40, np.nan, "paper")
    found = list(agreement.score_checks(rows, pools.load([]), reported, draws=20))
    assert [check.verdict for check in found] == [OK, DEVIATES]
    assert "± 0.20 (release)" in found[0].expectation and "12 clips" in found[0].finding
    assert not list(agreement.score_checks(rows, pools.load([]), tables.Reported()))


def test_pooled_metrics_are_drawn_by_class():
    """Two classes, one found and one not: an interval from 0 to 1 around the mean."""
    records = []
    for name, score in (("bell", 1.0), ("drum", 0.0)):
        pool, truth = metrics.ScorePool(), np.zeros((8, 8), dtype=bool)
        truth[:4] = True
        pool.update(np.where(truth, score, 1 - score).astype(np.float32), truth)
        identity = dict(zip(metrics.POOL_IDENTITY, ("ade_sp", "ade", name, "TACO", "proposed", "general", 0)))
        records.append(identity | pool.to_row())
    pooled = pd.DataFrame(records)
    key = ("ade_sp", "ade", "TACO", "proposed", "general", "mAP")
    drawn = agreement._drawn(pd.DataFrame(), pooled, key, 50, 0)
    by_class = np.sort(agreement._class_values(pooled, "mAP"))
    assert by_class[1] == 1 and by_class[0] < 0.6
    assert set(np.unique(drawn)) == {by_class[0], by_class.mean(), 1}
