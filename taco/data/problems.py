"""What is wrong with a dataset, as readers and checks report it: all of it at once, each with a remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
