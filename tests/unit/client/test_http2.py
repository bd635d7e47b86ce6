"""Frames, windows and streams, without a socket."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import pairwise

import pytest
from corten import _hpack, _http2
from corten._http2 import Connection, ProtocolError
from hypothesis import given
from hypothesis import strategies as st


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    while data:
        size = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
        data = data[9 + size :]
    return found


def connected() -> Connection:
    connection = Connection()
    connection.take_output()
    return connection


OK = _hpack.encode([(":status", b"200")])
TRAILERS = _hpack.encode([("grpc-status", b"0")])
ANSWER = (
    frame(_http2.HEADERS, _http2.END_HEADERS, 1, OK)
    + frame(_http2.DATA, 0, 1, b"hello ")
    + frame(_http2.DATA, 0, 1, b"")
    + frame(_http2.DATA, 0, 1, b"world")
    + frame(_http2.HEADERS, _http2.END_HEADERS | _http2.END_STREAM, 1, TRAILERS)
)


def test_the_peer_is_told_to_keep_no_header_table_and_to_send_a_lot() -> None:
    output = Connection().take_output()
    assert output.startswith(_http2.PREFACE)
    settings, window = frames(output[len(_http2.PREFACE) :])
    pairs = dict(struct.iter_unpack(">HI", settings[3]))
    assert pairs[1] == 0
    assert pairs[4] >= 16 << 20
    assert window[0] == _http2.WINDOW_UPDATE


@given(st.lists(st.integers(1, len(ANSWER) - 1)))
def test_an_answer_may_come_in_any_pieces(cuts: list[int]) -> None:
    connection = connected()
    stream = connection.request([(":path", b"/x")])
    edges = sorted({0, *cuts, len(ANSWER)})
    for start, end in pairwise(edges):
        connection.feed(memoryview(ANSWER[start:end]))
    assert bytes(stream.received) == b"hello world"
    assert stream.headers == [(":status", b"200")]
    assert stream.trailers == [("grpc-status", b"0")]
    assert stream.ended


def test_a_header_block_may_go_on_in_further_frames() -> None:
    connection = connected()
    stream = connection.request([(":path", b"/x")])
    connection.feed(memoryview(frame(_http2.HEADERS, 0, 1, OK[:3])))
    connection.feed(memoryview(frame(_http2.CONTINUATION, _http2.END_HEADERS, 1, OK[3:])))
    assert stream.headers == [(":status", b"200")]


def test_nothing_is_sent_beyond_the_peers_windows_and_frame_size() -> None:
    connection = connected()
    stream = connection.request([(":path", b"/x")])
    connection.take_output()
    connection.send(stream, bytes(200_000), end=True)
    sent = frames(connection.take_output())
    assert max(len(each[3]) for each in sent) == 16384
    assert sum(len(each[3]) for each in sent) == 65535
    assert stream.unsent
    connection.feed(memoryview(frame(_http2.WINDOW_UPDATE, 0, 0, (1 << 20).to_bytes(4, "big"))))
    assert connection.take_output() == b""
    connection.feed(memoryview(frame(_http2.SETTINGS, 0, 0, struct.pack(">HIHI", 4, 300_000, 5, 100_000))))
    sent = [each for each in frames(connection.take_output()) if each[0] == _http2.DATA]
    assert sum(len(each[3]) for each in sent) == 200_000 - 65535
    assert sent[-1][1] == _http2.END_STREAM
    assert not stream.unsent


def test_a_window_opens_again_when_its_bytes_were_read() -> None:
    connection = connected()
    stream = connection.request([(":path", b"/x")])
    for _ in range(16):
        connection.feed(memoryview(frame(_http2.DATA, 0, 1, bytes(1 << 20))))
    connection.take_output()
    connection.credit(stream, len(stream.received))
    assert connection.take_output() == b""
    stream.taken = len(stream.received)
    stream.received.clear()
    connection.credit(stream, 0)
    assert frames(connection.take_output()) == [(_http2.WINDOW_UPDATE, 0, 1, (16 << 20).to_bytes(4, "big"))]


def test_a_ping_is_answered() -> None:
    connection = connected()
    connection.feed(memoryview(frame(_http2.PING, 0, 0, b"12345678")))
    assert frames(connection.take_output()) == [(_http2.PING, _http2.ACK, 0, b"12345678")]


def test_padding_is_not_part_of_the_message() -> None:
    connection = connected()
    stream = connection.request([(":path", b"/x")])
    connection.feed(memoryview(frame(_http2.DATA, _http2.PADDED | _http2.END_STREAM, 1, b"\x03hello\0\0\0")))
    assert bytes(stream.received) == b"hello"
    assert stream.ended


def test_an_engine_that_goes_away_ends_the_calls_it_did_not_see() -> None:
    connection = connected()
    seen, unseen = (connection.request([(":path", b"/x")]) for _ in range(2))
    connection.feed(memoryview(frame(_http2.GOAWAY, 0, 0, struct.pack(">II", 1, 0))))
    assert not connection.usable
    assert unseen.lost
    assert not seen.over
    connection.lose("gone")
    assert seen.lost == "gone"


def test_a_call_that_is_given_up_is_reset_once() -> None:
    connection = connected()
    stream = connection.request([(":path", b"/x")])
    connection.take_output()
    connection.cancel(stream)
    connection.cancel(stream)
    assert [each[0] for each in frames(connection.take_output())] == [_http2.RST_STREAM]
    connection.feed(memoryview(ANSWER))
    assert not stream.received


@pytest.mark.parametrize(
    "data",
    [
        frame(_http2.PUSH_PROMISE, 0, 1),
        frame(_http2.CONTINUATION, 0, 1, OK),
        frame(_http2.HEADERS, 0, 1, OK) + frame(_http2.PING, 0, 0, bytes(8)),
        frame(_http2.HEADERS, _http2.END_HEADERS, 1, b"\xff\xff\xff\xff\xff"),
        frame(_http2.GOAWAY, 0, 0, b"x"),
        frame(_http2.DATA, _http2.PADDED, 1, b"\x09x"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_a_peer_that_breaks_the_protocol_is_one_error(data: bytes) -> None:
    connection = connected()
    connection.request([(":path", b"/x")])
    with pytest.raises(ProtocolError):
        connection.feed(memoryview(data))


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=60))))
def test_any_frames_are_taken_or_are_one_error(given: list[tuple[int, int, int, bytes]]) -> None:
    connection = connected()
    connection.request([(":path", b"/x")])
    with suppress(ProtocolError):
        for each in given:
            connection.feed(memoryview(frame(*each)))
