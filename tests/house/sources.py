"""The checkout's Python modules as values: names, lines, and what each imports. Judges nothing."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.paths import CHECKOUT

FOLDERS = {"corten": "client", "cortend": "engine", "corten_shim": "shim", "corten_api": "protos"}
_GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


@dataclass(frozen=True, slots=True)
class Import:
    """`module` is what is imported, a submodule where the imported name is one."""

    module: str
    line: int
    typing_only: bool  # below `if TYPE_CHECKING:`
    late: bool  # inside a function


@dataclass(frozen=True, slots=True)
class Module:
    """One source file. `package` is the import package it belongs to, "tests", or "" for a program."""

    name: str
    path: Path
    package: str

    @property
    def where(self) -> str:
        return str(self.path.relative_to(CHECKOUT))

    @property
    def text(self) -> str:
        return self.path.read_text()

    def tree(self) -> ast.Module:
        return _parsed(self.path)

    def imports(self) -> list[Import]:
        return list(_imports(self.tree(), {each.name for each in modules()}))


@cache
def files() -> tuple[Path, ...]:
    """Every file that is in git or would be: nothing that is ignored, nothing deleted."""
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, check=False)
    if listed.returncode == 0:
        names = [CHECKOUT / each for each in listed.stdout.decode().split("\0") if each]
        return tuple(sorted(path for path in names if path.is_file()))
    hidden = {".git", ".venv", ".cache", "__pycache__"}
    everything = (path for path in CHECKOUT.rglob("*") if not hidden & set(path.relative_to(CHECKOUT).parts))
    return tuple(sorted(path for path in everything if path.is_file()))


@cache
def modules() -> tuple[Module, ...]:
    """Every Python module that is written by hand."""
    return tuple(_module(path) for path in files() if path.suffix == ".py" and not path.name.endswith(_GENERATED))


def of(package: str) -> Iterator[Module]:
    """The modules of one import package."""
    return (each for each in modules() if each.package == package)


def ours(name: str) -> bool:
    """Whether `name` is a module or package of ours."""
    return name.partition(".")[0] in FOLDERS


def _module(path: Path) -> Module:
    relative = path.relative_to(CHECKOUT)
    for package, folder in FOLDERS.items():
        if relative.parts[:2] == (folder, package):
            parts = [*relative.parts[1:-1], relative.stem]
            return Module(".".join(parts).removesuffix(".__init__"), path, package)
    name = ".".join([*relative.parts[:-1], relative.stem]).removesuffix(".__init__")
    return Module(name, path, "tests" if relative.parts[0] == "tests" else "")


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _imports(tree: ast.Module, known: set[str]) -> Iterator[Import]:
    def walk(node: ast.AST, typing_only: bool, late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, typing_only, late)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    full = f"{child.module}.{alias.name}"
                    yield Import(
                        full if _submodule(full, known) else child.module or "", child.lineno, typing_only, late
                    )
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from walk(child, True, late)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                yield from walk(child, typing_only, late or function)

    return walk(tree, False, False)


def _submodule(name: str, known: set[str]) -> bool:
    return name in known or name.endswith(("_pb2", "_pb2_grpc"))
