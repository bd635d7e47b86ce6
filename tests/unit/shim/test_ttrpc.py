"""ttrpc's frames."""

from __future__ import annotations

import struct

import pytest
from corten_shim import ttrpc
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.tuples(st.integers(0, 1000), st.binary(max_size=300)), max_size=8), st.integers(1, 50))
def test_frames_come_out_as_they_went_in_however_the_bytes_arrive(sent: list[tuple[int, bytes]], step: int) -> None:
    data = b"".join(ttrpc.encode(2 * stream + 1, ttrpc.REQUEST, payload) for stream, payload in sent)
    reader = ttrpc.FrameReader(ttrpc.REQUEST)
    received = [frame for start in range(0, len(data), step) for frame in reader.feed(data[start : start + step])]
    assert [(frame.stream // 2, frame.payload) for frame in received] == sent


def test_the_header_is_length_stream_type_flags_in_network_order() -> None:
    assert ttrpc.encode(3, ttrpc.RESPONSE, b"ab") == b"\0\0\0\2" + b"\0\0\0\3" + b"\2\0" + b"ab"


@pytest.mark.parametrize(
    ("length", "stream", "kind"),
    [
        (ttrpc.MAX_PAYLOAD + 1, 1, ttrpc.REQUEST),
        (0xFFFFFFFF, 1, ttrpc.REQUEST),
        (0, 2, ttrpc.REQUEST),
        (0, 1, ttrpc.RESPONSE),
        (0, 1, ttrpc.DATA),
        (0, 1, 77),
    ],
)
def test_what_no_client_sends_is_a_protocol_error_before_its_payload_is_awaited(
    length: int, stream: int, kind: int
) -> None:
    with pytest.raises(ttrpc.ProtocolError):
        ttrpc.FrameReader(ttrpc.REQUEST).feed(struct.pack(">IIBB", length, stream, kind, 0))


def test_a_message_that_no_peer_would_take_is_not_sent() -> None:
    with pytest.raises(ttrpc.ProtocolError):
        ttrpc.encode(1, ttrpc.REQUEST, bytes(ttrpc.MAX_PAYLOAD + 1))
