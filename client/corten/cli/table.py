"""Tables, and rows by `--format`: one row a thing, its columns named as docker names them.

Owns alignment and the choice between a table, JSON lines and a template. What the columns hold is the commands'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_PADDING = 3
_MINIMUM = 10


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns at least 10 wide and 3 apart; the last one is as long as it is."""
    columns = max((len(row) for row in rows), default=0)
    widths = [
        max(_MINIMUM, _PADDING + max((len(row[at]) for row in rows if len(row) > at), default=0))
        for at in range(columns)
    ]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        lines.append("".join([*cells, *row[-1:]]).rstrip() if row else "")
    return lines


class Columns:
    """What a list shows: headings of every field, and the fields of its table."""

    def __init__(self, headings: Mapping[str, str], shown: Sequence[str]) -> None:
        self._headings = headings
        self._shown = shown

    def lines(self, rows: Iterable[Mapping[str, Any]], layout: str = "") -> list[str]:
        """The text of `rows`: a table, or as `layout` says: "json", "table TEMPLATE" or a template.

        Raises TemplateError (a ValueError).
        """
        if layout in ("", "table"):
            body = [[str(row[name]) for name in self._shown] for row in rows]
            return align([[self._headings[name] for name in self._shown], *body])
        from corten.cli.template import Template, unescape

        if layout == "json":
            from json import dumps

            return [dumps(row, ensure_ascii=False, separators=(",", ":"), default=str) for row in rows]
        as_table = layout.startswith("table ")
        template = Template(unescape(layout.removeprefix("table ")))
        if not as_table:
            return [template.render(row) for row in rows]
        cells = [template.render(row).split("\t") for row in [self._headings, *rows]]
        return align(cells)
