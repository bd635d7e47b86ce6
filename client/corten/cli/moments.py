"""Moments and spans of time as users write and read them.

Owns `10m`, `2026-01-02T15:04:05Z` and `3 minutes ago`. Times are nanoseconds since 1970 everywhere else.
"""

from __future__ import annotations

import time

SECOND = 1_000_000_000
_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d")


def parse_duration(text: str) -> int:
    """Nanoseconds of `1h30m`, `1.5s`, `250ms`; a day is `24h`. Raises ValueError."""
    total = 0.0
    rest = text.strip()
    if not rest:
        raise ValueError('"" is no duration: write it as 90s, 10m or 1h30m')
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("nuµmsh"))]
        rest = rest[len(unit) :]
        if unit not in _UNITS or not number.replace(".", "", 1).isdecimal():
            raise ValueError(f'"{text}" is no duration: write it as 90s, 10m or 1h30m')
        total += float(number) * _UNITS[unit]
    return int(total)


def parse_moment(text: str, *, now_ns: int | None = None) -> int:
    """A moment: seconds since 1970 (`1136073600.000000001`), RFC 3339 or a part of it (`2026-01-02`), or a span before
    now (`10m`). Without a zone it is local time. Raises ValueError.
    """
    stripped = text.strip()
    now = time.time_ns() if now_ns is None else now_ns
    seconds, _, nanos = stripped.partition(".")
    if seconds.isdecimal() and (nanos.isdecimal() or "." not in stripped):
        return int(seconds) * SECOND + int(nanos[:9].ljust(9, "0"))
    if "-" in stripped[1:]:
        return _calendar(stripped)
    try:
        return now - parse_duration(stripped)
    except ValueError:
        raise _no_moment(text) from None


def _no_moment(text: str) -> ValueError:
    return ValueError(f'"{text}" is no time: write 10m (ago), 2026-01-31T15:04:05 or seconds since 1970')


def _calendar(text: str) -> int:
    from datetime import datetime

    body, nanos = text.replace(" ", "T", 1), 0
    head, point, tail = body.partition(".")
    if point:
        digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
        nanos = int(digits[:9].ljust(9, "0")) if digits else 0
        body = head + tail[len(digits) :]
    for shape in _FORMATS:
        for zone in ("", "%z"):
            try:
                found = datetime.strptime(body, shape + zone)
            except ValueError:
                continue
            return int(found.timestamp()) * SECOND + nanos
    raise _no_moment(text)


def rfc3339(time_ns: int) -> str:
    """UTC with nine digits; empty for 0, which is never."""
    if not time_ns:
        return ""
    seconds, nanos = divmod(time_ns, SECOND)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanos:09d}Z"


def local(time_ns: int) -> str:
    """`2026-01-02 15:04:05 +0000 UTC`, as docker's CreatedAt."""
    if not time_ns:
        return "N/A"
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(time_ns // SECOND))


def span(nanoseconds: int) -> str:
    """A span in words, as docker says it: `3 minutes`, `About an hour`."""
    seconds = max(0, nanoseconds) // SECOND
    minutes, hours = seconds // 60, int(seconds / 3600 + 0.5)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    for unit, size in (("days", 24), ("weeks", 24 * 7), ("months", 24 * 30)):
        if hours < {"days": 24 * 14, "weeks": 24 * 60, "months": 24 * 365 * 2}[unit]:
            return f"{hours // size} {unit}"
    return f"{seconds // (3600 * 24 * 365)} years"


def ago(time_ns: int, now_ns: int | None = None) -> str:
    """`3 minutes ago`; `N/A` for never."""
    if not time_ns:
        return "N/A"
    return f"{span((time.time_ns() if now_ns is None else now_ns) - time_ns)} ago"
