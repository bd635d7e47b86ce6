"""Signals as users name them.

Owns the names. Source: signal(7).
"""

from __future__ import annotations

import re
import signal

from corten_api.errors import InvalidArgument

_REALTIME = re.compile(r"RT(MIN|MAX)(?:([+-])(\d{1,2}))?")


def parse(text: str) -> int:
    """The number of "SIGTERM", "TERM", "term", "15" or "RTMIN+3". Raises InvalidArgument."""
    if text.isdecimal():
        number = int(text)
        if 1 <= number <= 64:
            return number
        raise InvalidArgument("signal", text, "1 to 64 is possible")
    name = text.upper().removeprefix("SIG")
    realtime = _REALTIME.fullmatch(name)
    if realtime is not None:
        base = 34 if realtime[1] == "MIN" else 64
        offset = int(realtime[3] or 0)
        number = base - offset if realtime[2] == "-" else base + offset
        if 34 <= number <= 64:
            return number
    known = getattr(signal, f"SIG{name}", None)
    if isinstance(known, signal.Signals):
        return int(known)
    raise InvalidArgument("signal", text, 'a name such as "SIGTERM" or "TERM", or a number from 1 to 64, is needed')
