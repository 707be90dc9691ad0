"""Examples in docstrings hold."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTED = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / "taco").rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8") and "import torch" not in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_in_docstrings_hold(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0 and found.failed == 0
