"""The shape of the checkout, and what must not be in its text."""

from __future__ import annotations

import io
import re
import tokenize

import pytest

from tests.house import sources
from tests.support.paths import CHECKOUT

TOP = {
    "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md",
    "protos", "engine", "shim", "client", "tests", "deploy", "docs",
}  # fmt: skip
TEXT = {".py", ".md", ".toml", ".proto", ".yaml", ".yml", ".sh", ".cfg", ""}
# A home, a scratch checkout or an interpreter of one machine has no place in a file.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:Users/\w+|root/\.|work/|farm/)|\.pyenv/versions")
LATER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
ALSO_IN_THIS_FILE = "tests/house/test_layout.py"


def test_the_top_level_is_exactly_the_list() -> None:
    found = {path.relative_to(CHECKOUT).parts[0] for path in sources.files()}
    visible = {name for name in found if not name.startswith(".")}
    assert visible == TOP, f"missing: {sorted(TOP - visible)}; not expected: {sorted(visible - TOP)}"


@pytest.mark.parametrize("name", ["tests/run", ".ci/run", "deploy/quickstart"])
def test_a_command_of_the_checkout_can_be_run(name: str) -> None:
    path = CHECKOUT / name
    assert path.is_file(), f"{name} is missing"
    assert path.stat().st_mode & 0o111, f"{name} is not executable: git update-index --chmod=+x {name}"


def test_no_file_names_a_path_of_one_machine() -> None:
    found = []
    for path in sources.files():
        where = str(path.relative_to(CHECKOUT))
        if path.suffix in TEXT and where != ALSO_IN_THIS_FILE:
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                if MACHINE_PATH.search(line):
                    found.append(f"  {where}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(["paths of one machine:", *found])


def test_no_code_is_left_for_later() -> None:
    found = []
    for module in sources.modules():
        if module.where == ALSO_IN_THIS_FILE:
            continue
        tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
        found += [
            f"  {module.where}:{token.start[0]}: {token.string[:80]}"
            for token in tokens
            if (token.type == tokenize.COMMENT and LATER.search(token.string))
            or (token.type == tokenize.NAME and token.string == "NotImplementedError")
        ]
    assert not found, "\n".join(["do it, or write it down in docs/scope.md:", *found])


def test_every_module_says_what_it_owns() -> None:
    from ast import get_docstring

    found = [
        f"  {module.where}"
        for module in sources.modules()
        if module.path.name != "__init__.py" and not get_docstring(module.tree())
    ]
    assert not found, "\n".join(["modules without a docstring:", *found])


def test_markdown_links_lead_somewhere() -> None:
    found = []
    for path in sources.files():
        if path.suffix == ".md":
            for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
                if "://" not in target and not (path.parent / target).exists():
                    found.append(f"  {path.relative_to(CHECKOUT)}: {target}")
    assert not found, "\n".join(["links to files that are not there:", *found])
