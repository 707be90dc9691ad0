"""``taco bench``: the benchmarks of `taco.bench`, one or several, one after the other."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

# What runs, how its report is laid out, and on which device.
Benchmark = tuple[Callable, Callable, object]


def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="conmf: the solver against plain autograd versions. pipeline: every stage of a suite. caches: size and "
            "speed of the ways to keep proposals. Several, or all. [conmf]"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    size: Annotated[list[str] | None, typer.Option(help="conmf: miniature, paper [both].")] = None,
    batch: Annotated[
        list[int] | None, typer.Option(help="conmf: samples solved together [1, 8, 32, 128].")
    ] = None,
    baselines: Annotated[
        bool, typer.Option(help="conmf: time the plain and the expanded version too.")
    ] = True,
    tokens: Annotated[
        Path | None,
        typer.Option(help="conmf: a suite's results, on whose features fast ways are compared too."),
    ] = None,
    suite: Annotated[str, typer.Option(help="pipeline: miniature or paper.")] = "miniature",
    samples: Annotated[int | None, typer.Option(help="caches, pipeline: how many.")] = None,
    threads: Annotated[int, typer.Option(help="pipeline: of the job.")] = 1,
    folder: Annotated[Path | None, typer.Option(help="caches: where to write meanwhile.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to write; of several a folder, with a file for each.")
    ] = None,
) -> None:
    """Measure speed; prints ratios against a baseline of the same run."""
    from taco.bench import measure

    ready: dict[str, Callable[[], Benchmark]] = {
        "conmf": lambda: _conmf(device, size, batch, baselines, tokens),
        "pipeline": lambda: _pipeline(device, suite, samples, threads),
        "caches": lambda: _caches(samples, folder),
    }
    names = list(ready) if what == ["all"] else list(dict.fromkeys(what or ["conmf"]))
    for name in names:
        if name not in ready:
            raise typer.BadParameter(f"expected {', '.join(ready)} or all, found {name}")
    files = {name: output for name in names}
    if output is not None and len(names) > 1:
        output.mkdir(parents=True, exist_ok=True)
        files = {name: output / f"{name}.json" for name in names}
    for name in names:
        work, tables, where = ready[name]()
        measure.report(work, tables, device=where, output=files[name])


def _conmf(device, size, batch, baselines, tokens) -> Benchmark:
    from taco.bench import conmf

    sizes, batches = tuple(size or ("miniature", "paper")), tuple(batch or (1, 8, 32, 128))
    options = {"sizes": sizes, "batches": batches, "baselines": baselines, "tokens": tokens}
    return partial(conmf.conmf, device=device, **options), conmf.tables, device


def _pipeline(device, suite, samples, threads) -> Benchmark:
    from taco import runtime, suites
    from taco.bench import pipeline
    from taco.staging import space

    overlays = {"miniature": [], "paper": [suites.ROOT / "config/paper.yaml"]}
    if suite not in overlays:
        raise typer.BadParameter(f"expected {' or '.join(overlays)}, found {suite}")
    chosen = runtime.setup(device, threads)
    config = suites.read(overlays[suite])
    counts = {name: space.sample_count(config, name) for name in suites.used_datasets(config)}
    frames = {name: count for name, count in counts.items() if count is not None}
    options = {"samples": samples, "threads": threads, "frames": frames}
    return partial(pipeline.pipeline, config, device=chosen, **options), pipeline.tables, chosen


def _caches(samples, folder) -> Benchmark:
    from taco.bench import caches

    return partial(caches.caches, samples=samples or 16, folder=folder), caches.tables, "cpu"
