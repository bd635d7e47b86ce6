"""The CRI text log format: `<RFC 3339 time> stdout|stderr F|P <data>` a line.

Owns turning bytes of a segment into entries. Sans-IO. Source: Kubernetes kubelet CRI logging design, "log format".
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import datetime

_SECONDS = slice(0, 19)  # "2026-01-02T03:04:05"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line with its newline, or a part of one without."""

    stdout: bool
    time_ns: int
    data: bytes


class LogParser:
    """Feed bytes as they were read, get whole entries. A line that is not of the format is skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._second = b""
        self._epoch_ns = 0

    def feed(self, data: bytes) -> list[LogEntry]:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        return [entry for line in lines if (entry := self.parse(line)) is not None]

    def reset(self) -> None:
        """Another segment begins: what was left of a half-written line is gone."""
        self._rest = b""

    def parse(self, line: bytes) -> LogEntry | None:
        """The entry of one line without its newline; None when it is not of the format."""
        parts = line.split(b" ", 3)
        if len(parts) != 4 or parts[1] not in (b"stdout", b"stderr"):
            return None
        time_ns = self._time(parts[0])
        if time_ns is None:
            return None
        whole = parts[2].partition(b":")[0] == b"F"
        return LogEntry(parts[1] == b"stdout", time_ns, parts[3] + b"\n" if whole else parts[3])

    def _time(self, text: bytes) -> int | None:
        if text[-1:] != b"Z":
            return _time_with_offset(text)
        second = text[_SECONDS]
        try:
            if second != self._second:
                moment = datetime.fromisoformat(second.decode("ascii"))
                self._second, self._epoch_ns = second, calendar.timegm(moment.timetuple()) * 1_000_000_000
            fraction = text[20:-1]
            return self._epoch_ns + (int(fraction.ljust(9, b"0")[:9]) if fraction else 0)
        except ValueError:
            return None


def _time_with_offset(text: bytes) -> int | None:
    try:
        moment = datetime.fromisoformat(text.decode("ascii"))
    except ValueError:
        return None
    whole = moment.replace(microsecond=0)
    fraction = text[20:].partition(b"+")[0].partition(b"-")[0] if text[19:20] == b"." else b""
    return int(whole.timestamp()) * 1_000_000_000 + (int(fraction.ljust(9, b"0")[:9]) if fraction.isdigit() else 0)
