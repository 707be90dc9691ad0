"""What the benchmarks share: the report that each prints and writes, clocks, ceilings, tables."""

import json
import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from taco import runtime

log = logging.getLogger("taco")
Say = Callable[[str], object]


def report(
    work: Callable[..., dict[str, Any]],
    tables: Callable[[dict[str, Any]], Iterable[Table | str]],
    *,
    device: str | torch.device,
    output: Path | None = None,
) -> dict[str, Any]:
    """Run a benchmark, print its tables and write what it found.

    Parameters
    ----------
    work : callable
        The benchmark. Takes ``say``, which prints a line of progress; returns JSON values by name.
    tables : callable
        Takes the report; gives what is printed of it.
    device : str or torch.device
        On which ``work`` runs.
    output : path, optional
        JSON file to write, whole or not at all.

    Returns
    -------
    dict
        What ``work`` returned, and the ``machine``, looked at before.
    """
    console = Console(width=None if sys.stdout.isatty() else 140)
    found = {"machine": machine(str(device))}
    found |= work(say=console.print)
    for part in tables(found):
        console.print(part)
    if output is not None:
        with runtime.atomic_write(output) as partial:
            partial.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


class Spent(NamedTuple):
    """Seconds of the clock, and of all threads of this process together."""

    wall: float
    cpu: float


def spent(work: Callable[[], object], device: str | torch.device) -> Spent:
    """Time ``work`` once, the device's part included."""
    before = cpu_seconds()
    wall = seconds(work, str(device))
    return Spent(wall, cpu_seconds() - before)


@dataclass
class Stage:
    """Time of one stage, a unit (``image``, ``image and seed`` …); ``peak_gb`` is the GPU's memory, models included."""

    stage: str
    unit: str
    ms: float
    cpu_ms: float
    per_second: float | None
    peak_gb: float | None


@dataclass
class Stopwatch:
    """Times stages, one after another, on one device."""

    device: torch.device
    stages: dict[str, Stage] = field(default_factory=dict)
    say: Say = log.info

    @property
    def overlaps(self) -> bool:
        """Whether reading, models and writing run side by side."""
        return self.device.type == "cuda"

    def time(self, stage: str, work: Callable[[], Any], count: float, unit: str = "image") -> Any:
        """Run ``work`` once, which handles ``count`` units; return what it returns."""
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        result: list[Any] = []
        wall, cpu = spent(lambda: result.append(work()), self.device)
        peak = torch.cuda.max_memory_allocated(self.device) / 1e9 if cuda else None
        self.note(stage, unit, wall / count, cpu / count, peak)
        return result[0]

    def note(self, stage: str, unit: str, seconds: float, cpu: float, peak: float | None = None) -> None:
        """Record a time measured elsewhere."""
        # A difference of two times may come out below 0 where others use the machine.
        seconds, cpu = max(seconds, 0.0), max(cpu, 0.0)
        rate = 1 / seconds if seconds > 0 else None
        self.stages[stage] = Stage(stage, unit, 1e3 * seconds, 1e3 * cpu, rate, peak)
        self.say(f"{stage}: {1e3 * seconds:.4g} ms")

    def ms(self, *stages: str) -> float:
        """Sum of stages' times: of the clock on a GPU, of the processor elsewhere, which others may be using too."""
        field = "ms" if self.device.type == "cuda" else "cpu_ms"
        return sum(getattr(self.stages[stage], field) for stage in stages)


def ceilings(device: str) -> dict[str, float]:
    """Rates of a large float32 product [GFLOP/s] and a large copy [GB/s, read and written] on this device, now.

    On a GPU also that of a product of halves, summed in float32: ``half_gflops``.
    """
    cuda = torch.device(device).type == "cuda"
    n = 8192 if cuda else 1536
    a, b = (torch.rand(n, n, device=device) for _ in range(2))
    source = torch.rand((1 << 28) if cuda else (1 << 24), device=device)
    target = torch.empty_like(source)
    product = min(seconds(lambda: torch.mm(a, b), device) for _ in range(5))
    copy = min(seconds(lambda: target.copy_(source), device) for _ in range(5))
    rates = {"gflops": 2 * n**3 / product / 1e9, "gbytes": 2 * source.nbytes / copy / 1e9}
    if cuda:
        a, b = a.half(), b.half()
        halves = min(seconds(lambda: torch.mm(a, b, out_dtype=torch.float32), device) for _ in range(5))
        rates["half_gflops"] = 2 * n**3 / halves / 1e9
    return rates


def seconds(work: Callable[[], object], device: str) -> float:
    """Wall time of ``work``, the device's included."""
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def difference(run: Callable[[int], object], steps: int, device: str) -> tuple[float, float, float]:
    """Seconds a step, processor seconds a step, and seconds once, of ``run(steps)``; the best of three."""
    short = max(1, steps // 10)
    run(short)  # warm-up
    best: dict[int, Spent] = {}
    for count in (short, short + steps) * 3:
        took = spent(lambda n=count: run(n), device)
        best[count] = Spent(*map(min, took, best.get(count, took)))
    # A machine shared with others may make the short run the slower one: then no number can be given.
    step, cpu_step = ((long - brief) / steps for long, brief in zip(best[short + steps], best[short]))
    if step <= 0:
        raise RuntimeError(
            "the machine is too busy to time anything: a longer run took less; ask for more steps"
        )
    return step, cpu_step, max(best[short].wall - short * step, 0.0)


def peak_bytes(work: Callable[[], object], device: str) -> int:
    """Most bytes that tensors made by ``work`` held at once; on a CPU those of the calling thread only."""
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        work()
    changes = (e for e in record.profiler.kineto_results.events() if e.name() == "[memory]")
    return max(accumulate(e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns())), default=0)


def machine(device: str) -> dict:
    cuda = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
    }


def table(title: str, columns: dict[str, str], rows: Sequence[dict]) -> Table:
    """A rich table of the named fields of rows."""
    table = Table(title=title)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        values = (row[key] for key in columns.values())
        table.add_row(
            *(
                "-"
                if v is None
                else f"{v:.3g}"
                if isinstance(v, float) and v < 1000
                else f"{v:.0f}"
                if isinstance(v, float)
                else str(v)
                for v in values
            )
        )
    return table
