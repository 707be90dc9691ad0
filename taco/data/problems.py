"""What is wrong with a dataset, as readers and checks report it: all of it at once, each with a remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LISTED_PROBLEMS = 20


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a dataset: where, what was expected, what was found, what to do."""

    file: str
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}; found {self.found}. {self.remedy}"


class ManifestError(ValueError):
    """All problems of a dataset together. `problems` holds every one, the message the first 20 and the count."""

    def __init__(self, dataset: str, problems: Iterable[Problem]) -> None:
        self.dataset = dataset
        self.problems = list(problems)
        count = len(self.problems)
        lines = [f"dataset {dataset!r}: {count} problem{'s' if count != 1 else ''}"]
        lines += [
            f"  {number}. {problem}" for number, problem in enumerate(self.problems[:LISTED_PROBLEMS], 1)
        ]
        if count > LISTED_PROBLEMS:
            lines.append(f"  … and {count - LISTED_PROBLEMS} more")
        super().__init__("\n".join(lines))


class MediaError(ValueError):
    """A file that cannot be used, with what was expected, what was found and what to do."""

    def __init__(self, file: str | Path, expected: str, found: str, remedy: str) -> None:
        self.file, self.expected, self.found, self.remedy = str(file), expected, found, remedy
        super().__init__(f"{file}: expected {expected}; found {found}. {remedy}")

    def __reduce__(self) -> tuple:
        """Pickle all four parts, so that the error of a worker process arrives whole."""
        return type(self), (self.file, self.expected, self.found, self.remedy)

    @property
    def problem(self) -> Problem:
        """The same as one of a dataset's problems."""
        return Problem(self.file, self.expected, self.found, self.remedy)


def require_file(path: str | Path, expected: str, remedy: str) -> None:
    """Raise `MediaError` unless `path` is a file of at least one byte."""
    path = Path(path)
    try:
        found = "a folder" if path.is_dir() else "no such file" if not path.is_file() else ""
        found = found or ("" if path.stat().st_size else "an empty file (0 bytes)")
    except (
        OSError,
        ValueError,
    ) as error:  # a name that is too long or holds a NUL, a folder that may not be entered
        found = reason(error)
    if found:
        raise MediaError(path, expected, found, remedy)


def reason(error: Exception) -> str:
    """A library's own words on one line."""
    return " ".join(str(error).split()) or type(error).__name__
