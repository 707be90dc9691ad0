"""What a suite will cost, before it starts: jobs, hours and gigabytes of each stage, from its configuration and measured rates.

An estimate. Rates are measured (`taco.bench.rates`), sums of them are not: stages are taken to follow one another, each
with its jobs laid on the workers as they become free.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taco import suites
from taco.bench import costs
from taco.bench.rates import MeasuredRates
from taco.metrics.tasks import TASKS

PROGRAM, SCALARS_OF_A_ROW, COUNTS_OF_A_ROW = 200e6, 700, 10_000
"""Bytes, see `memory_of_rows`."""
PARTS = {"features": "features", "factorize": "conmf", "score": "scores"}
"""Stages of a shard, and the part of `taco.bench.costs` that each is."""


@dataclass(frozen=True)
class Stage:
    """One stage's jobs.

    Attributes
    ----------
    name : str
    seconds : tuple of float
        Of each job.
    parallel : bool
        Whether more workers make it shorter.
    """

    name: str
    seconds: tuple[float, ...]
    parallel: bool = True

    def hours(self, workers: int) -> float:
        """By the clock, on so many GPUs or cores."""
        return makespan(self.seconds, workers if self.parallel else 1) / 3600


def makespan(seconds: Iterable[float], workers: int) -> float:
    """When the last of some jobs ends, where each worker takes the longest that is left.

    Examples
    --------
    >>> makespan([3, 3, 2, 2, 2], 2), makespan([3, 3, 2, 2, 2], 64)
    (7, 3)
    """
    ends = [0] * workers
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def stages(config: Mapping[str, Any], rates: MeasuredRates, samples: Mapping[str, int]) -> list[Stage]:
    """The stages of a suite on one kind of device, in order.

    Parameters
    ----------
    config : mapping
    rates : MeasuredRates
    samples : mapping
        Samples by dataset, of those whose size is known.

    Returns
    -------
    list of Stage
        ``features``, ``factorize`` and ``score`` have a job for each shard; ``manifest``, ``text`` and ``tables, figures`` do
        not become shorter with more workers.
    """
    of_sample = {name: costs.sample_ms(rates, config, name) for name in samples}
    seconds: dict[str, list[float]] = {stage: [] for stage in PARTS}
    for name, count in samples.items():
        shards = len(suites.shards(config, name))
        for stage, part in PARTS.items():
            # Whole clips, equal up to one: the shards are taken to be equal.
            one = rates.start(stage) + of_sample[name][part] / 1000 * count / shards
            seconds[stage] += [one] * shards
    alone = _alone(config, rates, samples)
    return [
        Stage("manifest", tuple(alone["manifest"]), parallel=False),
        Stage("text", tuple(alone["text"]), parallel=False),
        *(Stage(stage, tuple(seconds[stage])) for stage in PARTS),
        Stage("tables, figures", tuple(alone["tables, figures"]), parallel=False),
    ]


def _alone(
    config: Mapping[str, Any], rates: MeasuredRates, samples: Mapping[str, int]
) -> dict[str, list[float]]:
    """Seconds of the jobs that are no shard's: each decodes all files, embeds all words, or reads all rows."""
    decode = rates.ms("read, one process") / 1000
    words = len(config["banks"]) * costs.WORDS * rates.ms("text of a bank") / 1000
    rows = sum(count * rows_of_sample(config, name) for name, count in samples.items())
    return {
        "manifest": [rates.start("manifest") + count * decode for count in samples.values()],
        "text": [rates.start("text") + words],
        "tables, figures": [rates.start("tables, figures") + rows * rates.ms("tables, figures, row") / 1000],
    }


def rows_of_sample(config: Mapping[str, Any], name: str) -> int:
    """Score rows of one sample over all tasks of its dataset."""
    seeds, rows = len(config["seeds"]), 0
    for task, options in suites.scored_tasks(config, name).items():
        semantic = TASKS[task].kind == "semantic"
        methods = [m for m in suites.methods(config, name).values() if task in m["tasks"]]
        rows += (
            len(options["runs"]) * seeds * (1 if semantic else 2)
        )  # TACO; and U only, which names no class
        rows += 1 + (1 if semantic else len(config["decoding"]["prompt_sets"]))  # A⁺- and A-FC-CLIP
        rows += len(config["evaluation"]["controls"]) + sum(seeds if m["seeded"] else 1 for m in methods)
    return rows


def memory_of_rows(config: Mapping[str, Any], samples: Mapping[str, int]) -> float:
    """Bytes that the jobs hold at most that read all score rows: tables, figures, gallery.

    Measured over 102,000 and 408,000 rows of a binary task: the row's scalars, with what is copied of them, and what it
    takes to compute with the counts of the rows in memory (``memory.rows``); what stands before is the program itself.
    """
    rows = sum(count * rows_of_sample(config, name) for name, count in samples.items())
    return PROGRAM + SCALARS_OF_A_ROW * rows + COUNTS_OF_A_ROW * min(rows, config["memory"]["rows"])


def longest_shard(planned: Sequence[Stage]) -> float:
    """Hours that the longest shard takes from features to scores: no number of workers makes it shorter."""
    return sum(max(stage.seconds, default=0) for stage in planned if stage.parallel) / 3600


def shared(planned: Sequence[Stage]) -> float:
    """Hours of all shards together, on one worker."""
    return sum(stage.hours(1) for stage in planned if stage.parallel)


def alone(planned: Sequence[Stage]) -> float:
    """Hours of the stages that do not become shorter with more workers."""
    return sum(stage.hours(1) for stage in planned if not stage.parallel)
