"""The index of a tar archive, compared with what Python's tarfile writes, and fed with rubbish."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator

import pytest
from corten_api.errors import CortenError, InvalidArgument
from cortend.images.archive import Archive
from hypothesis import given
from hypothesis import strategies as st


def indexed(data: bytes) -> Iterator[Archive]:
    file = os.memfd_create("archive")
    try:
        os.write(file, data)
        yield Archive(file, len(data))
    finally:
        os.close(file)


def written(names: dict[str, bytes], form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as made:
        for name, data in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    st.dictionaries(
        st.text("abcdefghij/", min_size=1, max_size=90).filter(
            lambda name: name.strip("/") == name and "//" not in name
        ),
        st.binary(max_size=2000),
        max_size=8,
    )
)
def test_members_hold_what_was_written(form: int, names: dict[str, bytes]) -> None:
    for archive in indexed(written({"first": b"1", **names}, form)):
        for name, data in names.items():
            assert archive.read(name, 2000) == data


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(form: int) -> None:
    name = "d/" * 150 + "größe"
    for archive in indexed(written({name: b"x"}, form)):
        assert archive.read(name, 10) == b"x"


def test_names_are_keys_whatever_they_look_like() -> None:
    for archive in indexed(written({"./a/../b": b"x", "/c": b"y"}, tarfile.PAX_FORMAT)):
        assert archive.read("b", 10) == b"x"
        assert archive.read("c", 10) == b"y"
        assert archive.find("a") is None


@given(st.binary(max_size=3000))
def test_rubbish_is_refused_and_nothing_else(data: bytes) -> None:
    try:
        members = [archive.find("x") for archive in indexed(data)]
    except CortenError as error:
        assert type(error) is InvalidArgument  # noqa: PT017 (either outcome is right)
    else:
        assert members == [None]


@given(st.integers(0, 511), st.integers(0, 255))
def test_a_changed_header_is_refused_or_still_safe(position: int, value: int) -> None:
    data = bytearray(written({"name": b"content" * 100}, tarfile.PAX_FORMAT))
    data[position] = value
    try:
        for archive in indexed(bytes(data)):
            archive.find("name")
    except InvalidArgument as error:
        assert error.kind == "image archive"  # noqa: PT017 (either outcome is right)


@pytest.mark.parametrize("size", [b"77777777777\0", b"\x80" + b"\xff" * 11, b"\x80" + b"\0" * 7 + b"\xff" * 4])
def test_a_member_longer_than_the_archive_is_refused(size: bytes) -> None:
    data = bytearray(written({"name": b"content"}, tarfile.USTAR_FORMAT))
    data[124:136] = size
    data[148:156] = b"        "
    data[148:156] = b"%06o\0 " % sum(data[:512])
    with pytest.raises(InvalidArgument, match=r"longer than what is left|entry of"):
        list(indexed(bytes(data)))
