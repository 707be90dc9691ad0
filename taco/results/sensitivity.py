"""How scores depend on the solver's settings, one at a time, on the validation split: trials and table. No torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from taco.metrics.tasks import TASKS
from taco.results.aggregate import population_std
from taco.results.pages import Grid, Page
from taco.results.tables import number, suite_title

PARAMETERS = {"n_components": "K", "beta_penalty": "β_p", "steps": "steps"}
METRICS = {"binary": "mask-IoU", "pooled": "mIoU", "semantic": "mIoU"}
COLUMNS = (
    *("table", "dataset", "metric", "parameter", "setting", "own"),
    *("mean", "std", "n_seeds", "n_samples", "split", "source"),
)
AVERAGE = "mean of tasks"


@dataclass(frozen=True)
class Trial:
    """One run of the solver.

    Attributes
    ----------
    solver : dict
        Its settings.
    points : tuple of (str, value)
        The (parameter, value) pairs that it stands for; with checkpoints, each of its numbers of steps.
    """

    solver: Mapping[str, Any]
    points: tuple[tuple[str, float], ...]

    def shown_as(self, steps: int) -> Iterator[tuple[str, float]]:
        """The pairs that the result after so many steps stands for."""
        for parameter, value in self.points:
            if parameter != "steps" or value == steps:
                yield parameter, value


def trials(solver: Mapping[str, Any], grid: Mapping[str, Sequence[float]]) -> list[Trial]:
    """Runs that cover a grid, one setting changed at a time; a run that several ask for is made once.

    Parameters
    ----------
    solver : mapping
        The suite's own settings.
    grid : mapping parameter → values
        Keys of `PARAMETERS`. All numbers of steps are checkpoints of one run, as long as the greatest.

    Returns
    -------
    list of Trial

    Examples
    --------
    >>> found = trials({"n_components": 8, "beta_penalty": 1.0, "steps": 9}, {"n_components": [4, 8], "steps": [5, 20]})
    >>> [(t.solver["n_components"], t.solver["steps"], t.points) for t in found]
    [(4, 9, (('n_components', 4),)), (8, 9, (('n_components', 8),)), (8, 20, (('steps', 5), ('steps', 20)))]
    """
    points: dict[tuple, list] = {}
    for parameter, values in grid.items():
        for value in values if parameter != "steps" else ():
            changed = {**solver, parameter: type(solver[parameter])(value)}
            points.setdefault(tuple(changed[key] for key in grid), []).append((parameter, value))
    made = [
        Trial({**solver, **dict(zip(grid, key, strict=True))}, tuple(found)) for key, found in points.items()
    ]
    if grid.get("steps"):
        steps = sorted(grid["steps"])
        longest = {**solver, "steps": steps[-1], "checkpoints": tuple(steps)}
        made.append(Trial(longest, tuple(("steps", value) for value in steps)))
    return made


def table(values: pd.DataFrame, own: Mapping[str, float], suite: str, split: str) -> pd.DataFrame:
    """Mean and population std over seeds of each task's metric, and the mean of the tasks, for each setting.

    Parameters
    ----------
    values : DataFrame
        `taco.results.aggregate.per_seed` of all tasks, with ``parameter`` and ``setting``.
    own : mapping parameter → value
        The suite's own settings; ``own`` marks their rows.
    suite, split : str

    Returns
    -------
    DataFrame with `COLUMNS`, percent
    """
    wanted = values["metric"] == values["task"].map(lambda task: METRICS[TASKS[task].kind])
    values = values[wanted].assign(dataset=lambda frame: [TASKS[task].title for task in frame["task"]])
    seeds = values.groupby(["parameter", "setting", "seed"])
    average = seeds.agg(value=("value", "mean"), n_samples=("n_samples", "sum")).reset_index()
    values = pd.concat([values, average.assign(dataset=AVERAGE, metric="score")])
    keys = ["dataset", "metric", "parameter", "setting"]
    frame = values.groupby(keys, sort=False).agg(
        mean=("value", lambda x: 100 * x.mean()),
        std=("value", lambda x: 100 * population_std(x)),
        n_seeds=("value", "size"),
        n_samples=("n_samples", "first"),
    )
    datasets = [*(task.title for task in TASKS.values()), AVERAGE]
    places = {name: place for place, name in enumerate([*PARAMETERS, *datasets])}
    frame = frame.reset_index().sort_values(
        ["parameter", "setting", "dataset"],
        key=lambda x: x.map(lambda value: places.get(value, value)),
        kind="stable",
        ignore_index=True,
    )
    frame["own"] = [own[p] == value for p, value in zip(frame["parameter"], frame["setting"], strict=True)]
    source = f"measured: {suite} suite"
    return frame.assign(table="sensitivity", split=split, source=source)[list(COLUMNS)]


def note(frame: pd.DataFrame) -> str:
    images = frame[frame["dataset"] != AVERAGE].groupby("dataset", sort=False)["n_samples"].first()
    return (
        f"Split: {frame['split'].iloc[0]}. TACO with each task's default word bank; one setting is changed at a time, the "
        f"others stay at the suite's own. Numbers of steps are checkpoints of one run. n = {frame['n_seeds'].iloc[0]} seeds; "
        "images: " + ", ".join(f"{name} {n}" for name, n in images.items()) + "."
    )


def page(frame: pd.DataFrame, suite: str) -> Page:
    """The table as Markdown and LaTeX: a line for each setting, the best of each parameter and column in bold."""
    names = list(frame["dataset"].unique())
    metrics = frame.groupby("dataset")["metric"].first()
    best = frame.groupby(["dataset", "parameter"])["mean"].transform("max")
    texts = [number(row["mean"], row["std"]) for row in frame.to_dict("records")]
    frame = frame.assign(
        text=[f"**{t}**" if top else t for t, top in zip(texts, frame["mean"] == best, strict=True)]
    )
    lines = []
    for (parameter, setting), part in frame.groupby(["parameter", "setting"], sort=False):
        cells = dict(zip(part["dataset"], part["text"], strict=True))
        mark = " (own)" if part["own"].iloc[0] else ""
        lines.append([PARAMETERS[parameter], f"{setting:g}{mark}", *(cells.get(name, "") for name in names)])
    head = [("", "Setting"), ("", "Value"), *((name, metrics[name]) for name in names)]
    notes = [
        "Percent; mean ± population standard deviation over seeds. Best of each setting and column in bold. "
        + note(frame),
        "(own): the value that the suite uses. It is chosen by the mean of the tasks, together with the computing time.",
    ]
    title = "Scores against the solver's settings"
    return Page("sensitivity", title, suite_title(suite), [Grid(head, lines, left=2)], notes)
