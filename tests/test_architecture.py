"""One direction: rules → workflow_scripts → taco; who may import what. Read from syntax trees."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from taco.modules import imported_modules, module_path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
MODULES = sorted((ROOT / "taco").rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow_scripts").glob("*.py"))
RULES = sorted([ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")])

# What each wing and each module at the top may import of the package, from the ground up: no arrow runs upwards.
WINGS = {
    "runtime": set(),
    "progress": set(),
    "entries": {"runtime"},
    "modules": {"runtime"},
    "suites": {"entries", "runtime"},
    "conmf": set(),
    "metrics": {"runtime"},
    "cache": {"runtime"},
    "data": {"entries", "runtime", "suites"},
    "models": {"data", "entries", "runtime"},
    "results": {"cache", "data", "metrics", "runtime"},
    "method": {"cache", "conmf", "data", "entries", "metrics", "models", "progress", "runtime"},
    "staging": {"data", "models", "runtime", "suites"},
    "miniature": {"data", "models", "runtime"},
    "figures": {"cache", "data", "method", "metrics", "results", "runtime"},
    "segmenting": {
        "cache",
        "conmf",
        "data",
        "figures",
        "method",
        "miniature",
        "models",
        "modules",
        "progress",
        "runtime",
        "suites",
    },
    "bench": {"cache", "conmf", "data", "method", "metrics", "models", "runtime", "segmenting", "suites"},
    "audit": {
        "cache",
        "data",
        "entries",
        "method",
        "metrics",
        "modules",
        "progress",
        "results",
        "runtime",
        "suites",
    },
    "commands": {
        "audit",
        "bench",
        "data",
        "method",
        "metrics",
        "miniature",
        "progress",
        "results",
        "runtime",
        "segmenting",
        "staging",
        "suites",
    },
    "cli": None,
}
# Whatever imports one of these must not load torch.
WITHOUT_TORCH = (
    *(
        "audit",
        "cache",
        "cli",
        "commands",
        "figures",
        "metrics",
        "progress",
        "results",
        "runtime",
        "staging",
        "suites",
    ),
    *("data.datasets", "data.manifest", "data.media", "data.photos", "data.predictions", "data.problems"),
    *("method.controls", "method.text", "models.backends", "miniature.writer", "segmenting.answer"),
)
ONLY_IN = {
    "matplotlib": {"figures"},
    "seaborn": {"figures"},
    "pyarrow": {"data", "results"},
    "h5py": {"cache"},
    "av": {"data"},
}


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


def wing_of(name):
    """``taco.data.manifest`` → ``data``; "" for the package itself."""
    return name.split(".")[1] if "." in name else ""


def test_every_wing_has_its_place():
    assert {wing_of(name_of(path)) for path in MODULES} - {""} == set(WINGS)


def test_the_order_of_the_wings_has_no_circle():
    below = set()
    for wing, allowed in WINGS.items():
        assert (allowed or set()) <= below, f"{wing} stands below {(allowed or set()) - below}"
        below.add(wing)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_arrow_runs_upwards(path):
    name = name_of(path)
    allowed = WINGS.get(wing_of(name), set())
    used = {wing_of(other) for other in imported_modules(tree_of(path), ROOT, "taco", name)}
    if allowed is not None:
        assert used - {"", wing_of(name)} <= allowed


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_stay_in_their_wings(path):
    found = set(libraries(tree_of(path)))
    for library, wings in ONLY_IN.items():
        assert library not in found or wing_of(name_of(path)) in wings | {"bench"}, library


@pytest.mark.parametrize("wing", sorted(wing for wing in WINGS if (ROOT / "taco" / wing).is_dir()))
def test_a_wing_says_in_five_lines_what_it_takes_and_gives(wing):
    text = ast.get_docstring(tree_of(ROOT / "taco" / wing / "__init__.py"))
    assert text and len(text.split("\n\n")[0].splitlines()) <= 5
    assert re.search(r"\btakes?\b", text, re.IGNORECASE) and re.search(r"\bgives?\b", text, re.IGNORECASE)


def test_tests_mirror_the_package():
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.relative_to(ROOT / "tests").parent
        assert folder in (Path(), Path("faults")) or (ROOT / "taco" / folder).is_dir(), path


def test_git_leaves_no_module_out():
    """A folder of results or data is ignored at the top alone; a wing may have the same name."""
    command = [
        "git",
        "ls-files",
        "--others",
        "--ignored",
        "--exclude-standard",
        "taco",
        "tests",
        "rules",
        "config",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a checkout")
    assert [path for path in done.stdout.splitlines() if "__pycache__" not in path] == []


@pytest.mark.parametrize(
    ("script", "module"),
    [
        ("manifest", "taco.data.datasets"),
        ("factorize", "taco.conmf.step"),
        ("factorize", "taco.method.stimuli"),
        ("world", "taco.miniature.writer"),
        ("features", "taco.data.media"),
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
        "import pkgutil\n"
        "def modules(name):\n"
        "    found = importlib.import_module(name)\n"
        "    yield name\n"
        "    for part in pkgutil.iter_modules(getattr(found, '__path__', []), name + '.'): yield from modules(part.name)\n"
        "for top in sys.argv[1:]:\n"
        "  for name in modules('taco.' + top):\n"
        "    if 'torch' in sys.modules: sys.exit(name + ' loads torch')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_snakefile_is_short():
    assert len((ROOT / "Snakefile").read_text(encoding="utf-8").splitlines()) < 50


# ---------------------------------------------------------------- docs/architecture.md


def drawn():
    """Arrows of the page's drawing: wing → the wings that it points to."""
    arrows = {wing: set() for wing in WINGS}
    drawing = PAGE.split("```mermaid")[1].split("```")[0]
    for tail, heads in re.findall(r"^  (\w+) --> (.+)$", drawing, flags=re.MULTILINE):
        arrows[tail] |= set(heads.split(" & "))
    return arrows


