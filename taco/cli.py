"""Command line: segment, explain; beside the workflow doctor, score, export, bench. Tables come from Snakemake."""

from pathlib import Path
from typing import Annotated

import typer

from taco.commands import bench, method, own, plan, results
from taco.commands.errors import Group

app = typer.Typer(no_args_is_help=True, cls=Group, pretty_exceptions_enable=False)

ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option("--configfile", help="Overlays over config/config.yaml, in order, as for Snakemake."),
]


def show_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"taco-bench {version('taco-bench')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Training-free sound prompted segmentation: your own images and sounds, and helpers around the workflow.

    Exit codes: 0 done, 1 something that you can mend (the message says how), 2 wrong usage.
    """


app.command()(own.segment)
app.command()(own.explain)
app.add_typer(method.app, name="method")
app.command()(results.explain_number)
app.command()(results.verify)
app.command()(plan.plan)
app.command()(bench.bench)


@app.command()
def doctor(
    configfile: ConfigFiles = None,
    quick: Annotated[bool, typer.Option(help="Compare sizes only, read no file.")] = False,
) -> None:
    """Say what a suite needs and what is missing; exit 1 where a run would fail."""
    from taco import suites
    from taco.staging import doctor as checks

    config = suites.read(configfile or ())
    findings = checks.examine(config, quick=quick) + checks.disk(config)
    checks.show(findings, config["suite"])
    raise typer.Exit(checks.exit_code(findings))


@app.command()
def score(
    predictions: Annotated[
        Path, typer.Option(help="Folder with one PNG, npy or COCO RLE file per sample id.")
    ],
    dataset: Annotated[str, typer.Option(help="Name of a dataset in the configuration.")],
    task: Annotated[str | None, typer.Option(help="Task; by default the dataset's first.")] = None,
    method: Annotated[str | None, typer.Option(help="Name of the row; by default the folder's.")] = None,
    stretch: Annotated[bool, typer.Option(help="Stretch each map to 0..1 over its image.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="CSV to add to [results/SUITE/submissions.csv].")
    ] = None,
    configfile: ConfigFiles = None,
) -> None:
    """Score anyone's masks or maps with the very metrics of the tables."""
    from taco import suites
    from taco.data import manifest
    from taco.results import aggregate, printing, submission

    config = suites.read(configfile or ())
    task = suites.task_of(config, dataset, task)
    options = suites.dataset(config, dataset)
    frame = manifest.limit(manifest.build(options), config["limit"])
    name, size = method or predictions.resolve().name, config["evaluation"]["size"]
    summary = submission.score(
        frame,
        options,
        predictions,
        task=task,
        method=name,
        size=size,
        stretch=stretch,
        conventions=aggregate.Conventions.of(config["tables"]),
    )
    results = Path("results", config["suite"])
    found, spec = submission.table(summary, config["suite"])
    own = submission.own_rows(results / "tables", spec)
    output = output or results / "submissions.csv"
    submission.write(found, output)
    typer.echo(printing.submission_page(found, spec, own, config["suite"]).markdown())
    typer.echo(f"Added to {output}")


@app.command()
def export(
    task: Annotated[str, typer.Option(help="Task whose kept predictions to write.")],
    output: Annotated[Path, typer.Option(help="Folder to write to, one file per sample.")],
    method: Annotated[str, typer.Option(help="As in the tables.")] = "TACO",
    variant: Annotated[str, typer.Option(help="As in the tables.")] = "proposed",
    word_bank: Annotated[str | None, typer.Option(help="By default the task's.")] = None,
    seed: Annotated[int, typer.Option(help="-1 for a deterministic method.")] = 0,
    configfile: ConfigFiles = None,
) -> None:
    """Write one run's predictions as files; the run needs evaluation.keep_predictions."""
    from taco import suites
    from taco.data import predictions

    config = suites.read(configfile or ())
    if task not in config["tasks"]:
        raise suites.ConfigError(f"no task {task!r}; known: {', '.join(config['tasks'])}")
    bank = word_bank or config["tasks"][task]["default_bank"]
    paths = [
        path for path in suites.score_files(config, "rows.parquet") if Path(path).name.startswith(f"{task}.")
    ]
    count = predictions.export(paths, output, method=method, variant=variant, word_bank=bank, seed=seed)
    typer.echo(f"{count} predictions in {output}")


if __name__ == "__main__":
    app()
