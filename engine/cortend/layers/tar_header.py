"""Tar headers: 512 bytes in, an `Entry` out; pax records and sparse maps likewise.

Owns the formats (v7, ustar, GNU, star, pax), strictly: what is malformed raises TarError. Reads nothing itself; the
order of blocks is `tar_reader`'s. Source: POSIX.1-2017 pax "ustar Interchange Format", GNU tar manual "Tar Internals".

Imported by the confined worker: standard library only, plain classes.
"""

from __future__ import annotations

import struct

BLOCK = 512
MAX_SECONDS = 1 << 40
MAX_ID = 0xFFFF_FFFE
MAX_SPARSE_PIECES = 1 << 20

FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
PAX, PAX_GLOBAL, GNU_NAME, GNU_LINK, GNU_SPARSE = b"x", b"g", b"L", b"K", b"S"
_KNOWN = {
    FILE,
    LINK,
    SYMLINK,
    CHARACTER,
    BLOCK_DEVICE,
    DIRECTORY,
    FIFO,
    PAX,
    PAX_GLOBAL,
    GNU_NAME,
    GNU_LINK,
    GNU_SPARSE,
}
_BODILESS = {LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO}

_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32x32x8s8s155s12x")
_SPACES = b" " * 8
_XATTR = b"SCHILY.xattr."


class TarError(Exception):
    """The archive is malformed; the text says how, beginning with a lower-case letter."""


class Entry:
    """One member. `size` bytes of body follow its header; a sparse file of `real_size` has its pieces in `sparse`."""

    __slots__ = (
        "gid", "kind", "link", "major", "minor", "mode", "mtime_ns",
        "name", "real_size", "size", "sparse", "uid", "xattrs",
    )  # fmt: skip

    def __init__(self, name: bytes, kind: bytes, size: int) -> None:
        self.name = name
        self.kind = kind
        self.size = size
        self.real_size = size
        self.link = b""
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.mtime_ns = 0
        self.major = 0
        self.minor = 0
        self.sparse: list[tuple[int, int]] | None = None
        self.xattrs: dict[bytes, bytes] | None = None


def parse(block: bytes) -> Entry:
    """Decode a header that is not all zeros."""
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, major, minor, prefix = _FIELDS.unpack(block)
    _verify_checksum(block, checksum)
    if kind in (b"\0", b"7"):
        kind = DIRECTORY if name.rstrip(b"\0").endswith(b"/") else FILE
    if kind not in _KNOWN:
        raise TarError(f"has the unknown type {kind!r}")
    name = name.partition(b"\0")[0]
    if magic == b"ustar\x0000":
        if block[508:512] == b"tar\0":
            prefix = prefix[:131]
        prefix = prefix.partition(b"\0")[0]
        if prefix:
            name = prefix + b"/" + name
    entry = Entry(name, kind, 0 if kind in _BODILESS else number(size, "size"))
    entry.real_size = entry.size
    entry.link = link.partition(b"\0")[0]
    entry.mode = number(mode, "mode") & 0o7777
    entry.uid = identity(number(uid, "uid"), "uid")
    entry.gid = identity(number(gid, "gid"), "gid")
    entry.mtime_ns = _seconds(number(mtime, "mtime", negative=True)) * 1_000_000_000
    if kind in (CHARACTER, BLOCK_DEVICE):
        entry.major = number(major, "device number")
        entry.minor = number(minor, "device number")
    return entry


def number(field: bytes, what: str, *, negative: bool = False) -> int:
    """An octal or base-256 field."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (len(field) * 8 - 1)) - 1)
        if field[0] & 0x40:
            value -= 1 << (len(field) * 8 - 1)
    else:
        digits = field.strip(b" \0")
        try:
            value = int(digits, 8) if digits else 0
        except ValueError:
            raise TarError(f"has the malformed {what} {field!r}") from None
        if not digits.isdigit() and digits:
            raise TarError(f"has the malformed {what} {field!r}")
    if value < 0 and not negative:
        raise TarError(f"has the negative {what} {value}")
    if value >= 1 << 62:
        raise TarError(f"has the {what} {value}, which is too large")
    return value


def identity(value: int, what: str) -> int:
    """A user or group id that the kernel has."""
    if not 0 <= value <= MAX_ID:
        raise TarError(f"has the {what} {value}, which does not fit into 32 bits")
    return value


def parse_pax(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records of a pax header, in order (the sparse format 0.0 repeats keys)."""
    records: list[tuple[bytes, bytes]] = []
    position, end = 0, len(data)
    while position < end:
        space = data.find(b" ", position, position + 20)
        digits = data[position:space] if space > 0 else b""
        length = int(digits) if digits.isdigit() else 0
        stop = position + length
        if stop > end or stop <= space + 2 or data[stop - 1] != 0x0A:
            if not data[position:].strip(b"\0"):
                break
            raise TarError("has a malformed pax header")
        key, equals, value = data[space + 1 : stop - 1].partition(b"=")
        if not equals or not key:
            raise TarError("has a malformed pax header")
        records.append((key, value))
        position = stop
    return records


