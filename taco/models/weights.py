"""Weight files: read without executing them, verified against a lock file, matched to a model exactly.

Nothing is ever fetched here: a run needs no network, and a missing file is an error that says what brings it.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from taco.models import keys, sums
from taco.runtime import file_digest

LOCK = Path(__file__).resolve().parents[2] / "config/weights.lock.yaml"
"""Digests that staging recorded, by source and file name; a file that is not listed is not verified."""

STAGING = (
    "Stage the paper suite's weights with `snakemake stage --configfile config/paper.yaml`; those of the miniature "
    "suite are shipped in weights/miniature, and `snakemake train_miniature_models` makes them"
)


class WeightsError(RuntimeError):
    """A weight file is missing, unreadable, not the locked one, or does not fit its model."""


def load_weights(
    path: str | Path, expected: Mapping[str, Tensor], constants: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Read a state dict and check it against the model it is for.

    Parameters
    ----------
    path : str or Path
        A safetensors file, or a checkpoint of tensors (read with ``weights_only=True``).
    expected : mapping
        The model's own state dict: every key and shape must be there, and nothing else.
    constants : sequence of str
        Patterns (``*`` as in a shell) of constant buffers that some versions of a library save and others
        do not. Where the file alone has one it is left out, where the model alone has one its own is kept.

    Returns
    -------
    dict of str to Tensor
        Exactly the keys of `expected`.

    Raises
    ------
    WeightsError
        Naming the file and the first keys that are missing, unknown, or of another shape.
    """
    state = read_state(path)
    for key in set(state) ^ set(expected):
        if any(fnmatchcase(key, pattern) for pattern in constants):
            if key in expected:
                state[key] = expected[key]
            else:
                del state[key]
    check_state(path, state, expected)
    return state


def check_folder(path: str | Path, what: str) -> Path:
    """Return a folder's path, or raise `WeightsError` where there is none: a library would take it for a hub's name."""
    if not Path(path).is_dir():
        raise WeightsError(f"{path}: expected a folder with {what}, found none. {STAGING}.")
    return Path(path)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read a file's tensors; a checkpoint's outer ``model`` or ``state_dict`` level is removed.

    Raises
    ------
    WeightsError
        When the file is missing, differs from the lock file's digest, holds no table of tensors, or is named like an
        official file and holds other tensors (see `taco.models.keys`).
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: expected a weight file, found none. {STAGING}.")
    check_digest(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path}: not a readable weight file ({error}). Fetch it again.") from error
    for level in ("model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(level), Mapping):
            state = state[level]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"{path}: expected a table of tensors, found {_describe(state)}. Check that it is the right file."
        )
    state = {str(key).removeprefix("module."): value for key, value in state.items()}
    check_list(path, state)
    return state


def _describe(state: object) -> str:
    if not isinstance(state, Mapping):
        return f"a {type(state).__name__}"
    others = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    return f"other values at {', '.join(others[:5])}"


def check_digest(path: str | Path, lock: str | Path | None = None) -> None:
    """Raise `WeightsError` when a file is not the one whose SHA-256 a list has for its name.

    Lists are the lock file (default `LOCK`), and the one beside the file (`taco.models.sums`).
    """
    listed, found = sums.beside(path), None
    if listed and (found := file_digest(path)) != listed:
        raise WeightsError(
            f"{path}: expected the sha256 {listed} of {Path(path).with_name(sums.NAME)}, found {found}. Restore the file (those of "
            "the miniature suite from git); where another file is meant, correct the list."
        )
    locked = _locked(path, lock)
    if locked and (found := found or file_digest(path)) not in locked:
        raise WeightsError(
            f"{path}: expected the sha256 {' or '.join(locked)} of {lock or LOCK}, found {found}. Fetch it again; where "
            "another file is meant, correct the lock."
        )


def examine_digest(path: str | Path) -> tuple[bool | None, str]:
    """Whether a file is the locked one (None: its name is not in the lock), and its digest in words."""
    found, locked = file_digest(path), _locked(path)
    return (found in locked if locked else None), f"{found[:16]}…" + ("" if locked else ", not in the lock")


def examine_list(path: str | Path) -> tuple[bool | None, str]:
    """Whether a file holds the tensors listed for its name (None: there is no list), and how many in words."""
    listed = keys.list_of(path)
    if not listed.is_file():
        return None, f"no list for {Path(path).name}"
    expected, _ = keys.read(listed)
    state = read_state(path)  # raises where it does not
    return True, f"{len(set(state) & set(expected))} of {len(expected)}"


def _locked(path: str | Path, lock: str | Path | None = None) -> list[str]:
    """Digests that the lock file has for a file's name."""
    lock = Path(lock or LOCK)
    if not lock.is_file():
        raise WeightsError(
            f"{lock}: expected the lock file with the digests of weight files, found none. Restore it from git; without it "
            f"nobody can tell whether {path} is the right one."
        )
    sources, name = (yaml.safe_load(lock.read_text()) or {}).values(), Path(path).name
    return [source["files"][name]["sha256"] for source in sources if name in source.get("files", {})]


def check_list(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Raise `WeightsError` where an official file's tensors are not those that `taco.models.keys` lists for its name."""
    listed = keys.list_of(path)
    if listed.is_file():
        expected, optional = keys.read(listed)
        if found := keys.differences(_shapes(state), expected, optional):
            raise WeightsError(
                f"{path}: expected the {len(expected)} tensors that {listed} lists, found {found}. This is not the "
                f"official file of that name. {STAGING}."
            )


def check_state(path: str | Path, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise `WeightsError` unless both hold the same keys with the same shapes."""
    if found := keys.differences(_shapes(state), _shapes(expected)):
        hint = (
            "The file is the official one, so a library's names have changed: install the locked versions (uv sync)"
            if keys.list_of(path).is_file()
            else f"Check that weights and architecture in the config belong together. {STAGING}"
        )
        raise WeightsError(
            f"{path}: expected the {len(expected)} tensors of the configured model, found {found}. {hint}."
        )


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
