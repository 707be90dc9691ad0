"""SHA256SUMS beside weight files, in the form of ``sha256sum``: a file that it lists must be the one that was meant."""

from collections.abc import Iterable
from pathlib import Path

from taco.runtime import atomic_write, file_digest

NAME = "SHA256SUMS"


def beside(path: str | Path) -> str | None:
    """SHA-256 that the list in a file's folder has for its name; None where there is no list, or it does not have it."""
    path = Path(path)
    listed = path.with_name(NAME)
    if not listed.is_file():
        return None
    pairs = (line.split(maxsplit=1) for line in listed.read_text(encoding="utf-8").splitlines())
    return next((pair[0] for pair in pairs if len(pair) == 2 and pair[1].lstrip("*") == path.name), None)


def write(folder: str | Path, names: Iterable[str]) -> None:
    """List files of a folder."""
    folder = Path(folder)
    with atomic_write(folder / NAME) as partial:
        partial.write_text(
            "".join(f"{file_digest(folder / name)}  {name}\n" for name in names), encoding="utf-8"
        )
