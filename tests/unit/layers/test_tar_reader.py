"""The tar reader by itself: what headers mean, and that no bytes whatever make it do anything but say what is wrong."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cortend.layers.source import Bounds, Source, SourceError
from cortend.layers.tar_header import Entry, TarError, number, parse, parse_pax, timestamp
from cortend.layers.tar_reader import TarReader
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.layers import Member, archive, directory, file, gzipped, hard_link, patched, symlink

BOUNDS = Bounds(size=1 << 20, max_bytes=64 << 20, ratio_floor=1 << 20, max_ratio=200)


@contextmanager
def source_of(data: bytes, compression: str = "none") -> Iterator[Source]:
    memory = os.memfd_create("layer")
    try:
        os.write(memory, data)
        os.lseek(memory, 0, os.SEEK_SET)
        yield Source(memory, compression, BOUNDS, lambda _: None)
    finally:
        os.close(memory)


def read(data: bytes, compression: str = "none") -> list[tuple[Entry, bytes]]:
    with source_of(data, compression) as source:
        reader = TarReader(source)
        try:
            return [(entry, b"".join(reader.body())) for entry in reader.entries()]
        finally:
            for _ in iter(source.block, None):  # the producer ends before its file is closed
                continue


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_tells_the_same(form: int) -> None:
    name = "d" * 90 + "/" + "f" * 60
    members = [
        directory("d" * 90),
        Member(name=name, data=b"body" * 300, mode=0o4711, uid=1234, gid=56, mtime=1_600_000_000),
        symlink("link", "target"),
        hard_link("hard", "link"),
        Member(name="dev", kind=tarfile.BLKTYPE, device=(8, 1)),
    ]
    found = read(archive(*members, form=form))
    assert [entry.name.rstrip(b"/").decode() for entry, _ in found] == [each.name for each in members]
    regular, body = found[1]
    assert (regular.mode, regular.uid, regular.gid, regular.mtime_ns) == (0o4711, 1234, 56, 1_600_000_000 * 10**9)
    assert body == b"body" * 300
    assert (found[2][0].link, found[3][0].link) == (b"target", b"link")
    assert (found[4][0].major, found[4][0].minor) == (8, 1)


def test_bodies_that_nobody_reads_are_skipped() -> None:
    with source_of(archive(file("a", b"x" * 5000), file("b"))) as source:
        assert [entry.name for entry in TarReader(source).entries()] == [b"a", b"b"]


def test_a_gzip_stream_of_many_pieces_is_whole() -> None:
    data = os.urandom(3 << 20)
    ((_, body),) = read(gzipped(archive(file("f", data))), "gzip")
    assert body == data


@pytest.mark.parametrize("missing", [0, 1, 511, 512])
def test_an_archive_may_end_with_the_data_of_its_last_entry(missing: int) -> None:
    whole = archive(file("a", b"first"), file("b", b"x" * 512 + b"y"))[: 512 * 2 + 512 * 3]
    cut = whole[: len(whole) - missing] if missing < 512 else whole[: 512 * 2 + 512 + 513]
    assert [(entry.name, len(body)) for entry, body in read(cut)] == [(b"a", 5), (b"b", 513)]


@pytest.mark.parametrize("left", [512 * 3 + 512, 512 * 3 + 1, 512 * 3, 512 * 2 + 100])
def test_an_archive_that_ends_within_an_entry_breaks_off(left: int) -> None:
    whole = archive(file("a", b"first"), file("b", b"x" * 512 + b"y"))
    with pytest.raises(EOFError):
        read(whole[:left])


def test_numbers_are_octal_or_base_256() -> None:
    assert number(b"0000755\0", "mode") == 0o755
    assert number(b"   755 \0", "mode") == 0o755
    assert number(b"\0" * 8, "mode") == 0
    assert number(b"\x80" + b"\0" * 6 + b"\x07", "mode") == 7
    assert number(b"\xff" * 12, "mtime", negative=True) == -1
    for field in (b"\xff" * 12, b"-0000001", b"0o000755", b"00000 75", b"\x80" + b"\xff" * 11):
        with pytest.raises(TarError):
            number(field, "size")


def test_times_have_nanoseconds_and_may_be_negative() -> None:
    assert timestamp(b"1.5") == 1_500_000_000
    assert timestamp(b"12.1234567899") == 12_123_456_789
    assert timestamp(b"-1.25") == -1_250_000_000
    for text in (b"", b"1e9", b"1.x", b"9" * 30, b"--1"):
        with pytest.raises(TarError):
            timestamp(text)


def test_pax_records_keep_their_order_and_bytes() -> None:
    assert parse_pax(b"9 a=b\xff=c\n9 a=defg\n") == [(b"a", b"b\xff=c"), (b"a", b"defg")]


def test_a_long_name_belongs_to_the_next_entry_only() -> None:
    found = read(archive(file("l" * 200), file("short"), form=tarfile.GNU_FORMAT))
    assert [entry.name for entry, _ in found] == [b"l" * 200, b"short"]


def test_an_extended_header_without_an_entry_is_refused() -> None:
    whole = archive(Member(name="x", pax=(("mtime", "1.5"),)))
    with pytest.raises(TarError, match="extended header"):
        read(whole[:1024] + bytes(1024))


def test_a_v7_header_with_a_slash_at_the_end_is_a_directory() -> None:
    block = patched(archive(file("d/"))[:512], (156, b"\0"), (257, bytes(8)))
    assert parse(block).kind == b"5"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_archives_are_refused_or_read_but_never_surprise(data: st.DataObject) -> None:
    whole = bytearray(
        archive(file("a" * 120, b"x" * 700), Member(name="b", pax=(("mtime", "1.5"), ("SCHILY.xattr.user.a", "b"))))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(whole) - 1))
        whole[position] = data.draw(st.integers(0, 255))
        start = position - position % 512
        if data.draw(st.booleans()):
            whole[start : start + 512] = patched(bytes(whole[start : start + 512]))
    try:
        read(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except (TarError, EOFError, SourceError):
        return


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000), st.sampled_from(["none", "gzip", "zstd"]))
def test_any_bytes_are_refused_or_read(data: bytes, compression: str) -> None:
    try:
        read(data, compression)
    except (TarError, EOFError, SourceError):
        return
