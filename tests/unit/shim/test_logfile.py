"""The log: CRI lines, segments of bounded size and number, a disk that is full."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
from corten_shim.logfile import STDERR, STDOUT, LogFile, format_chunk, timestamp
from hypothesis import given
from hypothesis import strategies as st

LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP]) ([^\n]*)\n")


def parsed(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """(stream, tag, data) of every line; fails where anything is not a line."""
    lines = [(m[2], m[3], m[4]) for m in LINE.finditer(data)]
    assert sum(len(m[0]) for m in LINE.finditer(data)) == len(data)
    return lines


def test_times_are_rfc3339_with_nanoseconds() -> None:
    assert timestamp(1_700_000_000_000_000_042) == b"2023-11-14T22:13:20.000000042Z"


@given(st.lists(st.binary(max_size=60).map(lambda data: data.replace(b"\x01", b"\n")), max_size=10))
def test_the_bytes_of_the_output_can_be_put_together_again(chunks: list[bytes]) -> None:
    text = b"".join(format_chunk(chunk, STDOUT, timestamp(0)) for chunk in chunks)
    found = b"".join(data + (b"\n" if tag == b"F" else b"") for _stream, tag, data in parsed(text))
    assert found == b"".join(chunks)


def test_partial_lines_are_marked_and_streams_named(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path))
    log.append(b"one\ntwo", STDOUT)
    log.append(b" more\n", STDOUT)
    log.append(b"\r\x00\xff\n", STDERR)
    log.close()
    assert parsed((tmp_path / "log").read_bytes()) == [
        (b"stdout", b"F", b"one"),
        (b"stdout", b"P", b"two"),
        (b"stdout", b"F", b" more"),
        (b"stderr", b"F", b"\r\x00\xff"),
    ]


@pytest.mark.parametrize("files", [1, 2, 4])
def test_segments_are_bounded_in_size_and_number_and_hold_the_last_lines(tmp_path: Path, files: int) -> None:
    log = LogFile(str(tmp_path), max_bytes=1000, max_files=files)
    lines = [b"line %05d" % number for number in range(500)]
    for start in range(0, 500, 50):
        log.append(b"\n".join(lines[start : start + 50]) + b"\n", STDOUT)
    log.close()
    names = ["log"] + [f"log.{segment}" for segment in range(1, files)]
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert all((tmp_path / name).stat().st_size <= 1000 for name in names)
    found = [data for name in reversed(names) for _s, _t, data in parsed((tmp_path / name).read_bytes())]
    assert found == lines[-len(found) :]


def test_a_line_longer_than_a_segment_has_one_for_itself(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path), max_bytes=200, max_files=3)
    log.append(b"a\n" + b"x" * 5000 + b"\nb\n", STDOUT)
    log.close()
    assert [data[:1] for _s, _t, data in parsed((tmp_path / "log.1").read_bytes())] == [b"x"]
    assert log.lost_bytes == 0


def test_a_log_that_exists_is_continued(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        log = LogFile(str(tmp_path))
        log.append(text, STDOUT)
        log.close()
    assert [data for _s, _t, data in parsed((tmp_path / "log").read_bytes())] == [b"one", b"two"]


def test_after_a_rename_by_others_reopen_writes_to_the_name_again(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path))
    log.append(b"one\n", STDOUT)
    (tmp_path / "log").rename(tmp_path / "kept")
    log.append(b"two\n", STDOUT)
    log.reopen()
    log.append(b"three\n", STDOUT)
    log.close()
    assert [data for _s, _t, data in parsed((tmp_path / "kept").read_bytes())] == [b"one", b"two"]
    assert [data for _s, _t, data in parsed((tmp_path / "log").read_bytes())] == [b"three"]


def test_on_a_full_disk_output_is_dropped_counted_and_never_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogFile(str(tmp_path))
    log.append(b"before\n", STDOUT)
    write = os.write
    room = [20]

    def full(fd: int, data: bytes) -> int:
        taken, room[0] = room[0], 0
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:taken])

    monkeypatch.setattr(os, "write", full)
    log.append(b"torn\n", STDOUT)
    log.append(b"gone\n", STDOUT)
    monkeypatch.setattr(os, "write", write)
    log.append(b"after\n", STDOUT)
    log.close()
    assert log.lost_bytes == 10
    assert [data for _s, _t, data in parsed((tmp_path / "log").read_bytes())] == [b"before", b"after"]


def test_a_log_directory_that_vanished_is_a_loss_of_log_and_no_more(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    log = LogFile(str(directory), max_bytes=100, max_files=2)
    log.append(b"x" * 50 + b"\n", STDOUT)
    (directory / "log").unlink()
    directory.rmdir()
    log.append(b"y" * 50 + b"\n", STDOUT)
    log.append(b"z" * 50 + b"\n", STDOUT)
    log.close()
    assert log.lost_bytes == 102
