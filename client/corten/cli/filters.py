"""`--filter key=value`: which keys a command knows, and the values given for each.

Owns the notation. Values of one key are alternatives (labels all have to match); keys all have to match.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from corten.cli.parameters import usage_error


def parse_filters(given: Iterable[str], known: Sequence[str]) -> dict[str, list[str]]:
    """Key -> values. Raises click.UsageError for a key that is not `known`."""
    found: dict[str, list[str]] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key not in known:
            raise usage_error(f'"{text}" is no filter: write KEY=VALUE with one of {", ".join(known)}')
        found.setdefault(key, []).append(value)
    return found


def label_matches(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Whether every `key` is there and every `key=value` is so."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def truth(key: str, values: Iterable[str]) -> bool | None:
    """The last of "true" and "false"; None where none is given. Raises click.UsageError."""
    found = None
    for value in values:
        if value.lower() not in ("true", "false", "1", "0"):
            raise usage_error(f'filter {key} is true or false, not "{value}"')
        found = value.lower() in ("true", "1")
    return found
