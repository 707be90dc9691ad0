"""One direction: rules → workflow_scripts → taco; who may import what. Read from syntax trees."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from taco.runtime import imported_modules, module_path

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "taco").rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow_scripts").glob("*.py"))
RULES = sorted([ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")])

# What each part may import of the package. `runtime` and `weights` are the floor; nobody may reach upwards.
FLOOR = {"taco.runtime"}
ALLOWED = {
    "taco.runtime": set(),
    "taco.keys": set(),
    "taco.weights": FLOOR | {"taco.keys"},
    "taco.conmf": FLOOR,
    "taco.metrics": FLOOR,
    "taco.media": FLOOR,
    "taco.cache": FLOOR | {"taco.storage"},
    "taco.storage": set(),
    "taco.progress": set(),
    "taco.space": {"taco.suites"},
    "taco.reading": {"taco.controls", "taco.media"},
    "taco.suites": FLOOR,
    "taco.controls": FLOOR,
    "taco.manifest": FLOOR,
    "taco.datasets": FLOOR | {"taco.manifest", "taco.media"},
    "taco.clip": FLOOR | {"taco.weights", "taco.media"},
    "taco.clap": FLOOR | {"taco.weights", "taco.media"},
    "taco.fcclip_weights": FLOOR | {"taco.weights"},
    "taco.fcclip": FLOOR | {"taco.weights", "taco.fcclip_weights", "taco.clip"},
    "taco.fcclip_detectron2": FLOOR | {"taco.weights", "taco.fcclip_weights", "taco.clip", "taco.fcclip"},
    "taco.resampling": set(),
    "taco.stimuli": {"taco.controls"},
    "taco.sensitivity": {"taco.aggregate", "taco.figures", "taco.pages", "taco.tables"},
    "taco.verify": {
        "taco.aggregate",
        "taco.comparisons",
        "taco.metrics",
        "taco.pages",
        "taco.resampling",
        "taco.tables",
    },
    "taco.costs": {"taco.aggregate", "taco.cache"},
    "taco.predictions": set(),
    "taco.aggregate": FLOOR | {"taco.metrics", "taco.predictions"},
    "taco.comparisons": {"taco.aggregate", "taco.resampling"},
    "taco.tables": FLOOR | {"taco.aggregate"},
    "taco.pages": set(),
    "taco.extended": {"taco.aggregate", "taco.metrics"},
    "taco.negatives": {"taco.aggregate", "taco.metrics"},
    "taco.submission": FLOOR | {"taco.aggregate", "taco.datasets", "taco.metrics", "taco.tables"},
    "taco.printing": {"taco.aggregate", "taco.extended", "taco.negatives", "taco.pages", "taco.tables"},
    "taco.examples": FLOOR
    | {
        "taco.aggregate",
        "taco.cache",
        "taco.controls",
        "taco.manifest",
        "taco.media",
        "taco.metrics",
        "taco.text",
    },
    "taco.figures": FLOOR | {"taco.aggregate", "taco.examples", "taco.media", "taco.tables"},
    "taco.charts": {
        "taco.aggregate",
        "taco.examples",
        "taco.figures",
        "taco.metrics",
        "taco.resampling",
        "taco.tables",
    },
    "taco.exhibits": {"taco.aggregate", "taco.charts", "taco.examples", "taco.figures"},
    "taco.gallery": {
        "taco.aggregate",
        "taco.controls",
        "taco.examples",
        "taco.figures",
        "taco.media",
        "taco.tables",
    },
    "taco.sources": FLOOR,
    "taco.transfers": {"taco.sources"},
    "taco.archives": {"taco.sources"},
    "taco.hub": FLOOR | {"taco.archives", "taco.sources", "taco.transfers"},
    "taco.downloads": {"taco.archives", "taco.hub", "taco.sources", "taco.transfers"},
    "taco.sounds": FLOOR | {"taco.archives", "taco.downloads", "taco.hub", "taco.sources", "taco.transfers"},
    "taco.staging": {
        *("taco.archives", "taco.downloads", "taco.hub", "taco.sounds", "taco.sources", "taco.transfers"),
    },
    "taco.doctor": {
        *(
            "taco.fcclip_detectron2",
            "taco.sounds",
            "taco.sources",
            "taco.space",
            "taco.staging",
            "taco.suites",
        ),
    },
    "taco.text": FLOOR | {"taco.cache", "taco.miniature"},
}
WITHOUT_TORCH = (
    "aggregate",
    "charts",
    "comparisons",
    "controls",
    "costs",
    "datasets",
    "examples",
    "exhibits",
    "extended",
    "figures",
    "gallery",
    "manifest",
    "metrics",
    "negatives",
    "pages",
    "predictions",
    "printing",
    "resampling",
    "runtime",
    "sensitivity",
    "space",
    "submission",
    "suites",
    "tables",
)


def name_of(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def libraries(tree):
    """Top-level names of everything that a module imports absolutely."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_package_knows_neither_snakemake_nor_scripts(path):
    scripts = {script.stem for script in SCRIPTS} | {"workflow_scripts", "snakemake", "job"}
    # Scripts are named after their stage, as some modules of ours are; those are imported as taco.<name>.
    assert not scripts & set(libraries(tree_of(path)))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_what_lies_below(path):
    name = name_of(path)
    owner = ".".join(name.split(".")[:2])
    if owner not in ALLOWED:
        return
    used = {".".join(module.split(".")[:2]) for module in imported_modules(tree_of(path), ROOT, "taco", name)}
    assert used - {"taco", owner} <= ALLOWED[owner]


