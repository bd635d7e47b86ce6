"""Documentation names commands and flags that exist. That they work is for `tests/integration`."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from corten.cli.main import cli

from tests.support.paths import CHECKOUT

_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
_WHERE = [CHECKOUT / "README.md"]


def _commands() -> list[list[str]]:
    lines = [line for path in _WHERE for block in _BLOCK.findall(path.read_text()) for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("corten ")]


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_a_documented_command_exists_with_its_flags(words: list[str]) -> None:
    context = click.Context(cli, info_name="corten")
    command = cli.get_command(context, words[1])
    assert command is not None, f"there is no `corten {words[1]}`"
    try:
        command.make_context(words[1], list(words[2:]), parent=context)
    except click.UsageError as error:
        pytest.fail(f"`{' '.join(words)}`: {error.format_message()}")


def test_programs_of_the_checkout_that_are_documented_exist() -> None:
    named = {
        word
        for path in (*_WHERE, *sorted((CHECKOUT / "docs").glob("*.md")))
        for word in re.findall(r"`((?:deploy|tests|\.ci)/[\w/]+)", path.read_text())
    }
    missing = sorted(word for word in named if not any((CHECKOUT / f"{word}{end}").exists() for end in ("", ".py")))
    assert not missing, f"documentation names what is not there: {', '.join(missing)}"


def test_every_command_of_the_table_can_be_imported() -> None:
    context = click.Context(cli, info_name="corten")
    for name in cli.list_commands(context):
        assert cli.get_command(context, name) is not None, name
