"""What code a script uses, by its syntax tree, and the digest by which an edit repeats the stages that use it."""

import ast
import functools
from pathlib import Path

from taco.runtime import digest


def code_digest(entry: str | Path, root: str | Path, package: str = "taco") -> str:
    """Digest of the code that a script uses: itself and the package's modules that it imports, directly or not.

    Syntax trees are compared, without docstrings and comments: only a change that can change a result
    counts. Nothing is imported.

    Parameters
    ----------
    entry : str or Path
        The script.
    root : str or Path
        Folder that holds the package.
    package : str
        Imports of other packages are not followed; their versions are pinned.

    Returns
    -------
    str
        SHA-256 (hex) over the module names and their trees.
    """
    trees, pending = {}, [("", Path(entry))]
    while pending:
        name, path = pending.pop()
        if name in trees:
            continue
        trees[name], imports = _parsed(path.read_text(encoding="utf-8"), str(path))
        used = imported_modules(imports, Path(root), package, name)
        pending += [(module, module_path(module, Path(root))) for module in used]
    return digest(trees)


def module_path(name: str, root: Path) -> Path | None:
    """Return the source file of a dotted module name under ``root``, or None."""
    stem = root.joinpath(*name.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    return None


def imported_modules(tree: ast.AST, root: Path, package: str, importer: str = "") -> set[str]:
    """Names of the package's modules that a syntax tree imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, importer, root)
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    inside = {name for name in names if name.split(".")[0] == package}
    parents = {".".join(name.split(".")[:n]) for name in inside for n in range(1, name.count(".") + 2)}
    return {name for name in parents if module_path(name, root)}


def _absolute(node: ast.ImportFrom, importer: str, root: Path) -> str:
    """Resolve the module of a ``from`` import, relative ones too."""
    if not node.level:
        return node.module or ""
    path = module_path(importer, root)
    drop = node.level - (path is not None and path.name == "__init__.py")
    base = importer.split(".")[: len(importer.split(".")) - drop]
    return ".".join([*base, *([node.module] if node.module else [])])


@functools.cache  # stages share most modules, and every job reads all rules
def _parsed(source: str, filename: str) -> tuple[str, ast.Module]:
    """Digest of a source's syntax tree without docstrings, and a tree of its imports alone."""
    tree = ast.parse(source, filename)
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body = node.body[1:]
    return digest(ast.dump(tree)), ast.Module(imports, [])