@pytest.mark.parametrize(
    ("script", "module"),
    [
        ("manifest", "taco.datasets"),
        ("world", "taco.miniature.writer"),
        ("features", "taco.media"),
        ("score", "taco.metrics"),
    ],
)
def test_a_stages_digest_reaches_what_it_uses(script, module):
    pending, seen = [(tree_of(ROOT / f"workflow_scripts/{script}.py"), "")], set()
    while pending:
        for name in imported_modules(pending[0][0], ROOT, "taco", pending.pop(0)[1]) - seen:
            seen.add(name)
            pending.append((tree_of(module_path(name, ROOT)), name))
    assert module in seen


def test_every_module_that_the_rules_name_exists():
    for name in ALLOWED:
        assert any(name_of(path) == name for path in MODULES), name


def test_no_module_imports_itself_in_a_circle():
    graph = {name_of(path): imported_modules(tree_of(path), ROOT, "taco", name_of(path)) for path in MODULES}
    # A package and its own parts may refer to each other.
    edges = {
        name: {
            other
            for other in used
            if not (f"{name}.".startswith(f"{other}.") or other.startswith(f"{name}."))
        }
        for name, used in graph.items()
    }
    done, path = set(), []

    def visit(name):
        assert name not in path, " → ".join([*path, name])
        if name in done:
            return
        path.append(name)
        for other in sorted(edges.get(name, ())):
            visit(other)
        path.pop()
        done.add(name)

    for name in edges:
        visit(name)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_only_define_until_snakemake_runs_them(path):
    tree = tree_of(path)
    if path.stem == "job":
        return
    assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
    for node in tree.body:
        guard = isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        assert (
            guard
            or not isinstance(node, ast.If | ast.For | ast.While | ast.With | ast.Expr)
            or ast.get_docstring(ast.Module([node], []))
        ), f"{path.name} does something at line {node.lineno}"
    assert ast.unparse(tree.body[-1]).endswith("run(main, snakemake)")


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_rules_import_nothing_heavy(path):
    text = path.read_text(encoding="utf-8")
    heavy = {"torch", "numpy", "pandas", "h5py", "transformers", "open_clip"}
    found = set(re.findall(r"^\s*(?:from|import)\s+(\w+)", text, flags=re.MULTILINE))
    assert not found & heavy
    assert not re.search(r"^\s+run:", text, flags=re.MULTILINE), (
        "run: blocks cost seconds and cannot be imported"
    )


@pytest.mark.parametrize("path", RULES[1:], ids=lambda path: path.name)
def test_every_rule_has_log_benchmark_environment_and_digest(path):
    text = path.read_text(encoding="utf-8")
    for rule in re.split(r"^(?:use )?rule (?=\w+)", text, flags=re.MULTILINE)[1:]:
        name = re.match(r"\w+", rule).group(0)
        script = re.search(r'"\.\./workflow_scripts/(\w+)\.py"', rule)
        if script is None:  # a target, or another rule with something changed
            continue
        local = re.search(r"^    localrule: True", rule, flags=re.MULTILINE)
        for directive in ("log:", "benchmark:", "conda:", *(() if local else ("resources:",))):
            assert re.search(rf"^    {directive}", rule, flags=re.MULTILINE), f"{name} has no {directive}"
        assert (ROOT / f"workflow_scripts/{script[1]}.py").is_file()
        # A staged file's digest says whether it is the right one, whatever code brought it; doctor_again has one.
        if path.name != "staging.smk":
            assert re.search(rf'code=\[?digest\("{script[1]}"\)', rule), name


def test_no_code_path_depends_on_the_suite():
    for path in [*MODULES, *SCRIPTS, *RULES]:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not re.search(r"\bif\b.*\bsuite\b\W*\]?\s*(==|!=|in)\s", line), (
                f"{path.name}: {line.strip()}"
            )


def test_light_modules_do_not_load_torch():
    # One process for all: the first that loads torch is named.
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module('taco.' + name)\n"
        "    if 'torch' in sys.modules: sys.exit(name + ' loads torch')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_snakefile_is_short():
    assert len((ROOT / "Snakefile").read_text(encoding="utf-8").splitlines()) < 50
