"""Commands for the results of a suite: what a number is made of, and whether all files match their inputs."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--configfile",
        help="Overlays over config/config.yaml, in order, as for the run; in place of --suite.",
    ),
]
Suite = Annotated[str, typer.Option(help="miniature, or paper (config/paper.yaml).", show_default=True)]


def read(suite: str, configfile: list[Path] | None) -> dict[str, Any]:
    """The configuration that the options mean."""
    from taco import suites

    overlays = {"miniature": [], "paper": [suites.ROOT / "config/paper.yaml"]}
    if not configfile and suite not in overlays:
        raise typer.BadParameter(f"expected {' or '.join(overlays)}, found {suite}; others by --configfile")
    return suites.read(configfile or overlays[suite])


def explain_number(
    table: Annotated[str, typer.Argument(help="table1 … table5, or extended.", show_default=False)],
    method: Annotated[
        str, typer.Argument(help='A row: "TACO", or as printed, "TACO, no-min".', show_default=False)
    ],
    task: Annotated[str, typer.Argument(help="s4, ms3, ade_sp … or as printed.", show_default=False)],
    metric: Annotated[str | None, typer.Option(help="By default the table's first.")] = None,
    variant: Annotated[str | None, typer.Option(help="By default the one without a name.")] = None,
    word_bank: Annotated[str | None, typer.Option(help="By default the task's.")] = None,
    rule: Annotated[str | None, typer.Option(help="extended: where the threshold was chosen.")] = None,
    suite: Suite = "miniature",
    configfile: ConfigFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Say what one number of a table is made of: seeds, files, settings, digests, and the samples that pull it.

    Example: taco explain-number table2 TACO S4
    """
    from taco.audit import numbers

    config = read(suite, configfile)
    wanted = numbers.Wanted(table, method, task, metric, variant, word_bank, rule)
    found = numbers.explain(config, wanted)
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else "\n".join(describe(found)))


def describe(found: Mapping[str, Any]) -> Iterator[str]:
    """An explanation in lines for people."""
    from taco.results.tables import label, number

    cell, value = found["cell"], found["value"]
    std = float("nan") if value["std"] is None else value["std"]
    rule = f", {cell['rule']}" if cell["rule"] else ""
    yield f"{cell['table']}, {label(cell['method'], cell['variant'])}, {cell['task']}: {cell['metric']}{rule}"
    yield f"  {number(value['mean'], std)} % over {value['n_seeds']} seed(s), {value['n_samples']} samples"
    yield f"  variant {cell['variant']}, word bank {cell['word_bank']}"
    if cell["other_metrics"]:
        yield f"  also in this row (--metric): {', '.join(cell['other_metrics'])}"
    yield "Seeds (-1: deterministic)"
    for seed in found["seeds"]:
        at = "" if seed["threshold"] is None else f", best threshold {seed['threshold']:.4g}"
        yield f"  {seed['seed']}: {seed['value']:.4f}{at}"
    yield from _described_origin(found["origin"])
    yield from _described_parts(found)


def _described_parts(found: Mapping[str, Any]) -> Iterator[str]:
    if found["classes"]:
        yield "Classes, whose pixels are pooled: value in %, and what leaving the class out adds in points"
        for one in found["classes"]:
            yield f"  {one['score']:7.2f}  {_effect(one['effect'])}  {one['class']}"
        yield "Samples: own mean IoU in %. Pooled pixels no longer tell their sample, so no effect can be computed."
    else:
        yield "Samples: own score in %, and what leaving their clip out adds in points"
    for one in found["samples"]:
        yield f"  {one['score']:7.2f}  {_effect(one['effect'])}  {one['sample_id']} (clip {one['clip_id']})"


def _effect(points: float | None) -> str:
    return " " * 7 if points is None else f"{points:+7.3f}"


def _described_origin(origin: Mapping[str, Any]) -> Iterator[str]:
    yield "Score files"
    for file in origin["scores"]:
        yield f"  {file['path']}: {file['rows']} rows, on {file['device'] or 'an unknown device'}"
        made = file["made"]
        if made is None:
            yield "    does not say what made it (scored by an older version)"
            continue
        yield f"    code {made['code'][:16]}, settings {made['settings'][:16]}, samples {made['samples'][:16]}"
        yield f"    versions: {_pairs(made['packages'])}"
    yield "Caches behind them"
    for path, attributes in origin["caches"].items():
        cost = attributes.pop("cost", {})
        seconds = f", {cost['seconds']:.1f} s" if cost else ""
        yield f"  {path}: {attributes.pop('samples')} samples, on {attributes.pop('device', 'an unknown device')}{seconds}"
        for name, told in sorted(attributes.items()):
            told = told[:16] if isinstance(told, str) and len(told) == 64 else told
            yield f"    {name}: {_pairs(told) if isinstance(told, Mapping) else told}"
    if origin["provenance"]:
        told = origin["provenance"]
        yield "Tables"
        yield f"  written {told['written']}, commit {told['commit']}, Python {told['python']}, {told['platform']}"
        yield f"  configuration {told['config_digest'][:16]}; versions: {_pairs(told['packages'])}"
    yield f"Evaluation: {_pairs(origin['evaluation'])}"


def _pairs(mapping: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in mapping.items())


def verify(
    suite: Suite = "miniature",
    configfile: ConfigFiles = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print mismatches alone.")] = False,
) -> None:
    """Compare all results of a suite with what they were made from; exit 1 with a line for each file that does not match.

    Recomputes digests of code, settings, models, manifests and caches, every array's checksum, and the tables from their
    rows. Nothing is changed. (The target verify_paper is another thing: a first run's checks against published numbers.)
    """
    from taco.audit import matching
    from taco.progress import progress

    config = read(suite, configfile)
    found = 0
    bar = progress(matching.total_bytes(config), config["suite"], unit="B", unit_scale=True, disable=quiet)
    with bar:
        checker = matching.Checker(config, bar.update)
        for mismatch in checker.mismatches():
            found += 1
            bar.write(mismatch, file=sys.stdout)
    if not quiet:
        for note in checker.notes:
            typer.echo(f"Not checked: {note}")
    if found:
        typer.echo(f"{found} mismatch(es) in {checker.checked} files of {checker.folder}", err=True)
        raise typer.Exit(1)
    if not quiet:
        typer.echo(f"{checker.checked} files of {checker.folder} match what they were made from")
