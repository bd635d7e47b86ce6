"""The segments of a container's log on the disk: "log" is written, "log.1" is older, "log.2" older still.

Owns reading across a rotation: a segment is known by its inode, not by its name, so nothing is lost or read twice when
the shim renames them meanwhile. Blocks on the disk.
"""

from __future__ import annotations

import os
from pathlib import Path

CURRENT = "log"
_CHUNK = 256 << 10
_TRIES = 10

Identity = tuple[int, int]  # device, inode


class Segment:
    """One open segment."""

    def __init__(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.identity: Identity = (status.st_dev, status.st_ino)
        self._descriptor = descriptor
        self._offset = 0

    def read(self) -> bytes:
        """The next bytes, at most 256 KiB; empty at what is the end now."""
        data = os.pread(self._descriptor, _CHUNK, self._offset)
        self._offset += len(data)
        return data

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def block(self, start: int, length: int) -> bytes:
        """`length` bytes from `start`, without moving."""
        return os.pread(self._descriptor, length, start)

    def seek(self, offset: int) -> None:
        self._offset = offset

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SegmentCursor:
    """A place in the log that survives rotation. Close it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.segments: list[Segment] = _open_all(directory)

    @property
    def at_newest(self) -> bool:
        return len(self.segments) <= 1

    def read(self) -> tuple[bytes, bool]:
        """(the next bytes, whether they begin a segment); empty at the end of what is there now."""
        began = False
        while True:
            if not self.segments:
                self.segments = _open_all(self._directory)
                began = True
                if not self.segments:
                    return b"", began
            data = self.segments[0].read()
            if data:
                return data, began
            if not self._advance():
                return b"", began
            began = True

    def close(self) -> None:
        for segment in self.segments:
            segment.close()
        self.segments = []

    def _advance(self) -> bool:
        """Go on to the segment after the first one, which was read to its end; False when it is the newest."""
        done = self.segments[0]
        if len(self.segments) > 1:
            # It may have grown between the last read and the rotation that made the next one.
            late = done.size() > done._offset
            if not late:
                self.segments.pop(0).close()
            return True
        if _identity(self._directory / CURRENT) in (None, done.identity):
            return False
        if done.size() > done._offset:
            return True  # written before it was renamed: read that first
        newer = _newer_than(self._directory, done.identity)
        if not newer:
            return False
        done.close()
        self.segments = newer
        return True


def _identity(path: Path) -> Identity | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _names(directory: Path) -> list[str]:
    """Segment names, the oldest first."""
    try:
        found = os.listdir(directory)
    except FileNotFoundError:
        return []
    numbers = sorted((int(name[4:]) for name in found if name[:4] == "log." and name[4:].isdecimal()), reverse=True)
    return [*(f"log.{number}" for number in numbers), *([CURRENT] if CURRENT in found else [])]


def _open_all(directory: Path) -> list[Segment]:
    """All segments, the oldest first, as they were at one moment."""
    for _ in range(_TRIES):
        opened: list[Segment] = []
        for name in _names(directory):
            try:
                opened.append(Segment(os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)))
            except FileNotFoundError:
                break
        now = [_identity(directory / name) for name in _names(directory)]
        if now == [segment.identity for segment in opened]:
            return opened
        for segment in opened:
            segment.close()
    return []


def _newer_than(directory: Path, identity: Identity) -> list[Segment]:
    """The segments after the one known as `identity`; all, when that one was dropped meanwhile."""
    segments = _open_all(directory)
    known = [index for index, segment in enumerate(segments) if segment.identity == identity]
    if known:
        for segment in segments[: known[0] + 1]:
            segment.close()
        segments = segments[known[0] + 1 :]
    return segments
