"""The bytes of a layer's archive: unpacked and hashed in a thread, taken by the tar reader in another.

Owns decompression (gzip by isal, zstd, none), the diff id, and the limits on what may come out. Both halves release the
interpreter's lock for their heavy work, so that two cores are used. Imported by the confined worker.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import IO, cast

import zstandard
from isal import igzip_lib, isal_zlib

CHUNK = 1 << 20
_READ = 256 << 10
_DEPTH = 8
_TELL = 4 << 20
_MAX_ZSTD_WINDOW = 1 << 27
_BLOCK = 512
_GZIP_ERRORS = (cast("type[Exception]", isal_zlib.error), ValueError)


class SourceError(Exception):
    """`kind` names the error class ("DataLoss", "ResourceExhausted", ...), the text what is wrong with the blob."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Bounds:
    """What may come out of `size` compressed bytes."""

    __slots__ = ("max_bytes", "max_ratio", "ratio_floor", "size")

    def __init__(self, *, size: int, max_bytes: int, ratio_floor: int, max_ratio: int) -> None:
        self.size = size
        self.max_bytes = max_bytes
        self.ratio_floor = ratio_floor
        self.max_ratio = max_ratio

    def check(self, produced: int) -> None:
        """Raise where `produced` bytes are too many."""
        if produced > self.max_bytes:
            raise SourceError("ResourceExhausted", f"unpacks to more than {self.max_bytes} bytes")
        if produced > self.ratio_floor and produced > self.size * self.max_ratio:
            detail = f"unpacks to more than {self.max_ratio} times its {self.size} bytes: a decompression bomb"
            raise SourceError("ResourceExhausted", detail)


class Source:
    """The archive, front to back. `progress` is called with compressed bytes from the thread that unpacks."""

    def __init__(self, file: int, compression: str, bounds: Bounds, progress: Callable[[int], None]) -> None:
        self._file = file
        self._chunks: queue.Queue[bytes | BaseException | None] = queue.Queue(_DEPTH)
        self._hash = hashlib.sha256()
        self._bounds = bounds
        self._progress = progress
        self._data = b""
        self._view = memoryview(b"")
        self._position = 0
        self._ended = False
        self.size = 0  # bytes of archive so far
        self.consumed = 0  # compressed bytes so far
        self._thread = threading.Thread(target=self._produce, args=(compression,), daemon=True)
        self._thread.start()

    def block(self) -> bytes | None:
        """The next 512 bytes; None at the end. Raises EOFError where fewer are left."""
        position = self._position
        if position + _BLOCK <= len(self._data):
            self._position = position + _BLOCK
            return self._data[position : position + _BLOCK]
        if position == len(self._data) and not self._more():
            return None
        return self.take(_BLOCK)

    def take(self, length: int) -> bytes:
        """Exactly so many bytes, in one piece. Raises EOFError where fewer are left."""
        pieces = []
        while length:
            piece = self.some(length)
            length -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def some(self, limit: int) -> memoryview:
        """At least one byte and at most `limit`. Raises EOFError at the end."""
        if self._position == len(self._data) and not self._more():
            raise EOFError
        position = self._position
        piece = self._view[position : position + limit]
        self._position = position + len(piece)
        return piece

    def diff_id(self) -> str:
        """The sha256 of the whole archive; call it when everything was taken."""
        self._thread.join()
        return self._hash.hexdigest()

    def _more(self) -> bool:
        if self._ended:
            return False
        item = self._chunks.get()
        if item is None:
            self._ended = True
            return False
        if isinstance(item, BaseException):
            self._ended = True
            raise item
        self._data = item
        self._view = memoryview(item)
        self._position = 0
        return True

    def _produce(self, compression: str) -> None:
        try:
            for chunk in self._unpacked(compression):
                self.size += len(chunk)
                self._bounds.check(self.size)
                self._hash.update(chunk)
                self._chunks.put(chunk)
            self._chunks.put(None)
        except BaseException as error:  # whatever it is belongs to the thread that takes
            self._chunks.put(error)

    def _packed(self) -> Iterator[bytes]:
        told = 0
        while data := os.read(self._file, _READ):
            self.consumed += len(data)
            yield data
            if self.consumed - told >= _TELL:
                told = self.consumed
                self._progress(told)

    def _unpacked(self, compression: str) -> Iterator[bytes]:
        if compression == "gzip":
            return self._gunzip()
        if compression == "zstd":
            return self._unzstd()
        return self._packed()

    def _gunzip(self) -> Iterator[bytes]:
        """Every member of the stream, in pieces of a bounded size."""
        member = None
        try:
            for data in self._packed():
                while data or (member is not None and not member.eof and not member.needs_input):
                    if member is None:
                        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
                    chunk = member.decompress(data, CHUNK)
                    data = b""
                    if chunk:
                        yield chunk
                    if member.eof:
                        data = member.unused_data
                        member = None
        except _GZIP_ERRORS as error:
            raise SourceError("DataLoss", f"is no valid gzip stream: {error}") from None
        if member is not None:
            raise SourceError("DataLoss", "breaks off within its gzip stream")

    def _unzstd(self) -> Iterator[bytes]:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
        try:
            packed = cast("IO[bytes]", _Packed(self._packed()))
            with decompressor.stream_reader(packed, read_across_frames=True) as reader:
                while chunk := reader.read(CHUNK):
                    yield chunk
        except zstandard.ZstdError as error:
            raise SourceError("DataLoss", f"is no valid zstd stream: {error}") from None


class _Packed:
    """An iterator of bytes as something with `read`, as zstandard wants it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int = -1) -> bytes:
        """The next piece; `_READ` bytes at most whatever is asked for."""
        return next(self._pieces, b"")
