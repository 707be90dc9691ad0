"""Weight files: read without executing them, and match a model exactly."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor


class WeightsError(RuntimeError):
    """A weight file is missing, unreadable, or does not fit its model."""


def load_weights(path: str | Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read a state dict and check it against the model it is for.

    Parameters
    ----------
    path : str or Path
        A safetensors file, or a checkpoint of tensors (read with ``weights_only=True``).
    expected : mapping
        The model's own state dict: every key and shape must be there, and nothing else.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    WeightsError
        Naming the file and the first keys that are missing, unknown, or of another shape.
    """
    state = read_state(path)
    check_state(path, state, expected)
    return state


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read a file's tensors; a checkpoint's outer ``model`` or ``state_dict`` level is removed."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: the weights are missing. Stage them, or correct `models` in the config.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path}: not a readable weight file ({error}). Fetch it again.") from error
    for level in ("model", "state_dict"):
        if isinstance(state.get(level), Mapping):
            state = state[level]
    return {key.removeprefix("module."): value for key, value in state.items()}


def check_state(path: str | Path, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise `WeightsError` unless both hold the same keys with the same shapes."""
    problems = {
        "missing": sorted(set(expected) - set(state)),
        "unknown": sorted(set(state) - set(expected)),
        "of another shape": sorted(k for k in set(state) & set(expected) if state[k].shape != expected[k].shape),
    }
    found = [f"{len(keys)} {what} ({', '.join(keys[:5])})" for what, keys in problems.items() if keys]
    if found:
        raise WeightsError(
            f"{path}: expected the {len(expected)} tensors of the configured model, found {'; '.join(found)}. "
            "Check that weights and architecture in the config belong together."
        )
