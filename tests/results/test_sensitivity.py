"""Trials of settings, and what is made of their scores."""

import numpy as np
import pandas as pd
import pytest

from taco.results import sensitivity

SOLVER = {"n_components": 8, "beta_penalty": 250.0, "steps": 300, "norm": "frobenius"}
GRID = {"n_components": [2, 8], "beta_penalty": [0, 250], "steps": [50, 300, 500]}


def test_trials_change_one_setting_at_a_time_and_repeat_none():
    found = sensitivity.trials(SOLVER, GRID)
    changes = [{key for key in SOLVER if trial.solver[key] != SOLVER[key]} for trial in found]
    assert changes == [{"n_components"}, set(), {"beta_penalty"}, {"steps"}]
    assert found[1].points == (("n_components", 8), ("beta_penalty", 250))
    assert found[-1].solver["checkpoints"] == (50, 300, 500)
    assert isinstance(found[2].solver["beta_penalty"], float)


def test_every_point_of_the_grid_is_shown_once():
    shown = [
        pair
        for trial in sensitivity.trials(SOLVER, GRID)
        for steps in trial.solver.get("checkpoints", (300,))
        for pair in trial.shown_as(steps)
    ]
    assert sorted(shown) == sorted((key, value) for key, values in GRID.items() for value in values)


def values_of(seed=0):
    """Made-up scores of two tasks; more components help, three seeds."""
    rng = np.random.default_rng(seed)
    records = []
    for parameter, settings in GRID.items():
        for setting in settings:
            for task, metric in (("s4", "mask-IoU"), ("ade_sp", "mIoU"), ("ade_sp", "mAP")):
                for run in (0, 1, 2):
                    value = 0.3 + 0.02 * setting / max(settings) + 0.01 * rng.random()
                    records.append((task, metric, parameter, setting, run, value, 10))
    names = ["task", "metric", "parameter", "setting", "seed", "value", "n_samples"]
    return pd.DataFrame(records, columns=names)


def test_the_table_is_mean_and_population_std_of_each_tasks_metric():
    values = values_of()
    frame = sensitivity.table(values, SOLVER, "miniature-val", "val")
    assert set(frame["metric"]) == {"mask-IoU", "mIoU", "score"}
    key = {"parameter": "n_components", "setting": 2}
    picked = values.query("parameter == 'n_components' and setting == 2")
    by_task = {task: 100 * picked.loc[picked["metric"] == m, "value"].to_numpy() for task, m in
               (("S4", "mask-IoU"), ("ADE SP", "mIoU"))}  # fmt: skip
    by_task[sensitivity.AVERAGE] = (by_task["S4"] + by_task["ADE SP"]) / 2
    for dataset, numbers in by_task.items():
        row = frame[(frame[list(key)] == pd.Series(key)).all(axis=1) & (frame["dataset"] == dataset)].iloc[0]
        assert (row["mean"], row["std"]) == pytest.approx((numbers.mean(), numbers.std()))
    own = frame[frame["own"]].groupby("parameter")["setting"].unique()
    assert {name: list(found) for name, found in own.items()} == {
        "n_components": [8],
        "beta_penalty": [250],
        "steps": [300],
    }


def test_one_seed_has_no_std():
    values = values_of().query("seed == 0")
    frame = sensitivity.table(values, SOLVER, "miniature-val", "val")
    assert frame["std"].isna().all() and set(frame["n_seeds"]) == {1}
    assert "±" not in sensitivity.page(frame, "miniature-val").markdown().split("Percent;")[0]


def test_the_page_names_suite_split_and_own_values():
    frame = sensitivity.table(values_of(), SOLVER, "miniature-val", "val")
    page = sensitivity.page(frame, "miniature-val")
    text = page.markdown()
    assert "8 (own)" in text and "miniature-val suite" in text and "Split: val" in text and "**" in text
    assert page.latex().isascii()
