"""A user's mistake ends a command with one message and exit code 1, never with a traceback."""

from typing import Any

import typer
from typer.core import TyperGroup


class Group(TyperGroup):
    """Commands whose foreseen errors are messages.

    Foreseen is what the package raises on purpose (an error class of its own) and what the operating system refuses;
    anything else is a fault of ours and keeps its traceback. Exit codes: 0 done, 1 a mistake, 2 wrong usage.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if not is_foreseen(error):
                raise
            typer.echo(f"{type(error).__name__}: {error}", err=True)
            raise typer.Exit(1) from None


def is_foreseen(error: Exception) -> bool:
    """Whether an error tells of something that the user can mend."""
    refused = isinstance(error, OSError) and not isinstance(error, BrokenPipeError)
    return refused or type(error).__module__.startswith("taco.")
