"""Tar archives as a stream of entries.

Owns the order of blocks: long names, pax headers, sparse maps, padding, the end. What a header means is `tar_header`'s,
where the bytes come from `source`'s. The body of an entry is read with `body`; what is left of it is skipped.

Imported by the confined worker: standard library only, plain classes.
"""

from __future__ import annotations

from collections.abc import Iterator

from cortend.layers import tar_header
from cortend.layers.source import Source
from cortend.layers.tar_header import BLOCK, Entry, TarError

MAX_METADATA = 1 << 20  # of one pax header
MAX_LONG_NAME = 64 << 10
_ZERO = bytes(BLOCK)


class TarReader:
    """Reads one archive from front to back. `current` is the name of the entry at hand, for messages."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = 0  # of the body at hand
        self._padding = 0
        self.current = b""

    def entries(self) -> Iterator[Entry]:
        """Every member. Raises TarError for what is malformed, EOFError where the archive breaks off."""
        while True:
            entry = self._next()
            if entry is None:
                self._finish()
                return
            yield entry

    def body(self) -> Iterator[memoryview]:
        """The body of the entry at hand, in pieces."""
        while self._left:
            piece = self._source.some(self._left)
            self._left -= len(piece)
            yield piece

    def _next(self) -> Entry | None:
        """The next entry with everything said about it; None at the end."""
        records: list[tuple[bytes, bytes]] = []
        long_name = long_link = None
        while True:
            self._skip()
            block = self._source.block()
            if block is None or block == _ZERO:
                if records or long_name or long_link:
                    raise TarError("ends behind an extended header")
                return None
            entry = tar_header.parse(block)
            self._enter(entry.size)
            if entry.kind == tar_header.PAX:
                records = tar_header.parse_pax(self._metadata(entry.size, MAX_METADATA))
            elif entry.kind == tar_header.PAX_GLOBAL:
                tar_header.parse_pax(self._metadata(entry.size, MAX_METADATA))
            elif entry.kind == tar_header.GNU_NAME:
                long_name = self._metadata(entry.size, MAX_LONG_NAME).partition(b"\0")[0]
            elif entry.kind == tar_header.GNU_LINK:
                long_link = self._metadata(entry.size, MAX_LONG_NAME).partition(b"\0")[0]
            else:
                break
        if long_name is not None:
            entry.name = long_name
        if long_link is not None:
            entry.link = long_link
        self.current = entry.name
        if entry.kind == tar_header.GNU_SPARSE:
            self._old_sparse(entry, block)
        if records:
            tar_header.apply_pax(entry, records)
            self.current = entry.name
            self._enter(entry.size)
            if entry.sparse == [] and entry.real_size and any(key == b"GNU.sparse.major" for key, _ in records):
                self._sparse_1_0(entry)
        return entry

    def _enter(self, size: int) -> None:
        self._left = size
        self._padding = -size % BLOCK

    def _skip(self) -> None:
        for _ in self.body():
            pass
        left, self._padding = self._padding, 0
        while left:
            try:
                left -= len(self._source.some(left))
            except EOFError:
                return  # some writers end with the last body: nothing is missing then, and `block` tells the end

    def _metadata(self, size: int, limit: int) -> bytes:
        if size > limit:
            raise TarError(f"has an extended header of {size} bytes; {limit} are allowed")
        self._left = 0
        return self._source.take(size)

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        pieces = tar_header.old_gnu_sparse(block, 386, 4)
        real_size = tar_header.number(block[483:495], "sparse size")
        more = block[482]
        while more:
            extension = self._source.take(BLOCK)
            pieces += tar_header.old_gnu_sparse(extension, 0, 21)
            if len(pieces) > tar_header.MAX_SPARSE_PIECES:
                raise TarError("has a sparse map of too many pieces")
            more = extension[504]
        entry.kind = tar_header.FILE
        tar_header.check_sparse(entry, pieces, real_size)

    def _sparse_1_0(self, entry: Entry) -> None:
        """The map leads the body: decimal numbers, one a line, filled up to whole blocks."""
        numbers: list[int] = []
        rest = b""
        wanted = 1
        while len(numbers) < wanted:
            if self._left < BLOCK:
                raise TarError("has a sparse map that breaks off")
            *lines, rest = (rest + self._source.take(BLOCK)).split(b"\n")
            self._left -= BLOCK
            entry.size -= BLOCK
            for line in lines[: wanted - len(numbers)] if numbers else lines:
                if len(numbers) < wanted:
                    numbers.append(tar_header.decimal(line, "sparse map"))
                wanted = 1 + 2 * numbers[0]
            if wanted > 2 * tar_header.MAX_SPARSE_PIECES or len(rest) > BLOCK:
                raise TarError("has a malformed sparse map")
        pieces = list(zip(numbers[1::2], numbers[2::2], strict=True))
        tar_header.check_sparse(entry, pieces, entry.real_size)

    def _finish(self) -> None:
        """Behind the end mark nothing but zeros may follow."""
        self.current = b""
        while (block := self._source.block()) is not None:
            if block != _ZERO:
                raise TarError("has data behind its end")
