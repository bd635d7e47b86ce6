"""The container's log: CRI text lines in segments of bounded size and number.

Owns the files `log` (current), `log.1` (older), ... in one directory. A line is `TIME stdout|stderr F|P DATA`; P marks
data that no newline ended. Bytes are kept as they came. What the disk does not take is dropped and counted, and never
torn: a segment ends with a whole line.
Source: kubernetes, cri-api design note "CRI: log format".
"""

from __future__ import annotations

import os
import time

STDOUT, STDERR = b"stdout", b"stderr"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


def format_chunk(data: bytes, stream: bytes, stamp: bytes) -> bytes:
    """`data` as log lines, all with the time `stamp`."""
    lead = stamp + b" " + stream
    body, newline, rest = data.rpartition(b"\n")
    out = b""
    if newline:
        full = lead + b" F "
        out = full + body.replace(b"\n", b"\n" + full) + b"\n"
    if rest:
        out += lead + b" P " + rest + b"\n"
    return out


def timestamp(now_ns: int) -> bytes:
    """`now_ns` since the epoch as RFC 3339 with nanoseconds, in UTC."""
    seconds, nanos = divmod(now_ns, 1_000_000_000)
    return b"%s.%09dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode(), nanos)


class LogFile:
    """Appends to the log. Never raises for a disk that is full or gone; see `lost_bytes`."""

    __slots__ = ("_directory", "_fd", "_max_bytes", "_max_files", "_size", "lost_bytes")

    def __init__(self, directory: str, *, max_bytes: int = 0, max_files: int = 0) -> None:
        """`max_bytes` of one segment (0: never rotate), `max_files` segments at most, the current one included.

        Raises OSError where the log cannot be opened at all.
        """
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_files = max(1, max_files)
        self.lost_bytes = 0
        self._fd = -1
        self._size = 0
        self._open()

    def append(self, data: bytes, stream: bytes) -> None:
        """Log one chunk of output."""
        lines = format_chunk(data, stream, timestamp(time.time_ns()))
        position = 0
        try:
            while position < len(lines):
                end = self._fitting(lines, position)
                if end == position:
                    self._rotate()
                else:
                    self._write(memoryview(lines)[position:end])
                    position = end
        except OSError:
            self.lost_bytes += len(data)

    def reopen(self) -> None:
        """Open `log` anew by its name: someone else renamed it. Raises OSError and keeps the old one."""
        self._open()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _path(self, segment: int) -> str:
        return f"{self._directory}/log.{segment}" if segment else f"{self._directory}/log"

    def _open(self) -> None:
        fd = os.open(self._path(0), _FLAGS, 0o640)
        self.close()
        self._fd = fd
        self._size = os.fstat(fd).st_size

    def _fitting(self, lines: bytes, position: int) -> int:
        """Where the whole lines from `position` on end that still go into this segment; an empty one takes any line."""
        room = self._max_bytes - self._size
        if not self._max_bytes or len(lines) - position <= room:
            return len(lines)
        end = lines.rfind(b"\n", position, position + max(room, 0)) + 1
        if end:
            return end
        return position if self._size else lines.index(b"\n", position) + 1

    def _write(self, lines: memoryview) -> None:
        if self._fd < 0:
            self._open()
        written = os.write(self._fd, lines)
        if written != len(lines):
            os.ftruncate(self._fd, self._size)
            raise OSError("the disk took only a part")
        self._size += written

    def _rotate(self) -> None:
        """Make `log` the first of the older segments; the oldest beyond the count goes."""
        if os.path.exists(self._path(0)):  # not where the last rotation failed half-way
            if self._max_files == 1:
                os.unlink(self._path(0))
            for segment in range(self._max_files - 1, 0, -1):
                if os.path.exists(self._path(segment - 1)):
                    os.rename(self._path(segment - 1), self._path(segment))
        self._open()
