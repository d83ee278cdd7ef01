"""The Python files of the repository, parsed once, and what they import."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("core", "shm", "workers", "clients")


class Import(NamedTuple):
    """One imported module, the line, and whether importing the file imports it (not only a call)."""

    module: str
    line: int
    at_import: bool


class Source(NamedTuple):
    """One file: its path from the root, its layer (tailrace for the facade), text and tree."""

    path: str
    layer: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """The one name by which it may be imported."""
        dotted = self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        return f"tailrace.{dotted}" if self.layer in LAYERS else dotted

    def imports(self) -> Iterator[Import]:
        """Everything it imports, also inside functions, but not under TYPE_CHECKING."""
        yield from _imports(self.tree, at_import=True)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


def _imports(node: ast.AST, at_import: bool) -> Iterator[Import]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.Import):
        for name in node.names:
            yield Import(name.name, node.lineno, at_import)
    if isinstance(node, ast.ImportFrom):
        for name in node.names:
            yield Import(f"{node.module}.{name.name}", node.lineno, at_import)
    inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, at_import and not inside)


@cache
def committed() -> list[str]:
    """Paths of all files that are, or are about to be, committed; links to folders are not followed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:  # an unpacked sdist has no repository
        skipped = {".git", ".venv", ".peers", "build", "dist", "__pycache__"}
        paths = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        names = [str(path) for path in paths if not skipped.intersection(path.parts)]
    else:
        names = listed.stdout.splitlines()
    return sorted({name for name in names if (ROOT / name).is_file() and not (ROOT / name).is_symlink()})


@cache
def sources() -> list[Source]:
    """Every Python file."""
    found: list[Source] = []
    for path in committed():
        if path.endswith(".py"):
            text = (ROOT / path).read_text()
            found.append(Source(path, path.partition("/")[0], text, ast.parse(text, path)))
    return found
