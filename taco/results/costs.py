"""What each method costs: milliseconds and megabytes for each sample, as the jobs measured them. No torch.

Jobs record the seconds of their own work (without start-up and loading of models) in what they write, sizes are those
of the files. Times differ from run to run, so they stand in a table of their own, beside the tables that two runs
reproduce byte for byte.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from taco.cache.hdf5 import open_cache
from taco.metrics.tasks import TASKS
from taco.results.tables import CONTRIBUTED, NO_BANK

SOLVED = ("TACO", "U only")
NAMED = ("A-FC-CLIP", "A⁺-FC-CLIP")
COLUMNS = (
    *("table", "dataset", "method", "variant", "word_bank"),
    *("features_ms", "decomposition_ms", "decoding_ms", "total_ms", "features_mb", "factors_mb"),
    *("n_samples", "n_seeds", "threads", "device", "source"),
)


class CostError(ValueError):
    """A file does not say what it cost."""


@dataclass
class Spent:
    """Seconds, bytes and samples of a stage, summed over shards."""

    seconds: float = 0.0
    size: int = 0
    samples: int = 0
    seeds: int = 1
    threads: set[int] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)

    @property
    def milliseconds(self) -> float:
        """For each sample (and seed)."""
        return 1000 * self.seconds / (self.samples * self.seeds)

    @property
    def megabytes(self) -> float:
        """For each sample, all seeds."""
        return self.size / 1e6 / self.samples


def of_caches(paths: Iterable[str | Path], kind: str, keys: Sequence[str]) -> dict[tuple, Spent]:
    """Add up caches that have the same attributes ``keys``.

    Parameters
    ----------
    paths : iterable of path
        Caches of one kind; ``proposals`` are made by the job of ``features``, which records its time there.
    kind : {"features", "proposals", "factors"}
    keys : sequence of str

    Raises
    ------
    CostError
    """
    found: dict[tuple, Spent] = defaultdict(Spent)
    for path in map(Path, paths):
        with open_cache(path, kind, verify=False) as cache:
            attributes, samples = cache.attributes, len(cache.sample_ids)
        spent = found[tuple(attributes[key] for key in keys)]
        spent.size += path.stat().st_size
        spent.samples += samples
        spent.seeds = len(attributes.get("seeds", (0,)))
        if kind != "proposals":
            cost = _recorded(attributes.get("cost"), path)
            spent.seconds += cost["seconds"]
            spent.threads.add(cost["threads"])
            spent.devices.add(attributes["device"])
    return dict(found)


def of_scores(paths: Iterable[str | Path]) -> dict[str, dict[str, float]]:
    """Milliseconds of decoding one answer, by task and method; what methods share is part of each that uses it.

    Parameters
    ----------
    paths : iterable of path
        Score rows as Parquet.
    """
    seconds: dict[str, defaultdict[str, float]] = {}
    counts: dict[str, defaultdict[str, int]] = {}
    samples: defaultdict[str, int] = defaultdict(int)
    for path in map(Path, paths):
        with pq.ParquetFile(path) as file:
            metadata = file.schema_arrow.metadata or {}
            task = file.read_row_group(0, ["task"])["task"][0].as_py()
        cost = _recorded(json.loads(metadata.get(b"cost", b"null")), path)
        samples[task] += cost["samples"]
        for method, value in cost["seconds"].items():
            seconds.setdefault(task, defaultdict(float))[method] += value
        for method, value in cost["answers"].items():
            counts.setdefault(task, defaultdict(int))[method] += value
    return {
        task: {
            method: 1000 * (seconds[task][method] / count + _shared(seconds[task], method) / samples[task])
            for method, count in counts[task].items()
        }
        for task in seconds
    }


def _shared(seconds: dict[str, float], method: str) -> float:
    """Seconds of the proposals' masks, for the methods that are decoded from them."""
    return 0.0 if method == "U only" else seconds.get("masks", 0.0)


def _recorded(cost: dict | None, path: Path) -> dict:
    if not cost:
        raise CostError(
            f"{path}: expected the seconds that its job took, found none. Delete it and run again."
        )
    return cost


def table(
    features: dict[tuple, Spent],
    proposals: dict[tuple, Spent],
    factors: dict[tuple, Spent],
    decoding: dict[str, dict[str, float]],
    runs: dict[str, Sequence[tuple[str, str, str]]],
    suite: str,
    contributed: dict[str, Sequence[tuple[str, Spent, bool]]] | None = None,
) -> pd.DataFrame:
    """The cost of every method on every task.

    Parameters
    ----------
    features, proposals : dict (dataset,) → Spent
    factors : dict (dataset, bank, variant) → Spent
    decoding : dict task → method → milliseconds
        From `of_scores`.
    runs : dict task → sequence of (dataset, bank, variant)
        What each task scores.
    suite : str
    contributed : dict task → sequence of (label, Spent, features), optional
        Contributed methods, and whether they are given features: these then are part of their cost.

    Returns
    -------
    DataFrame with `COLUMNS`: milliseconds for each sample, one seed; megabytes for each sample on disk (compressed),
    features with proposals, and factors of all seeds
    """
    records = []
    for task in (name for name in TASKS if name in runs):
        dataset = runs[task][0][0]
        base = features[dataset,]
        before = {
            "table": "costs",
            "dataset": TASKS[task].title,
            "features_ms": base.milliseconds,
            "features_mb": base.megabytes + proposals[dataset,].megabytes,
            "n_samples": base.samples,
            "source": f"measured: {suite} suite",
        }
        for method in (name for name in (*NAMED, *SOLVED) if name in decoding[task]):
            for bank, variant in (
                [(run[1], run[2]) for run in runs[task]] if method in SOLVED else [(None, "list")]
            ):
                solved = factors[dataset, bank, variant] if bank else None
                records.append(
                    {**before, **_record(method, variant, bank, base, solved, decoding[task][method])}
                )
        for label, spent, given in (contributed or {}).get(task, ()):
            records.append({**before, **_contributed(label, base, spent, given)})
    return pd.DataFrame(records, columns=list(COLUMNS)).astype({"n_seeds": "Int64"})


def _contributed(label: str, base: Spent, spent: Spent, features: bool) -> dict:
    """A contributed method's answer counts as decoding; its file's size as that of factors."""
    record = _record(label, CONTRIBUTED, NO_BANK, base, spent, spent.milliseconds)
    before = base.milliseconds if features else 0.0
    record |= {"decomposition_ms": 0.0, "total_ms": before + spent.milliseconds}
    return record if features else record | {"features_ms": 0.0, "features_mb": 0.0}


def _record(
    method: str, variant: str, bank: str | None, base: Spent, solved: Spent | None, decoding: float
) -> dict:
    threads, devices = ({*getattr(base, name), *getattr(solved, name, ())} for name in ("threads", "devices"))
    decomposition = solved.milliseconds if solved else 0.0
    return {
        "method": method,
        "variant": variant,
        "word_bank": bank or "specific",
        "decomposition_ms": decomposition,
        "decoding_ms": decoding,
        "total_ms": base.milliseconds + decomposition + decoding,
        "factors_mb": solved.megabytes if solved else 0.0,
        "n_seeds": solved.seeds if solved else 1,
        "threads": "/".join(map(str, sorted(threads))),
        "device": "; ".join(sorted(devices)),
    }
