"""Bytes of unknown origin put into an unnamed file, and decompressed there within limits.

Owns the temporary files of a load: they have no name, so that nothing is left of them whatever happens.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, cast

import zstandard
from corten_api.errors import CortenError, InvalidArgument, ResourceExhausted
from isal import igzip

from cortend.registry.settled import settled

_CHUNK = 1 << 20
_MAX_BYTES = 256 << 30
_RATIO_FLOOR = 1 << 30
_MAX_RATIO = 200
_MAX_WINDOW = 1 << 27
_MAGICS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


async def spool(stream: AsyncIterator[bytes], directory: Path) -> BinaryIO:
    """A file with all of `stream`, decompressed where it is gzip or zstd. The caller closes it.

    Raises InvalidArgument for other compressions and damaged ones, ResourceExhausted for a full disk or a bomb.
    """
    file = _unnamed(directory)
    try:
        size = 0
        async for data in stream:
            size += len(data)
            if size > _MAX_BYTES:
                raise ResourceExhausted("image archive", "", f"is larger than {_MAX_BYTES} bytes")
            await settled(_write, file, data)
        magic = os.pread(file.fileno(), 8, 0)
        if not (magic.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))):
            _refuse_unknown(magic)
            return file
        plain = await settled(_decompressed, file, size, directory, magic.startswith(b"\x1f\x8b"))
    except BaseException:
        file.close()
        raise
    file.close()
    return plain


def _refuse_unknown(magic: bytes) -> None:
    if not magic:
        raise InvalidArgument("image archive", "", "is empty")
    for start, name in _MAGICS.items():
        if magic.startswith(start):
            raise InvalidArgument("image archive", "", f"is compressed with {name}; gzip and zstd are understood")


def _decompressed(file: BinaryIO, compressed: int, directory: Path, is_gzip: bool) -> BinaryIO:
    """A new file with what `file` holds."""
    file.seek(0)
    plain = _unnamed(directory)
    limit = min(_MAX_BYTES, max(_RATIO_FLOOR, compressed * _MAX_RATIO))
    try:
        reader = _reader(file, is_gzip)
        size = 0
        while data := reader.read(_CHUNK):
            size += len(data)
            if size > limit:
                detail = f"unpacks to more than {limit} bytes from {compressed}: it looks like a decompression bomb"
                raise ResourceExhausted("image archive", "", detail)
            _write(plain, data)
    except BaseException as error:
        plain.close()
        if isinstance(error, CortenError) or not isinstance(error, Exception):
            raise
        raise InvalidArgument("image archive", "", f"is damaged: {error}") from error
    return plain


def _unnamed(directory: Path) -> BinaryIO:
    return cast("BinaryIO", tempfile.TemporaryFile(dir=directory, buffering=0))


def _reader(file: BinaryIO, is_gzip: bool) -> BinaryIO:
    if is_gzip:
        return cast("BinaryIO", igzip.open(file, "rb"))  # type: ignore[no-untyped-call]
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    return cast("BinaryIO", decompressor.stream_reader(file, read_across_frames=True, closefd=False))


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        detail = "the disk is full" if full else f"it cannot be put on disk: {error.strerror}"
        raise ResourceExhausted("image archive", "", detail) from error