def test_the_page_is_short():
    assert len(PAGE.splitlines()) < 80


def test_the_drawing_shows_arrows_that_are_allowed_and_leads_to_all_of_them():
    arrows = drawn()
    assert set().union(arrows, *arrows.values()) == set(WINGS)
    reached = {}
    for wing, allowed in WINGS.items():
        assert allowed is None or arrows[wing] <= allowed, wing
        reached[wing] = arrows[wing].union(*(reached[below] for below in arrows[wing]))
        assert (allowed or set()) <= reached[wing], wing


def names_in(body):
    """Names that statements define; those of a class also as ``Class.name``."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{name}" for name in names_in(node.body))
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize(("name", "link"), re.findall(r"\[`([^`]+)`\]\(([^)]+)\)", PAGE))
def test_what_the_page_names_exists(name, link):
    path = (ROOT / "docs" / link).resolve()
    assert path.exists()
    if name.rstrip("/") in (path.name, path.parent.name, path.relative_to(ROOT).as_posix()):
        return
    known = {
        ".py": lambda: names_in(tree_of(path).body),
        ".yaml": lambda: yaml.safe_load(path.read_text(encoding="utf-8")),
        ".smk": lambda: re.findall(r"^rule (\w+):", path.read_text(encoding="utf-8"), flags=re.MULTILINE),
    }
    if ROOT / "taco" in path.parents:  # written with its module: figures.choosing.draw
        module = name_of(path).removeprefix("taco.")
        assert name.startswith(f"{module}.")
        name = name.removeprefix(f"{module}.")
    assert name in set(known[path.suffix]())


@pytest.mark.parametrize("path", MODULES + SCRIPTS, ids=name_of)
def test_what_a_module_calls_of_another_exists(path):
    """Names behind the dot of an imported module; a local name of the same spelling is passed over."""
    tree = tree_of(path)
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "taco":
            for alias in node.names:
                if module_path(f"{node.module}.{alias.name}", ROOT):
                    modules[alias.asname or alias.name] = importlib.import_module(
                        f"{node.module}.{alias.name}"
                    )
    local = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    local |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id not in local
        ):
            module = modules.get(node.value.id)
            assert module is None or hasattr(module, node.attr), (
                f"line {node.lineno}: {node.value.id}.{node.attr}"
            )
