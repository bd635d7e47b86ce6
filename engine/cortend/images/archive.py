"""The members of a tar archive that lies in a file: where each one's bytes are.

Owns reading headers (ustar, GNU long names, pax) with limits on all of them. Names are only keys: nothing is ever
opened by them. What the members mean is `load`'s.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass

from corten_api.errors import InvalidArgument

_BLOCK = 512
_MAX_ENTRIES = 200_000
_MAX_NAME = 4096
_MAX_EXTENDED = 1 << 20
_MAX_HOPS = 8
_REGULAR, _LINKS, _DIRECTORY = (b"0", b"\0", b"7"), (b"1", b"2"), b"5"


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file: `size` bytes from `offset` on; or a link, to the name `target`."""

    offset: int
    size: int
    target: str = ""


@dataclass(slots=True)
class _Extended:
    """What extended headers said about the next entry."""

    path: str | None = None
    link: str | None = None
    size: int | None = None


class Archive:
    """An indexed archive. `file` stays the caller's, and must not change."""

    def __init__(self, file: int, size: int) -> None:
        """Read every header. Raises InvalidArgument for what is no tar archive, or a hostile one."""
        self._file = file
        self._size = size
        self._members: dict[str, Member] = {}
        self._index()

    def find(self, name: str) -> Member | None:
        """The regular file of that name, through links within the archive; None where there is none."""
        name = _normalised(name)
        for _ in range(_MAX_HOPS):
            member = self._members.get(name)
            if member is None or not member.target:
                return member
            name = member.target
        return None

    def member(self, name: str) -> Member:
        """As `find`; raises InvalidArgument naming what is missing."""
        found = self.find(name)
        if found is None:
            raise _bad(f'has no file "{name}"')
        return found

    def read(self, name: str, limit: int) -> bytes:
        """A small member, whole."""
        member = self.member(name)
        if member.size > limit:
            raise _bad(f'"{name}" is larger than {limit} bytes')
        return self.chunk(member, 0, member.size)

    def chunk(self, member: Member, offset: int, length: int) -> bytes:
        """Up to `length` bytes of a member from `offset` on; b"" at its end."""
        return os.pread(self._file, min(length, member.size - offset), member.offset + offset)

    def _index(self) -> None:
        position, entries, extended = 0, 0, _Extended()
        while header := os.pread(self._file, _BLOCK, position):
            if len(header) < _BLOCK:
                raise _bad("ends in the middle of a header")
            if not any(header):
                return
            entries += 1
            if entries > _MAX_ENTRIES:
                raise _bad(f"has more than {_MAX_ENTRIES} entries")
            size = _checked_size(header, position)
            kind = header[156:157]
            data = position + _BLOCK
            if kind in (b"x", b"L", b"K"):
                self._extend(extended, kind, data, size)
            elif kind != b"g":
                size = size if extended.size is None else extended.size
                self._add(header, kind, data, size, extended)
                extended = _Extended()
            if data + size > self._size:
                raise _bad(f"is cut off: the entry at {position} is longer than what is left")
            position = data + -(-size // _BLOCK) * _BLOCK
        if not entries:
            raise _bad("is empty")

    def _add(self, header: bytes, kind: bytes, data: int, size: int, extended: _Extended) -> None:
        name = _normalised(extended.path if extended.path is not None else _name(header))
        if kind in _REGULAR:
            self._members[name] = Member(data, size)
        elif kind in _LINKS:
            target = extended.link if extended.link is not None else _text(header[157:257])
            base = posixpath.dirname(name) if kind == b"2" else ""
            self._members[name] = Member(0, 0, _normalised(posixpath.join(base, target)))
        elif kind == b"S":
            raise _bad(f'"{name}" is stored as a sparse file, which is not understood here')

    def _extend(self, extended: _Extended, kind: bytes, data: int, size: int) -> None:
        if size > _MAX_EXTENDED:
            raise _bad(f"has an extended header of {size} bytes")
        content = os.pread(self._file, size, data)
        if kind == b"L":
            extended.path = _text(content)
        elif kind == b"K":
            extended.link = _text(content)
        else:
            for key, value in _records(content):
                if key == b"path":
                    extended.path = _text(value)
                elif key == b"linkpath":
                    extended.link = _text(value)
                elif key == b"size":
                    extended.size = _number(value, 10)
                elif key.startswith(b"GNU.sparse"):
                    raise _bad("has a sparse file, which is not understood here")


def _checked_size(header: bytes, position: int) -> int:
    """The size that a header tells, once its checksum is right."""
    total = sum(header[:148]) + 8 * 32 + sum(header[156:])
    checksum = header[148:156].strip(b" \0")
    if not checksum.isdigit() or _number(checksum, 8) != total:
        raise _bad("is not a tar archive" if position == 0 else f"has a damaged header at {position}")
    field = header[124:136]
    size = int.from_bytes(field[1:], "big") if field[0] == 0x80 else _number(field, 8)
    if size > 1 << 50:
        raise _bad(f"has an entry of {size} bytes")
    return size


def _number(field: bytes, base: int) -> int:
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if not digits.isdigit() or len(digits) > 20:
        raise _bad("has a header that cannot be read")
    try:
        return int(digits, base)
    except ValueError:
        raise _bad("has a header that cannot be read") from None


def _records(content: bytes) -> list[tuple[bytes, bytes]]:
    """pax records: "length key=value\\n"."""
    found = []
    while content:
        length, space, _ = content[:12].partition(b" ")
        size = _number(length, 10) if space else 0
        record = content[len(length) + 1 : size - 1]
        key, equals, value = record.partition(b"=")
        if not equals or size > len(content):
            raise _bad("has an extended header that cannot be read")
        found.append((key, value))
        content = content[size:]
    return found


def _name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _normalised(name: str) -> str:
    """One spelling of each name; "/" in front and ".." beyond the top mean nothing here."""
    if len(name) > _MAX_NAME:
        raise _bad(f'has a name of {len(name)} characters: "{name[:60]}..."')
    return posixpath.normpath("/" + name).lstrip("/")


def _bad(detail: str) -> InvalidArgument:
    return InvalidArgument("image archive", "", detail)
