"""Who may import whom: folders, the engine's layers, one door per dependency, and what each process must not load."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

import pytest

from tests.house import sources
from tests.house.sources import Import, Module

# The engine, from the top down: a module imports its own tier and those below.
TIERS = (
    ("app", "engine"),
    ("services", "docker", "cri"),
    ("images", "containers", "tasks", "volumes", "networks", "build", "gc"),
    ("content", "snapshots", "layers", "registry", "db", "events"),
    ("oci", "domain"),
)
# Needed at several heights; they import nothing of the engine themselves, save domain values.
ANYWHERE = ("config", "logs", "metrics", "programs", "locks", "notify")

# What of the shim the engine may see: the wire, and the kernel (to clean up after a shim that was lost).
SHIM_FOR_ENGINE = (
    "corten_shim.ttrpc",
    "corten_shim.wireformat",
    "corten_shim.messages",
    "corten_shim.envelopes",
    "corten_shim.exitrecord",
    "corten_shim.faults",
    "corten_shim.version",
    "corten_shim.placement",
    "corten_shim.cgroups",
    "corten_shim.linux",
)

# dependency -> the only places that may import it
DOORS = {
    "grpc": ("cortend.services", "cortend.cri", "corten._channel", "tests"),
    "grpc_health": ("cortend.services", "cortend.cri", "tests"),
    "grpc_reflection": ("cortend.services", "cortend.cri", "tests"),
    "aiohttp": ("cortend.registry", "cortend.docker", "tests"),
    "sqlite3": ("cortend.db", "tests"),
    "ctypes": ("corten_shim.linux", "tests"),
    "click": ("corten.cli", "tests"),
    "rich": ("corten.cli",),
    "isal": ("cortend.layers", "cortend.images", "tests"),
    "zstandard": ("cortend.layers", "cortend.images", "tests"),
    "pyroute2": ("cortend.networks",),
}
SHIM_BANNED = {
    "asyncio", "concurrent", "contextlib", "dataclasses", "enum", "google", "grpc", "inspect", "logging",
    "multiprocessing", "pathlib", "pyroute2", "re", "subprocess", "tempfile", "threading", "traceback", "typing",
}  # fmt: skip
LATER_STDLIB = {"_sha2"}  # of Pythons newer than the one that runs this
ENGINE_BANNED = {"multiprocessing", "pty", "concurrent.futures.process"}
ENGINE_BANNED_CALLS = {"fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "popen"}


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _told(found: list[str], rule: str) -> str:
    return "\n".join([rule, *(f"  {each}" for each in found)])


def _each(package: str) -> Iterator[tuple[Module, Import]]:
    return ((module, each) for module in sources.of(package) for each in module.imports())


def _tier(name: str) -> int | None:
    """The height of a module of the engine, 0 at the top; None for what may be imported anywhere."""
    noun = name.split(".")[1] if "." in name else ""
    if noun in ANYWHERE or not noun:
        return None
    for height, nouns in enumerate(TIERS):
        if noun in nouns:
            return height
    raise AssertionError(f"{name}: no tier of the engine has {noun!r}; see TIERS in {__file__}")


def test_every_package_imports_only_the_packages_it_may() -> None:
    allowed = {
        "corten": ("corten", "corten_api"),
        "cortend": ("cortend", "corten_api", *SHIM_FOR_ENGINE),
        "corten_shim": ("corten_shim",),
        "corten_api": ("corten_api",),
    }
    found = [
        f"{module.where}:{each.line} imports {each.module}"
        for package, prefixes in allowed.items()
        for module, each in _each(package)
        if sources.ours(each.module) and not any(_below(each.module, prefix) for prefix in prefixes)
    ]
    rule = "; ".join(f"{package} imports of ours only {' '.join(prefixes)}" for package, prefixes in allowed.items())
    assert not found, _told(found, rule)


def test_the_engine_imports_downwards_only() -> None:
    found = []
    for module, each in _each("cortend"):
        if not _below(each.module, "cortend") or each.typing_only:
            continue
        own, other = _tier(module.name), _tier(each.module)
        if own is None and other is not None and other != len(TIERS) - 1:
            found.append(f"{module.where}:{each.line} is used by every tier but imports {each.module}")
        if own is not None and other is not None and other < own:
            found.append(f"{module.where}:{each.line} imports {each.module}, {own - other} tier(s) above it")
    order = " > ".join(" ".join(tier) for tier in TIERS)
    assert not found, _told(found, f"the engine's layers are {order}; what both need belongs below both:")


@pytest.mark.parametrize("dependency", sorted(DOORS))
def test_a_dependency_has_one_door(dependency: str) -> None:
    doors = DOORS[dependency]
    found = [
        f"{module.where}:{each.line}"
        for module in sources.modules()
        for each in module.imports()
        if _below(each.module, dependency) and module.package and not any(_below(module.name, door) for door in doors)
    ]
    assert not found, _told(found, f"{dependency} is imported only in {', '.join(doors)}:")


def test_the_shim_uses_the_standard_library_only_and_not_its_heavy_parts() -> None:
    found = []
    for module, each in _each("corten_shim"):
        top = each.module.partition(".")[0]
        if each.typing_only or top == "corten_shim" or top == "__future__":
            continue
        if top not in sys.stdlib_module_names and top not in LATER_STDLIB:
            found.append(f"{module.where}:{each.line} imports {each.module}, which is not the standard library")
        elif top in SHIM_BANNED:
            found.append(f"{module.where}:{each.line} imports {each.module}, which costs every shim memory")
    assert not found, _told(found, "the shim's process stays small:")


def test_the_engine_never_forks() -> None:
    found = [
        f"{module.where}:{each.line} imports {each.module}"
        for module, each in _each("cortend")
        if any(_below(each.module, banned) for banned in ENGINE_BANNED)
    ]
    for module in sources.of("cortend"):
        for node in ast.walk(module.tree()):
            if isinstance(node, ast.Attribute) and node.attr in ENGINE_BANNED_CALLS and ast.unparse(node.value) == "os":
                found.append(f"{module.where}:{node.lineno} uses os.{node.attr}")
    assert not found, _told(found, "the daemon runs gRPC's threads; programs are started in cortend.programs:")


def test_programs_are_started_in_one_place() -> None:
    allowed = {"cortend.programs"}
    found = []
    for module in sources.of("cortend"):
        if module.name in allowed:
            continue
        lines = [each.line for each in module.imports() if each.module == "subprocess"]
        found += [f"{module.where}:{line} imports subprocess" for line in lines]
        for node in ast.walk(module.tree()):
            if isinstance(node, ast.Attribute) and node.attr in {"create_subprocess_exec", "create_subprocess_shell"}:
                found.append(f"{module.where}:{node.lineno} uses asyncio.{node.attr}")
    assert not found, _told(found, "only cortend.programs starts programs:")


@pytest.mark.parametrize("package", sorted(sources.FOLDERS))
def test_nobody_imports_their_own_package_root(package: str) -> None:
    found = [
        f"{module.where}:{each.line}"
        for module, each in _each(package)
        if each.module == package and module.path.name != "__init__.py"
    ]
    assert not found, _told(found, f"import the module that has the name, not {package} itself:")


def test_an_init_module_holds_no_logic() -> None:
    plain = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    lazy = {"corten/__init__.py", "corten/cli/__init__.py"}  # names on demand: a command imports only what it needs
    found = [
        f"{module.where}:{node.lineno}"
        for module in sources.modules()
        if module.path.name == "__init__.py" and module.where.removeprefix("client/") not in lazy
        for node in module.tree().body
        if not isinstance(node, plain)
    ]
    assert not found, _told(found, "an __init__.py names things; it does nothing:")
