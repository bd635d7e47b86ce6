"""`NAME=value` as users write it: environment, labels, ulimits, and the files that hold many of them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from corten.containers import Ulimit

_ULIMITS = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
)


def parse_environment(text: str, environ: Mapping[str, str] | None = None) -> str | None:
    """`NAME=value` as it is; a lone `NAME` with its value here, None where it has none. Raises ValueError."""
    name, equals, _ = text.partition("=")
    if not name or "\0" in text:
        raise ValueError(f'"{text}" is no variable: write NAME=value, or NAME to pass the value it has here')
    if equals:
        return text
    value = (os.environ if environ is None else environ).get(name)
    return None if value is None else f"{name}={value}"


def read_environment(path: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """The variables of a file: one a line, `#` at the start of a line is a comment. Raises ValueError."""
    found = []
    for number, line in _lines(path):
        name = line.partition("=")[0]
        if not name or any(c.isspace() for c in name):
            raise ValueError(f'{path}, line {number}: "{name}" is no name of a variable')
        variable = parse_environment(line, environ)
        if variable is not None:
            found.append(variable)
    return found


def parse_label(text: str) -> tuple[str, str]:
    """`key=value`, or a lone `key` with an empty value. Raises ValueError."""
    key, _, value = text.partition("=")
    if not key.strip():
        raise ValueError(f'"{text}" is no label: write KEY=VALUE')
    return key, value


def read_labels(path: str) -> list[tuple[str, str]]:
    """The labels of a file, one a line. Raises ValueError."""
    return [parse_label(line) for _, line in _lines(path)]


def parse_ulimit(text: str) -> Ulimit:
    """`nofile=1024:2048`, `nproc=512`, `core=unlimited`. Raises ValueError."""
    name, equals, limits = text.partition("=")
    if not equals or name not in _ULIMITS:
        known = ", ".join(sorted(_ULIMITS))
        raise ValueError(f'"{text}" is no ulimit: write NAME=SOFT[:HARD] with one of {known}')
    soft, _, hard = limits.partition(":")
    try:
        low = _limit(soft)
        high = _limit(hard) if hard else low
    except ValueError:
        raise ValueError(f'"{text}": a limit is a number, -1 or "unlimited"') from None
    if high != -1 and (low == -1 or low > high):
        raise ValueError(f'"{text}": the soft limit is above the hard one')
    return Ulimit(name=name, soft=low, hard=high)


def _limit(text: str) -> int:
    if text in ("unlimited", "-1"):
        return -1
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _lines(path: str) -> list[tuple[int, str]]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise ValueError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: it is not UTF-8") from None
    numbered = enumerate((line.lstrip() for line in lines), 1)
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]
