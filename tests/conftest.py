"""Order of the tests, and skips that must be accounted for."""

import fnmatch
import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    # Triton's kernels then run in its interpreter; read at Triton's first import, which may be any test's.
    os.environ["TRITON_INTERPRET"] = "1"
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_for_numpy(tensor, scope):
        """NumPy 2.4 takes no array of one element for a number, as Triton 3.6's interpreter does in `range`."""
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patch_for_numpy

ALLOWED_SKIPS = Path(__file__).parent / "allowed_skips.txt"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What programs keep for their user is kept for this session alone."""
    os.environ["TACO_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def pytest_addoption(parser):
    parser.addoption(
        "--strict-skips",
        action="store_true",
        help=f"fail when a test is skipped that {ALLOWED_SKIPS.name} does not list",
    )


def pytest_collection_modifyitems(items):
    """Quick tests first, whole workflows after them (they use several cores), SLURM last."""

    def rank(item):
        return (item.get_closest_marker("slurm") is not None, item.path.name == "test_workflow.py")

    items.sort(key=rank)


def allowed_skips():
    """Patterns of test ids; each line is ``pattern  # reason``."""
    lines = [line.strip() for line in ALLOWED_SKIPS.read_text(encoding="utf-8").splitlines()]
    pairs = [line.partition("#") for line in lines if line and not line.startswith("#")]
    for pattern, _, reason in pairs:
        if not reason.strip():
            raise pytest.UsageError(f"{ALLOWED_SKIPS.name}: {pattern.strip()!r} has no reason after a #")
    return [pattern.strip() for pattern, _, _ in pairs]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not session.config.getoption("--strict-skips") or reporter is None:
        return
    patterns = allowed_skips()
    skipped = [report.nodeid for report in reporter.stats.get("skipped", [])]
    unlisted = [name for name in skipped if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if unlisted:
        reporter.write_line("")
        for name in unlisted:
            reporter.write_line(
                f"SKIPPED WITHOUT LEAVE {name}: run it, or list it in {ALLOWED_SKIPS.name}", red=True
            )
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
