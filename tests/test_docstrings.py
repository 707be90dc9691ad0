"""Examples in docstrings hold."""

import doctest
import importlib
from pathlib import Path

import pytest


def has_examples(text):
    """Whether a module without torch has examples that run."""
    lines = [line for line in text.splitlines() if line.strip().startswith(">>>")]
    return "import torch" not in text and any("+SKIP" not in line for line in lines)


ROOT = Path(__file__).resolve().parents[1]
DOCUMENTED = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / "taco").rglob("*.py")
    if has_examples(path.read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_in_docstrings_hold(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0 and found.failed == 0
