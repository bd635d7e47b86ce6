"""Logs: what a container wrote, read from its segments, from the end or the beginning, followed or not.

Owns filters and following. The format is `tasks.crilog`, rotation `tasks.segments`; the shim writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corten_shim.linux.inotify import DirectoryWatch

from cortend.domain.containers import ExitStatus
from cortend.tasks.crilog import LogEntry, LogParser
from cortend.tasks.segments import Segment, SegmentCursor

_BLOCK = 64 << 10
_BATCH_BYTES = 256 << 10
_PATIENCE = 5.0  # look again after so long even if inotify said nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """What is wanted. Neither stream: both. `tail` counts lines from the end, None: all."""

    stdout: bool = False
    stderr: bool = False
    since_ns: int | None = None
    until_ns: int | None = None
    tail: int | None = None

    def streams(self, entry: LogEntry) -> bool:
        return self.stdout == self.stderr or (entry.stdout if self.stdout else not entry.stdout)

    def wants(self, entry: LogEntry) -> bool:
        if self.since_ns is not None and entry.time_ns < self.since_ns:
            return False
        return self.streams(entry)

    def beyond(self, entry: LogEntry) -> bool:
        return self.until_ns is not None and entry.time_ns > self.until_ns


class LogReader:
    """The log of one container; every read has a place of its own in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def read(
        self, wanted: LogFilter, *, exited: asyncio.Future[ExitStatus] | None = None
    ) -> AsyncGenerator[list[LogEntry], None]:
        """Batches of entries in order; with `exited`, until that is done and everything was read."""
        watch = DirectoryWatch(str(self._directory)) if exited is not None and self._directory.is_dir() else None
        cursor = await asyncio.to_thread(SegmentCursor, self._directory)
        parser = LogParser()
        try:
            if wanted.tail is not None:
                await asyncio.to_thread(_seek_tail, cursor, wanted, wanted.tail)
            while True:
                last = exited is None or exited.done()
                while True:
                    batch, ended, more = await asyncio.to_thread(_next_batch, cursor, parser, wanted)
                    if batch:
                        yield batch
                    if ended:
                        return
                    if not more:
                        break
                if last or watch is None or exited is None:
                    return
                await _wait(watch, exited)
        finally:
            cursor.close()
            if watch is not None:
                watch.close()


def _next_batch(cursor: SegmentCursor, parser: LogParser, wanted: LogFilter) -> tuple[list[LogEntry], bool, bool]:
    """(entries, whether `until` was passed, whether more may be there)."""
    batch: list[LogEntry] = []
    size = 0
    while size < _BATCH_BYTES:
        data, began = cursor.read()
        if began:
            parser.reset()
        if not data:
            return batch, False, False
        size += len(data)
        for entry in parser.feed(data):
            if wanted.beyond(entry):
                return batch, True, False
            if wanted.wants(entry):
                batch.append(entry)
    return batch, False, True


def _seek_tail(cursor: SegmentCursor, wanted: LogFilter, lines: int) -> None:
    """Move to where the last `lines` lines of the wanted streams begin, reading from the end only."""
    left = lines
    for index in range(len(cursor.segments) - 1, -1, -1):
        segment = cursor.segments[index]
        offset, left = _tail_of(segment, wanted, left)
        if left <= 0 or index == 0:
            segment.seek(offset)
            for older in cursor.segments[:index]:
                older.close()
            cursor.segments = cursor.segments[index:]
            return


def _tail_of(segment: Segment, wanted: LogFilter, lines: int) -> tuple[int, int]:
    """(offset of the first of the last `lines` lines, how many are still wanted from older segments)."""
    end = segment.size()
    if lines <= 0:
        return end, 0
    parser = LogParser()
    carry = b""
    position = end
    found = 0
    while position > 0:
        start = max(0, position - _BLOCK)
        block = segment.block(start, position - start) + carry
        first = 0 if start == 0 else block.find(b"\n") + 1
        if first == 0 and start > 0:
            carry, position = block, start  # a line longer than a block
            continue
        stop = len(block)
        for line in reversed(block[first:].split(b"\n")):
            entry = parser.parse(line)
            if entry is not None and wanted.streams(entry) and entry.data.endswith(b"\n"):
                found += 1
                if found > lines:
                    return start + min(len(block), stop + 1), 0
            stop -= len(line) + 1
        carry, position = block[:first], start
    return 0, lines - found


async def _wait(watch: DirectoryWatch, exited: asyncio.Future[ExitStatus]) -> None:
    """Until something in the directory changed, or the process ended."""
    loop = asyncio.get_running_loop()
    changed: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not changed.done():
            changed.set_result(None)

    loop.add_reader(watch.fileno(), wake)
    waiting: set[asyncio.Future[Any]] = {changed, exited}
    try:
        await asyncio.wait(waiting, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(watch.fileno())
    watch.drain()
