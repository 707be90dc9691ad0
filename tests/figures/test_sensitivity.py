"""The figure over settings names its suite, split and tasks."""

import numpy as np
import pandas as pd

from taco.figures import drawing, sensitivity
from taco.results.sensitivity import table

SOLVER = {"n_components": 8, "beta_penalty": 250.0, "steps": 300}


def test_the_figure_names_suite_split_and_tasks_and_has_a_panel_for_each_setting():
    grid = {"n_components": [2, 8], "beta_penalty": [0, 250], "steps": [50, 300]}
    rng = np.random.default_rng(0)
    records = [
        (task, metric, parameter, setting, seed, rng.random(), 10)
        for parameter, settings in grid.items()
        for setting in settings
        for task, metric in (("s4", "mask-IoU"), ("ade_sp", "mIoU"))
        for seed in (0, 1, 2)
    ]
    names = ["task", "metric", "parameter", "setting", "seed", "value", "n_samples"]
    frame = table(pd.DataFrame(records, columns=names), SOLVER, "miniature-val", "val")
    drawn = sensitivity.figure(frame, "miniature-val")
    found = drawing.texts(drawn)
    assert "miniature-val suite" in found and "Split: val" in found and "ADE SP, mIoU" in found
    assert len(drawn.axes) == 3
