"""Receipts: which of a shard's files are right. The workflow tracks a receipt, jobs keep the files beside it.

The files are no outputs of the workflow, which removes those of a job that fails or runs again: a job keeps what is
right and makes the rest, so a new variant costs that variant alone, and nothing finished is lost.
"""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from taco.runtime import atomic_write

Run = tuple[str, ...]
"""Word bank and variant of factors; the name of a contributed method."""


class ReceiptError(ValueError):
    """A receipt is missing or unreadable, or lists a file that is not there."""


def write(path: str | Path, files: Mapping[Run, str | Path], state: str) -> None:
    """Write a receipt.

    Parameters
    ----------
    path : str or Path
    files : mapping run → path
        Below the receipt's folder.
    state : str
        What `state` said before the job.
    """
    path = Path(path)
    runs = [[*run, Path(file).relative_to(path.parent).as_posix()] for run, file in files.items()]
    record = {"runs": runs, "state": state, "written": secrets.token_hex(8)}
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read(path: str | Path) -> dict[Run, Path]:
    """Return the file of each run.

    Raises
    ------
    ReceiptError
    """
    path = Path(path)
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        files = {tuple(run): path.parent / name for *run, name in runs}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReceiptError(
            f"{path}: expected a receipt of files, found: {error}. Delete it and run again."
        ) from error
    if gone := [str(file) for file in files.values() if not file.exists()]:
        raise ReceiptError(
            f"{path}: expected the {len(files)} files that it lists, found no {', '.join(gone)}. Run again: it is made anew."
        )
    return files


def state(path: str | Path) -> str:
    """A parameter for the receipt's rule that changes when a file has gone which it lists, and at no other time.

    Without it a file that somebody deleted, as the error about a damaged one says, would not be made again.
    """
    path = Path(path)
    if not path.exists():
        return ""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        gone = [name for *_, name in record["runs"] if not (path.parent / name).exists()]
        return f"{record['written']}: no {', '.join(gone)}" if gone else record["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return "unreadable"