def apply_pax(entry: Entry, records: list[tuple[bytes, bytes]]) -> None:
    """Let pax records overrule the header. An empty value means: as if it were not there."""
    sparse: list[tuple[bytes, bytes]] = []
    for key, value in records:
        if key.startswith(b"GNU.sparse."):
            sparse.append((key[11:], value))
        elif key.startswith(_XATTR):
            _add_xattr(entry, key[len(_XATTR) :], value)
        elif value:
            _apply_record(entry, key, value)
    if sparse and entry.kind == FILE:
        _apply_sparse(entry, sparse)


def _apply_record(entry: Entry, key: bytes, value: bytes) -> None:
    if key == b"path":
        entry.name = _path(value)
    elif key == b"linkpath":
        entry.link = _path(value)
    elif key == b"size":
        if entry.kind not in _BODILESS:
            entry.size = entry.real_size = decimal(value, "size")
    elif key == b"uid":
        entry.uid = identity(decimal(value, "uid"), "uid")
    elif key == b"gid":
        entry.gid = identity(decimal(value, "gid"), "gid")
    elif key == b"mtime":
        entry.mtime_ns = timestamp(value)


def decimal(value: bytes, what: str) -> int:
    """A decimal number without sign."""
    if not value.isdigit() or len(value) > 18:
        raise TarError(f"has the malformed {what} {value[:40]!r}")
    return int(value)


def timestamp(value: bytes) -> int:
    """Nanoseconds of "-12.345"; digits beyond the ninth are cut off."""
    negative = value.startswith(b"-")
    whole, _, fraction = value.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or len(whole) > 18 or not (fraction.isdigit() or not fraction):
        raise TarError(f"has the malformed time {value[:40]!r}")
    nanoseconds = _seconds(int(whole)) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if negative else nanoseconds


def check_sparse(entry: Entry, pieces: list[tuple[int, int]], real_size: int) -> None:
    """Take a sparse map: pieces in order, within the file, as long together as the body."""
    position = total = 0
    for offset, length in pieces:
        if offset < position or offset + length > real_size:
            raise TarError("has a sparse map that does not fit its size")
        position = offset + length
        total += length
    if total != entry.size:
        raise TarError("has a sparse map that does not fit its data")
    entry.sparse = [piece for piece in pieces if piece[1]]
    entry.real_size = real_size


def old_gnu_sparse(block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    """The used ones of `count` sparse descriptors at `start` of an old GNU header or its continuation."""
    pieces = []
    for index in range(start, start + 24 * count, 24):
        if not block[index : index + 24].strip(b"\0 "):
            break
        offset = number(block[index : index + 12], "sparse offset")
        pieces.append((offset, number(block[index + 12 : index + 24], "sparse length")))
    return pieces


def _apply_sparse(entry: Entry, records: list[tuple[bytes, bytes]]) -> None:
    """GNU.sparse 0.0 and 0.1; of 1.0 the map follows in the body (`tar_reader` reads it, told by [])."""
    values = dict(records)
    if values.get(b"name"):
        entry.name = _path(values[b"name"])
    if values.get(b"major") == b"1":
        entry.real_size = decimal(values.get(b"realsize", b""), "sparse size")
        entry.sparse = []
        return
    if b"map" in values:
        numbers = [decimal(each, "sparse map") for each in values[b"map"].split(b",") if each]
    else:
        numbers = [decimal(value, "sparse map") for key, value in records if key in (b"offset", b"numbytes")]
    if len(numbers) % 2 or len(numbers) > 2 * MAX_SPARSE_PIECES:
        raise TarError("has a malformed sparse map")
    pieces = list(zip(numbers[::2], numbers[1::2], strict=True))
    check_sparse(entry, pieces, decimal(values.get(b"size", b""), "sparse size"))


def _add_xattr(entry: Entry, name: bytes, value: bytes) -> None:
    if not name or len(name) > 255 or b"\0" in name:
        raise TarError("has a malformed extended attribute name")
    if len(value) > 65536:
        raise TarError(f"has an extended attribute of {len(value)} bytes")
    if entry.xattrs is None:
        entry.xattrs = {}
    entry.xattrs[name] = value


def _path(value: bytes) -> bytes:
    if b"\0" in value:
        raise TarError("has a path with a zero byte")
    return value


def _seconds(value: int) -> int:
    if not -MAX_SECONDS <= value <= MAX_SECONDS:
        raise TarError(f"has the time {value}, which no filesystem can store")
    return value


def _verify_checksum(block: bytes, field: bytes) -> None:
    said = number(field, "checksum")
    unsigned = sum(block) - sum(field) + 256
    if unsigned == said:
        return
    signed = unsigned - 256 * sum(byte >= 128 for byte in block[:148] + block[156:])
    if signed != said:
        raise TarError("has a header with a wrong checksum")
