"""The figure of scores against the signal-to-noise ratio has a panel for each task and says what it shows."""

import pandas as pd

from taco.figures import drawing, hearing

LINES = {
    ("TACO", "proposed"): [40, 50, 60],
    ("TACO", "no-min"): [35, 45, 55],
    ("U only", "proposed"): [10, 12, 14],
    ("A-FC-CLIP", "list"): [20, 45, 80],
    ("A⁺-FC-CLIP", "list"): [20, 44, 70],
    ("CLAP", ""): [20, 50, 99],
}


def sweep(tasks=("s4", "ade_sp")):
    return pd.DataFrame(
        {
            "task": task,
            "method": method,
            "variant": variant,
            "mean": mean,
            "low": mean - 3.0,
            "high": mean + 3.0,
            "low_db": ratio,
            "high_db": ratio,
            "n_clips": 12,
            "n_samples": 60,
            "n_seeds": 3,
            "metric": "top-1" if method == "CLAP" else "mask-IoU",
        }
        for task in tasks
        for (method, variant), means in LINES.items()
        for ratio, mean in zip((-20, -10, 0), means, strict=True)
    )


def test_a_panel_for_each_task_with_clap_on_an_axis_of_its_own():
    drawn = hearing.figure(sweep(), [-22, -12], "miniature", "test")
    assert len(drawn.axes) == 4  # two panels, each with its right axis
    found = drawing.texts(drawn)
    for words in ("S4 (12 clips, 60 images)", "ADE SP", "CLAP top-1 (%)", "TACO, no-min", "Split: test"):
        assert words in found
    assert "A⁺" not in found
    assert "−8.0 dB" in found  # TACO is 5 points ahead at -10 dB and 20 behind at 0


def test_a_sweep_without_variants_is_drawn_too():
    frame = sweep(("ms3",)).query("method in ('A-FC-CLIP', 'CLAP')")
    assert "MS3" in drawing.texts(hearing.figure(frame, [-22, -12], "miniature", "val"))
