"""Types of options and arguments: parsers that raise ValueError, as click wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class Parsed(click.ParamType[Any]):
    """An option whose text is parsed by a function; its ValueError is the user's mistake."""

    def __init__(self, parse: Callable[[str], Any], name: str) -> None:
        self._parse = parse
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx=ctx, param=param) from None

    def __repr__(self) -> str:
        return self.name


def usage_error(text: str) -> click.UsageError:
    """A mistake that no single option made."""
    return click.UsageError(text, click.get_current_context(silent=True))
