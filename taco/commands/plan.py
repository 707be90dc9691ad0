"""``taco plan``: jobs, hours and gigabytes of a suite before it starts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tabulate import tabulate

from taco.commands.results import ConfigFiles, Suite, read

if TYPE_CHECKING:
    from taco.bench.rates import MeasuredRates

CORES = 16


def plan(
    suite: Suite = "miniature",
    configfile: ConfigFiles = None,
    gpus: Annotated[list[int] | None, typer.Option(help="Numbers of GPUs [1 8 64]; repeat it.")] = None,
    cores: Annotated[int, typer.Option(help="CPU cores, one job on each.", min=1)] = CORES,
    rates: Annotated[
        Path | None, typer.Option(help="Your own rates: the file of `taco bench pipeline --output`.")
    ] = None,
) -> None:
    """Print what a suite will cost: jobs, hours and gigabytes of each stage, from its configuration and measured rates.

    An estimate: rates are measured on the device that is named, what is computed from them is not.
    """
    from taco.bench import rates as measured

    config = read(suite, configfile)
    known = [measured.read_report(rates)] if rates else measured.load(config)
    typer.echo("\n".join(describe(config, known, gpus or [1, 8, 64], cores)))


def describe(
    config: Mapping[str, Any], known: Sequence["MeasuredRates"], gpus: Sequence[int], cores: int
) -> Iterator[str]:
    """The plan in Markdown."""
    counts, remarks = samples_of(config)
    yield f"**{config['suite']}: an estimate, no measurement of this suite.**"
    yield ""
    for name in suites_datasets(config):
        yield f"* {name}: {remarks[name]}"
    for rates in known:
        yield ""
        yield from _hours(config, rates, counts, gpus if rates.kind == "cuda" else [cores])
    if not known:
        yield ""
        yield "No rates of models of this size are known: run `taco bench pipeline --output rates.json`, then `--rates`."
    yield ""
    yield from _gigabytes(config, counts)
    yield ""
    yield from _memory(config, counts)


def suites_datasets(config: Mapping[str, Any]) -> list[str]:
    """Datasets of the suite's tasks."""
    from taco import suites

    return suites.used_datasets(config)


def samples_of(config: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, str]]:
    """Samples by dataset, where they are known, and in words where the number comes from."""
    from taco.data import manifest
    from taco.staging import space

    counts, remarks = {}, {}
    for name in suites_datasets(config):
        path = Path("results", config["suite"], f"manifests/{name}.parquet")
        if path.is_file():
            counts[name], source = manifest.count(path), f"by {path}"
        elif count := space.sample_count(config, name):
            counts[name], source = count, "by the configuration"
        else:
            remarks[name] = (
                "number of samples not known: left out below; stage it, or give "
                f"`datasets.{name}.expected.samples`"
            )
            continue
        remarks[name] = f"{counts[name]:,} samples {source}"
    return counts, remarks


def _hours(
    config: Mapping[str, Any], rates: "MeasuredRates", counts: Mapping[str, int], workers: Sequence[int]
) -> Iterator[str]:
    """Jobs and hours of every stage on one kind of device, and what the numbers rest on."""
    from taco.bench import plan as planning

    stages = planning.stages(config, rates, counts)
    unit = "GPU" if rates.kind == "cuda" else "core"
    rows = [
        [stage.name, len(stage.seconds), sum(stage.seconds) / 3600, *(stage.hours(n) for n in workers)]
        for stage in stages
    ]
    sums = [sum(row[column] for row in rows) for column in range(1, 3 + len(workers))]
    rows.append(["all", *sums])
    head = ["stage", "jobs", "one after another", *(f"on {n} {unit}{'s' * (n > 1)}" for n in workers)]
    yield f"Hours by rates of: {rates.device}"
    yield ""
    yield tabulate(rows, head, tablefmt="pipe", floatfmt=".2f")
    yield ""
    yield f"* {unit} hours of features, factorize and score: {planning.shared(stages):.2f}"
    yield f"* Does not parallelise: {planning.alone(stages):.2f} h of manifest, text, tables and figures"
    yield f"* The longest shard takes {planning.longest_shard(stages):.2f} h from features to scores (`datasets.*.shards`)"
    yield f"* Measured: {rates.measured}"
    for name, source in rates.sources.items():
        if name in rates.asked:
            yield f"* {name}: {source}"
    if rates.scaled:
        yield f"* From another number of steps: {', '.join(sorted(rates.scaled))}"
    if rates.unknown:
        yield f"* Not measured, counted as nothing: {', '.join(sorted(rates.unknown))}"
    if any(config["methods"].values()):
        yield "* Methods of others (`contribute`) are left out: their time is their own"


def _gigabytes(config: Mapping[str, Any], counts: Mapping[str, int]) -> Iterator[str]:
    """Disk of the caches."""
    from taco.staging import space

    kept = space.estimate(config, counts=counts)
    factors = {name: count * space.factor_bytes(config, name) for name, count in counts.items()}
    rows = [
        [name, kept[name] / 1e9, factors[name] / 1e9, (kept[name] + factors[name]) / 1e9] for name in counts
    ]
    if rows:
        rows.append(["all", *(sum(row[column] for row in rows) for column in range(1, 4))])
    head = ["dataset", "features, proposals", "factors, at most", "sum"]
    yield f"Gigabytes of caches, `features.proposals: {config['features']['proposals']}`"
    yield ""
    yield tabulate(rows, head, tablefmt="pipe", floatfmt=".1f")


def _memory(config: Mapping[str, Any], counts: Mapping[str, int]) -> Iterator[str]:
    """Memory of the jobs that read all score rows."""
    from taco.bench import plan as planning

    rows = sum(count * planning.rows_of_sample(config, name) for name, count in counts.items())
    needed = planning.memory_of_rows(config, counts) / 1e9
    yield (
        f"Memory of tables, figures and gallery: {needed:.1f} GB for {rows:,} score rows, {planning.SCALARS_OF_A_ROW} bytes each "
        f"and the counts of {config['memory']['rows']:,} (`memory.rows`)"
    )
