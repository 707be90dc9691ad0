"""Command line: ``taco doctor``. The tables themselves come from Snakemake."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

ROOT = Path(__file__).resolve().parents[1]
ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option("--configfile", help="Overlays over config/config.yaml, in order, as for Snakemake."),
]


def load_config(overlays: list[Path] | None = None) -> dict[str, Any]:
    """Read and check the configuration as the workflow does.

    Parameters
    ----------
    overlays : list of Path, optional
        Laid over config/config.yaml, in order.

    Raises
    ------
    taco.suites.ConfigError
        Listing every problem.
    """
    from taco import suites

    config: dict[str, Any] = {}
    for path in [ROOT / "config/config.yaml", *(overlays or [])]:
        config = suites.overlay(config, yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    suites.check(config, ROOT / "config/schemas/config.schema.yaml")
    return config


@app.callback()
def main() -> None:
    """Training-free sound-prompted segmentation: helpers around the workflow."""


@app.command()
def doctor(
    configfile: ConfigFiles = None,
    quick: Annotated[bool, typer.Option(help="Compare sizes only, read no file.")] = False,
) -> None:
    """Say what a suite needs and what is missing; exit 1 where a run would fail."""
    from taco import doctor as checks
    from taco import suites

    try:
        config = load_config(configfile)
    except suites.ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    findings = checks.examine(config, quick=quick)
    checks.show(findings, config["suite"])
    raise typer.Exit(checks.exit_code(findings))


if __name__ == "__main__":
    app()
