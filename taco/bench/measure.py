"""Clocks, ceilings and tables that the benchmarks share."""

import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from rich.table import Table


def ceilings(device: str) -> dict[str, float]:
    """Rates of a large float32 product [GFLOP/s] and a large copy [GB/s, read and written] on this device, now."""
    cuda = torch.device(device).type == "cuda"
    n = 8192 if cuda else 1536
    a, b = (torch.rand(n, n, device=device) for _ in range(2))
    source = torch.rand((1 << 28) if cuda else (1 << 24), device=device)
    target = torch.empty_like(source)
    product = min(seconds(lambda: torch.mm(a, b), device) for _ in range(5))
    copy = min(seconds(lambda: target.copy_(source), device) for _ in range(5))
    return {"gflops": 2 * n**3 / product / 1e9, "gbytes": 2 * source.nbytes / copy / 1e9}


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
    wall, cpu = {}, {}
    for count in (short, short + steps) * 3:
        before = cpu_seconds()
        wall[count] = min(seconds(lambda n=count: run(n), device), wall.get(count, float("inf")))
        cpu[count] = min(cpu_seconds() - before, cpu.get(count, float("inf")))
    # A machine shared with others may make the short run the slower one: then no number can be given.
    step, cpu_step = ((t[short + steps] - t[short]) / steps for t in (wall, cpu))
    if step <= 0:
        raise RuntimeError(
            "the machine is too busy to time anything: a longer run took less; ask for more steps"
        )
    return step, cpu_step, max(wall[short] - short * step, 0.0)


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
