"""Made-up examples of every kind of task, and a gallery of some."""

from contextlib import ExitStack

import pandas as pd
import pytest
from figure_data import make_source

from taco.figures import gallery


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    with ExitStack() as stack:
        made = {}
        for task in ("s4", "ms3", "ade_sp", "avss"):
            made[task] = make_source(stack, tmp_path_factory.mktemp(task), task)
        yield made


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A gallery: its folder, how many samples it shows, their sources and score rows."""
    folder = tmp_path_factory.mktemp("gallery")
    with ExitStack() as stack:
        pairs = {task: make_source(stack, folder / task, task) for task in ("s4", "avss")}
        rows = pd.concat([rows for _, rows in pairs.values()], ignore_index=True)
        sources = {task: source for task, (source, _) in pairs.items()}
        count = gallery.write(folder / "out", sources, rows, "miniature", None, 0)
        yield folder / "out", count, sources, rows
