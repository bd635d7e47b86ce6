"""Header blocks, to RFC 7541."""

from __future__ import annotations

from contextlib import suppress

import pytest
from corten import _hpack
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=40)


@given(st.lists(st.tuples(NAMES, st.binary(max_size=300))))
def test_what_is_encoded_is_decoded(headers: list[tuple[str, bytes]]) -> None:
    assert _hpack.decode(_hpack.encode(headers)) == headers


@pytest.mark.parametrize(
    ("block", "headers"),
    [
        ("828684418cf1e3c2e5f23a6ba0ab90f4ff", [(":method", b"GET"), (":scheme", b"http"), (":path", b"/")]),
        ("20885f10" + b"application/grpc".hex(), [(":status", b"200"), ("content-type", b"application/grpc")]),
        ("3fe11f", []),
    ],
)
def test_blocks_of_the_standard_are_read(block: str, headers: list[tuple[str, bytes]]) -> None:
    decoded = _hpack.decode(bytes.fromhex(block))
    assert decoded[: len(headers)] == headers
    if block.startswith("8286"):
        assert decoded[3:] == [(":authority", b"www.example.com")]


@pytest.mark.parametrize(
    ("raw", "text"),
    [("a8eb10649cbf", b"no-cache"), ("6402", b"302"), ("aec3771a4b", b"private"), ("", b"")],
)
def test_huffman_strings_of_the_standard_are_read(raw: str, text: bytes) -> None:
    assert _hpack.unhuffman(bytes.fromhex(raw)) == text


def test_every_symbol_has_its_own_code() -> None:
    codes = _hpack._codes()
    assert sorted(codes.values()) == list(range(256))
    for length, code in codes:
        assert not any((shorter, code >> length - shorter) in codes for shorter in range(5, length))


@pytest.mark.parametrize(
    "block",
    [
        "bf",
        "c0",
        "80",
        "0001",
        "007fffffffff7f",
        "00054142",
        "0001ff0161",
        "ff8080808080",
        "008100ff",
        "0001618100",
    ],
)
def test_a_broken_block_is_one_error(block: str) -> None:
    with pytest.raises(_hpack.HeaderError):
        _hpack.decode(bytes.fromhex(block))


@given(st.binary(max_size=200))
def test_any_bytes_are_headers_or_one_error(block: bytes) -> None:
    with suppress(_hpack.HeaderError):
        _hpack.decode(block)
