"""Detach keys: the sequence that leaves an attachment, found in input however it is cut.

Owns the notation (`ctrl-p,ctrl-q`, `a`, `ctrl-@`) and the matcher. Sans-IO.
"""

from __future__ import annotations

DEFAULT = "ctrl-p,ctrl-q"


def parse_keys(text: str) -> bytes:
    """The bytes of a sequence; empty for none. Raises ValueError."""
    out = bytearray()
    for key in filter(None, text.split(",")):
        if len(key) == 1 and key.isascii():
            out += key.encode()
            continue
        name = key.lower().removeprefix("ctrl-")
        if not key.lower().startswith("ctrl-") or len(name) != 1 or not ("a" <= name <= "z" or name in "@[\\]^_"):
            raise ValueError(f'"{text}": "{key}" is no key: write a character, or ctrl- with a-z, @, [, \\, ], ^ or _')
        out.append(ord(name.upper()) & 31)
    return bytes(out)


class DetachMatcher:
    """Feeds input through; holds back what may be the beginning of the sequence."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""
        self.detached = False

    def feed(self, data: bytes) -> bytes:
        """What goes to the process. After `detached` nothing does."""
        if not self._keys:
            return data
        if self.detached:
            return b""
        data = self._held + data
        found = data.find(self._keys)
        if found >= 0:
            self.detached = True
            self._held = b""
            return data[:found]
        length = next(
            (n for n in range(min(len(self._keys) - 1, len(data)), 0, -1) if data.endswith(self._keys[:n])), 0
        )
        self._held = data[len(data) - length :]
        return data[: len(data) - length]

    def finish(self) -> bytes:
        """What was held back, at the end of the input."""
        held, self._held = self._held, b""
        return held
