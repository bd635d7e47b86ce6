"""Files and functions stay small enough to read: look again at 400 lines a file and at 60 a function, split by noun."""

from __future__ import annotations

import ast

from tests.house import sources

FILE_LINES = 400
FUNCTION_LINES = 60
# What may be longer, and why. Numbers are the lines it has now: it may shrink, not grow.
LONGER_FILES: dict[str, int] = {}
LONGER_FUNCTIONS: dict[str, int] = {}


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    sizes = {each.where: len(each.text.splitlines()) for each in sources.modules()}
    found = [
        f"  {where}: {lines} lines" for where, lines in sizes.items() if lines > LONGER_FILES.get(where, FILE_LINES)
    ]
    assert not found, "\n".join([f"longer than {FILE_LINES} lines; split by noun, never into `helpers`:", *found])


def test_no_function_is_longer_than_a_screen() -> None:
    found = []
    for module in sources.modules():
        for node in ast.walk(module.tree()):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGER_FUNCTIONS.get(f"{module.where}:{node.name}", FUNCTION_LINES):
                    found.append(f"  {module.where}:{node.lineno} {node.name}: {lines} lines")
    assert not found, "\n".join([f"functions longer than {FUNCTION_LINES} lines:", *found])


def test_what_may_be_longer_still_is() -> None:
    stale = [
        where
        for where in (*LONGER_FILES, *(each.partition(":")[0] for each in LONGER_FUNCTIONS))
        if where not in {each.where for each in sources.modules()}
    ]
    assert not stale, f"these exceptions name files that are gone: {', '.join(stale)}"
