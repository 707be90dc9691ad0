"""Files of one's own that a configuration names: readers, encoders, metrics, methods. Loaded by path or by module name."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from taco.runtime import file_digest


class EntryError(ValueError):
    """A file or module of one's own cannot be used: says which key names it, what was expected and found."""


def split(entry: str, function: str = "") -> tuple[str, str]:
    """The place of an entry (``methods/mine.py`` or ``package.module``), and the function behind its colon."""
    place, _, named = entry.partition(":")
    return place, named or function


def load_module(place: str, key: str) -> ModuleType:
    """Load a file (ending in ``.py``) or an installed module.

    Parameters
    ----------
    place : str
    key : str
        Of the configuration, for errors.

    Raises
    ------
    EntryError
    """
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise EntryError(
                f"{key}: expected a file ending in .py or a module, found {place!r}: {error}"
            ) from error
    path = Path(place)
    if not path.is_file():
        raise EntryError(f"{key}: expected a file {place}, found none. Correct {key}.")
    name = f"taco_own_{file_digest(path)[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look themselves up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def load_function(entry: str, key: str, function: str) -> Callable:
    """Load the function that an entry names, or the one that is meant where it names none.

    Raises
    ------
    EntryError
    """
    place, name = split(entry, function)
    found = getattr(load_module(place, key), name, None)
    if not callable(found):
        raise EntryError(f"{key}: expected a function {name!r} in {place}, found none")
    return found


def digests(entries: Iterable[str]) -> dict[str, str]:
    """Digest of each entry's file, by entry; a module, which is installed, has none."""
    files = {entry: Path(split(entry)[0]) for entry in entries}
    return {
        entry: file_digest(path) for entry, path in files.items() if path.suffix == ".py" and path.is_file()
    }


def own_loader(spec: Mapping[str, Any], key: str) -> Callable | None:
    """The ``load(spec, device)`` that a model's ``loader`` names, with the model's other keys given; None where it has none."""
    if not spec.get("loader"):
        return None
    others = {name: value for name, value in spec.items() if name != "loader"}
    return partial(load_function(spec["loader"], key, "load"), others)
