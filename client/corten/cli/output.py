"""Rows to stdout, by `--format`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from corten.cli.parameters import usage_error
from corten.cli.table import Columns

F = TypeVar("F", bound=Callable[..., Any])


def format_option(command: F) -> F:
    """`--format`, of commands that list."""
    return click.option("--format", "layout", default="", metavar="TEMPLATE", help='"json", "table ..." or {{.Field}}')(
        command
    )


def filter_option(command: F) -> F:
    """`--filter`, of commands that list."""
    return click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Show only what matches")(
        command
    )


def show(columns: Columns, rows: Iterable[Mapping[str, Any]], layout: str) -> None:
    """Prints `rows`. Raises click.UsageError for a template that cannot be rendered."""
    try:
        lines = columns.lines(list(rows), layout)
    except ValueError as error:
        raise usage_error(f"--format: {error}") from None
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def render(layout: str, data: Mapping[str, Any]) -> str:
    """One thing by a template or "json". Raises click.UsageError."""
    if layout == "json":
        from json import dumps

        return dumps(data, ensure_ascii=False, separators=(",", ":"), default=str)
    from corten.cli.template import Template, unescape

    try:
        return Template(unescape(layout)).render(data)
    except ValueError as error:
        raise usage_error(f"--format: {error}") from None
