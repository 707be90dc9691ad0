"""Names and shapes of the tensors that the official weight files hold, kept as data beside the models' sizes.

``config/models/<file name>.keys.yaml`` describes a file of that name. `taco.models.official` wrote the lists from the
models that the libraries build, under the official files' names; they do not change when a library does, so they tell
a wrong file from a library whose names have changed.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "config/models"
RANGE = re.compile(r"\{(\d+)-(\d+)\}")
Shapes = Mapping[str, tuple[int, ...]]


def list_of(path: str | Path, folder: str | Path | None = None) -> Path:
    """Where the list of a weight file lies (default `FOLDER`), whether or not there is one."""
    return Path(folder or FOLDER) / f"{Path(path).name}.keys.yaml"


def read(path: str | Path) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Read a list: shapes by name, and patterns of names that a file may hold or lack."""
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return unfold(content["tensors"]), list(content["optional"])


def write(path: str | Path, shapes: Shapes, optional: Iterable[str], title: str) -> None:
    """Write a list, numbered names folded; ``title`` is its first line."""
    lines = [f"# {title}", "# {0-3} stands for 0, 1, 2, 3. Written by `python -m taco.models.official`."]
    lines += [f"optional: {json.dumps(list(optional))}", "tensors:"]
    lines += [f"  {name}: {list(shape)}" for name, shape in fold(shapes).items()]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def differences(found: Shapes, expected: Shapes, optional: Iterable[str] = ()) -> str:
    """Say which names are missing, unknown or of another shape: ``2 missing (a, b); 1 unknown (c)``, "" for none.

    Parameters
    ----------
    found, expected : mapping
        Shapes by name.
    optional : iterable of str
        Patterns (``*`` as in a shell) of names that do not count where one side alone has them.
    """
    alone = {
        name
        for name in set(found) ^ set(expected)
        if not any(fnmatchcase(name, pattern) for pattern in optional)
    }
    other = [
        name for name in sorted(set(found) & set(expected)) if tuple(found[name]) != tuple(expected[name])
    ]
    problems = {
        "missing": sorted(alone - set(found)),
        "unknown": sorted(alone - set(expected)),
        "of another shape": [f"{name} {list(found[name])} for {list(expected[name])}" for name in other],
    }
    return "; ".join(
        f"{len(names)} {what} ({', '.join(names[:5])})" for what, names in problems.items() if names
    )


def fold(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Write runs of numbered names of one shape as one: ``layers.{0-5}.weight``.

    Examples
    --------
    >>> fold({"a.0.w": (2,), "a.1.w": (2,), "b": ()})
    {'a.{0-1}.w': (2,), 'b': ()}
    """
    names = {name: tuple(shape) for name, shape in shapes.items()}
    for position in range(max((name.count(".") for name in names), default=0) + 1):
        runs: dict[tuple, list[int]] = {}
        kept: dict[str, tuple[int, ...]] = {}
        for name, shape in names.items():
            parts = name.split(".")
            if position < len(parts) and parts[position].isdigit():
                key = (".".join(parts[:position]), ".".join(parts[position + 1 :]), shape)
                runs.setdefault(key, []).append(int(parts[position]))
            else:
                kept[name] = shape
        for (head, tail, shape), numbers in runs.items():
            for low, high in _runs(sorted(numbers)):
                middle = str(low) if low == high else f"{{{low}-{high}}}"
                kept[".".join(part for part in (head, middle, tail) if part)] = shape
        names = kept
    return dict(sorted(names.items()))


def _runs(numbers: list[int]) -> Iterable[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    for _, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield members[0], members[-1]


def unfold(folded: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Undo `fold`."""
    shapes = {}
    for pattern, shape in folded.items():
        ranges = [range(int(low), int(high) + 1) for low, high in RANGE.findall(pattern)]
        template = RANGE.sub("{}", pattern)
        shapes |= {template.format(*numbers): tuple(shape) for numbers in itertools.product(*ranges)}
    return shapes
