"""A configuration against its JSON schema: every problem in one line, with the key's path and what to write instead."""

import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError


def _is_integer(_: Any, value: Any) -> bool:
    """JSON counts 2.0 as an integer; Python, which is to use it, does not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: Any, value: Any) -> bool:
    """No comparison finds NaN out of range."""
    return _is_integer(_, value) or (isinstance(value, float) and math.isfinite(value))


_Validator = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer).redefine(
        "number", _is_number
    ),
)


def problems(config: Mapping[str, Any], schema: str | Path) -> list[str]:
    """What in a configuration breaks its schema.

    Parameters
    ----------
    config : mapping
    schema : str or Path
        YAML file, JSON schema of draft 2020-12. Its integers are Python's, its numbers are finite.

    Returns
    -------
    list of str
        ``solver.steps: ...``, by path; empty where all is well.
    """
    strange = dict(_strange(config, ()))
    found = [
        error
        for error in _validator(Path(schema)).iter_errors(config)
        if tuple(error.absolute_path) not in strange
    ]
    found.sort(key=lambda error: [str(key) for key in error.absolute_path])
    return [*strange.values(), *(line for error in found for line in _explain(error))]


@cache
def _validator(schema: Path) -> Draft202012Validator:
    return _Validator(yaml.safe_load(schema.read_text(encoding="utf-8")))


def _strange(value: Any, path: tuple) -> Iterator[tuple[tuple, str]]:
    """What no key can be or hold, wherever it stands: numbers without a value, keys that are no text."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path, f"{_written(path)}: expected a finite number, found {value}"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str) and path[-1:] != ("class_labels",):
                yield (*path, key), f"{_written((*path, key))}: a key is text, found {key!r}: quote it"
            else:
                yield from _strange(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _strange(item, (*path, index))


def _written(path: tuple) -> str:
    return ".".join(map(str, path))


def _explain(error: ValidationError) -> Iterator[str]:
    """Yield ``path: expectation, finding`` for a schema error, with an unknown key's own path."""
    path = _written(tuple(error.absolute_path))
    if error.validator in ("additionalProperties", "unevaluatedProperties") and isinstance(
        error.instance, Mapping
    ):
        known = sorted(error.schema.get("properties", {}))
        for key in error.instance:
            if key not in known:
                yield f"{path + '.' if path else ''}{key}: unknown key; known here: {', '.join(known)}"
    elif error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        for key in missing:
            yield f"{path + '.' if path else ''}{key}: missing"
    else:
        description = error.schema.get("description") if isinstance(error.schema, Mapping) else None
        hint = _hint(error.instance) if error.validator in ("type", "oneOf", "enum") else ""
        yield f"{path or '(top level)'}: {error.message}{hint}" + (f" ({description})" if description else "")


def _hint(value: Any) -> str:
    """What was probably meant by a number of the wrong kind."""
    if isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return ""
        # YAML takes 1e-3 for text, as it has no point.
        return f"; write {number!r}, without quotes" if math.isfinite(number) else ""
    return ""
