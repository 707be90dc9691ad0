"""Measured rates as data: those of the repository (config/rates.yaml), or of ``taco bench pipeline --output``."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from taco import suites

FILE = suites.ROOT / "config/rates.yaml"
SOLVER = re.compile(r"co-NMF, (\d+) steps, (\d+) seeds")


class RatesError(ValueError):
    """A file of rates is missing or malformed, or knows nothing of these models."""


@dataclass
class MeasuredRates:
    """Rates of one device.

    Attributes
    ----------
    device : str
        Its name.
    kind : {"cuda", "cpu"}
        On a CPU times are processor time.
    measured : str
        When and how.
    stages : dict
        Milliseconds by stage of `taco.bench.pipeline`; None for one that nobody has measured.
    jobs : dict
        Seconds that a job of a stage takes before its first sample.
    sources : dict
        Where each rate was measured, by stage; what says nothing is of ``measured``.
    unknown : set of str
        Stages that were asked for and are not measured: they count as nothing.
    scaled : set of str
        Stages that were computed from another number of steps.
    asked : set of str
        Stages that were asked for.
    """

    device: str
    kind: str
    measured: str
    stages: dict[str, float | None]
    jobs: dict[str, float | None] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    scaled: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)

    @property
    def overlaps(self) -> bool:
        """Whether reading, models and writing run side by side."""
        return self.kind == "cuda"

    def ms(self, *stages: str) -> float:
        """Sum of the stages' milliseconds; what is not measured counts as nothing and is noted."""
        return sum(self._ms(stage) for stage in stages)

    def _ms(self, stage: str) -> float:
        self.asked.add(stage)
        found = self.stages.get(stage)
        if found is None:
            found = self._scaled(stage)
        if found is None:
            self.unknown.add(stage)
        return found or 0.0

    def _scaled(self, stage: str) -> float | None:
        """The solver's time from another number of steps: it grows with them."""
        asked = SOLVER.fullmatch(stage)
        for name, ms in self.stages.items():
            known = SOLVER.fullmatch(name)
            if asked and known and ms is not None and known[2] == asked[2]:
                self.scaled.add(stage)
                return ms * int(asked[1]) / int(known[1])
        return None

    def start(self, stage: str) -> float:
        """Seconds before a job's first sample."""
        found = self.jobs.get(stage)
        if found is None:
            self.unknown.add(f"start of a {stage} job")
        return found or 0.0


def load(config: Mapping[str, Any]) -> list[MeasuredRates]:
    """The repository's rates for the models of a configuration; none where nobody has measured these.

    Raises
    ------
    RatesError
    """
    architecture = Path(config["models"]["clip"]["architecture"]).name
    try:
        entries = yaml.safe_load(FILE.read_text(encoding="utf-8"))["devices"]
        return [_of_entry(entry) for entry in entries if entry["clip"] == architecture]
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise RatesError(f"{FILE}: expected rates as its header says, found: {error!r}") from error


def _of_entry(entry: Mapping[str, Any]) -> MeasuredRates:
    stages, sources = {}, {}
    for name, value in entry["stages"].items():
        stages[name] = value["ms"] if isinstance(value, Mapping) else value
        if isinstance(value, Mapping):
            sources[name] = value["source"]
    return MeasuredRates(
        entry["device"], entry["kind"], entry["measured"], stages, dict(entry["jobs"]), sources
    )


def read_report(path: str | Path) -> MeasuredRates:
    """Rates of a report that ``taco bench pipeline --output`` wrote.

    Raises
    ------
    RatesError
    """
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        cuda = any(stage["peak_gb"] is not None for stage in report["stages"])
        column = "ms" if cuda else "cpu_ms"
        stages = {stage["stage"]: stage[column] for stage in report["stages"]}
        device, threads = report["machine"]["device"], report["threads"]
        told = (
            f"{path}: taco bench pipeline, suite {report['suite']}, {report['models']}, {threads} thread(s)"
        )
        return MeasuredRates(device, "cuda" if cuda else "cpu", told, stages)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RatesError(
            f"{path}: expected the JSON file of `taco bench pipeline --output`, found: {error!r}"
        ) from error
