"""Digests of code: what can change a result changes them, and nothing else does."""

import ast
import os
from pathlib import Path

import pytest

from taco import modules

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path):
    """A script that uses taco.a, which uses taco.sub.b inside a function; taco.other is used by nobody."""
    files = {
        "scripts/run.py": "from taco import a\nprint(a.f())\n",
        "taco/__init__.py": '"""Package."""\n',
        "taco/a.py": 'def f():\n    """Doc."""\n    from .sub import b\n\n    return b.g()\n',
        "taco/sub/__init__.py": "",
        "taco/sub/b.py": "import json\nimport torch_not_installed_here\n\n\ndef g():\n    return 1  # one\n",
        "taco/other.py": "x = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def code(project):
    return modules.code_digest(project / "scripts/run.py", project)


def edit(project, name, old, new):
    path = project / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("taco/sub/b.py", "# one", "# another comment"),
        ("taco/a.py", "Doc.", "Other words."),
        ("taco/a.py", "\n\n    return", "\n\n\n    return"),
        ("taco/__init__.py", "Package.", "The package."),
        ("taco/other.py", "x = 1", "x = 2"),
        ("scripts/run.py", "print(a.f())", "print( a.f( ) )  # spaced"),
    ],
)
def test_what_cannot_change_a_result_keeps_the_digest(project, name, old, new):
    before = code(project)
    edit(project, name, old, new)
    assert code(project) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("taco/sub/b.py", "return 1", "return 2"),
        ("taco/a.py", "b.g()", "b.g() + 1"),
        ("taco/sub/__init__.py", "", "y = 1\n"),
        ("scripts/run.py", "print", "repr"),
    ],
)
def test_what_can_change_a_result_changes_the_digest(project, name, old, new):
    before = code(project)
    edit(project, name, old, new) if old else (project / name).write_text(new)
    assert code(project) != before


def test_touching_keeps_the_digest(project):
    before = code(project)
    os.utime(project / "taco/a.py", (1, 1))
    assert code(project) == before


def test_a_new_import_is_followed(project):
    edit(project, "taco/a.py", "from .sub import b", "from .sub import b\n    import taco.other")
    before = code(project)
    edit(project, "taco/other.py", "x = 1", "x = 2")
    assert code(project) != before


def test_the_digest_of_a_real_stage_follows_its_modules():
    tree = ast.parse((ROOT / "workflow_scripts/factorize.py").read_text())
    names = modules.imported_modules(tree, ROOT, "taco")
    assert {
        "taco",
        "taco.cache.receipts",
        "taco.method.factorize",
        "taco.data.manifest",
        "taco.runtime",
        "taco.method.text",
    } <= names
    assert "taco.results.tables" not in names
