"""Logs: parsed, filtered, tailed from the end, followed across rotations."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from cortend.domain.containers import ExitStatus
from cortend.tasks.crilog import LogEntry, LogParser
from cortend.tasks.logs import LogFilter, LogReader
from cortend.tasks.segments import SegmentCursor

EPOCH = 1767322645_000000000  # 2026-01-02T02:57:25Z


def line(number: int, text: str = "", *, stream: str = "stdout", tag: str = "F") -> bytes:
    fraction = f"{number:09d}"
    return f"2026-01-02T02:57:25.{fraction}Z {stream} {tag} {text or number}\n".encode()


async def read(directory: Path, **wanted: object) -> list[LogEntry]:
    reader = LogReader(directory)
    return [entry async for batch in reader.read(LogFilter(**wanted)) for entry in batch]  # type: ignore[arg-type]


def texts(entries: list[LogEntry]) -> list[str]:
    return [entry.data.decode().rstrip("\n") for entry in entries]


def test_lines_become_entries_however_they_are_cut() -> None:
    data = line(1, "whole") + line(2, "part", tag="P") + line(3, "rest", stream="stderr") + line(4, " ")
    expected = [
        LogEntry(True, EPOCH + 1, b"whole\n"),
        LogEntry(True, EPOCH + 2, b"part"),
        LogEntry(False, EPOCH + 3, b"rest\n"),
        LogEntry(True, EPOCH + 4, b" \n"),
    ]
    for size in (1, 2, 7, 1000):
        parser = LogParser()
        found = [entry for at in range(0, len(data), size) for entry in parser.feed(data[at : at + size])]
        assert found == expected


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (b"2026-01-02T02:57:25Z", EPOCH),
        (b"2026-01-02T02:57:25.5Z", EPOCH + 500_000_000),
        (b"2026-01-02T03:57:25.000000007+01:00", EPOCH + 7),
        (b"yesterday", None),
        (b"2026-13-02T02:57:25Z", None),
    ],
)
def test_times_are_rfc_3339(time: bytes, expected: int | None) -> None:
    entry = LogParser().parse(time + b" stdout F x")
    assert (entry.time_ns if entry is not None else None) == expected


def test_what_is_no_log_line_is_skipped() -> None:
    parser = LogParser()
    assert texts(parser.feed(b"garbage\n" + line(1) + b"2026-01-02T02:57:25Z stdin F x\n\n" + line(2))) == ["1", "2"]


async def test_segments_are_read_from_the_oldest(tmp_path: Path) -> None:
    (tmp_path / "log.10").write_bytes(line(0) + line(1))
    (tmp_path / "log.2").write_bytes(line(2))
    (tmp_path / "log.1").write_bytes(line(3) + line(4))
    (tmp_path / "log").write_bytes(line(5))
    (tmp_path / "exit.json").write_bytes(b"{}")
    assert texts(await read(tmp_path)) == ["0", "1", "2", "3", "4", "5"]


async def test_a_container_without_a_log_has_no_entries(tmp_path: Path) -> None:
    assert await read(tmp_path / "none") == []
    assert await read(tmp_path, tail=5) == []


async def test_streams_and_times_filter(tmp_path: Path) -> None:
    data = b"".join(line(n, stream="stderr" if n % 2 else "stdout") for n in range(10))
    (tmp_path / "log").write_bytes(data)
    assert texts(await read(tmp_path, stdout=True)) == ["0", "2", "4", "6", "8"]
    assert texts(await read(tmp_path, stderr=True)) == ["1", "3", "5", "7", "9"]
    assert len(await read(tmp_path, stdout=True, stderr=True)) == 10
    assert texts(await read(tmp_path, since_ns=EPOCH + 7)) == ["7", "8", "9"]
    assert texts(await read(tmp_path, until_ns=EPOCH + 2)) == ["0", "1", "2"]
    assert texts(await read(tmp_path, stdout=True, tail=2)) == ["6", "8"]


@pytest.mark.parametrize("tail", [0, 1, 3, 999, 1000, 1001, 2500, 3000, 5000])
async def test_a_tail_is_the_last_lines_across_segments(tmp_path: Path, tail: int) -> None:
    padding = "x" * 100
    for name, start in (("log.2", 0), ("log.1", 1000), ("log", 2000)):
        (tmp_path / name).write_bytes(b"".join(line(n, f"{n} {padding}") for n in range(start, start + 1000)))
    found = [text.partition(" ")[0] for text in texts(await read(tmp_path, tail=tail))]
    assert found == [str(n) for n in range(max(0, 3000 - tail), 3000)]


async def test_a_tail_keeps_the_parts_of_a_long_line_together(tmp_path: Path) -> None:
    parts = line(2, "a" * 200_000, tag="P") + line(3, "b" * 200_000, tag="P") + line(4, "end")
    (tmp_path / "log").write_bytes(line(1, "first") + parts)
    found = await read(tmp_path, tail=1)
    assert b"".join(entry.data for entry in found) == b"a" * 200_000 + b"b" * 200_000 + b"end\n"


def test_a_tail_reads_only_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").write_bytes(b"".join(line(n, "x" * 200) for n in range(50_000)))
    taken = 0
    original = os.pread

    def counting(descriptor: int, length: int, offset: int) -> bytes:
        nonlocal taken
        data = original(descriptor, length, offset)
        taken += len(data)
        return data

    monkeypatch.setattr(os, "pread", counting)
    assert len(asyncio.run(read(tmp_path, tail=10))) == 10
    assert taken < 300_000


def test_a_cursor_survives_rotation_without_loss_or_repetition(tmp_path: Path) -> None:
    current = tmp_path / "log"
    current.write_bytes(line(0))
    cursor = SegmentCursor(tmp_path)
    found = b""

    def drain() -> None:
        nonlocal found
        while data := cursor.read()[0]:
            found += data

    drain()
    with current.open("ab") as file:
        file.write(line(1))
    for number in range(2, 20, 2):
        for older in range(4, 0, -1):
            if (tmp_path / f"log.{older}").exists():
                (tmp_path / f"log.{older}").rename(tmp_path / f"log.{older + 1}")
        current.rename(tmp_path / "log.1")
        current.write_bytes(line(number))
        if number % 3:
            drain()
        with current.open("ab") as file:
            file.write(line(number + 1))
    drain()
    cursor.close()
    assert found == b"".join(line(n) for n in range(20))


async def test_following_ends_with_the_task_and_misses_nothing(tmp_path: Path) -> None:
    exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
    (tmp_path / "log").write_bytes(line(0))
    found: list[LogEntry] = []

    async def follow() -> None:
        async for batch in LogReader(tmp_path).read(LogFilter(), exited=exited):
            found.extend(batch)

    following = asyncio.ensure_future(follow())
    for n in range(1, 200):
        if n % 20 == 0:
            for older in range(9, 0, -1):
                if (tmp_path / f"log.{older}").exists():
                    (tmp_path / f"log.{older}").rename(tmp_path / f"log.{older + 1}")
            (tmp_path / "log").rename(tmp_path / "log.1")
        with (tmp_path / "log").open("ab") as file:
            file.write(line(n))
        if n % 7 == 0:
            await asyncio.sleep(0.002)
    exited.set_result(ExitStatus(exit_code=0))
    await asyncio.wait_for(following, 5)
    assert texts(found) == [str(n) for n in range(200)]


async def test_a_follower_is_told_at_once(tmp_path: Path) -> None:
    exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
    (tmp_path / "log").write_bytes(b"")
    stream = LogReader(tmp_path).read(LogFilter(), exited=exited)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.1)
    with (tmp_path / "log").open("ab") as file:
        file.write(line(1))
    assert texts(await asyncio.wait_for(waiting, 1)) == ["1"]
    await stream.aclose()
