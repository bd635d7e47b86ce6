"""ttrpc's frames: bytes in, messages out; both sides of the wire use it.

Owns the ten-byte header, its limits and the services' names. Sans-IO: sockets are in `server` here and in
`cortend.tasks` there. Streaming calls do not occur in our services: a data frame is a protocol error.
Source: containerd/ttrpc, PROTOCOL.md.
"""

from __future__ import annotations

import struct

REQUEST, RESPONSE, DATA = 1, 2, 3
HEADER = struct.Struct(">IIBB")
MAX_PAYLOAD = 4 << 20

TASK_SERVICES = ("containerd.task.v3.Task", "containerd.task.v2.Task")
SHIM_SERVICE = "corten.shim.v1.Shim"
ERROR_DETAIL = "corten.shim.v1/ErrorDetail"
CREATE_OPTIONS = "corten.shim.v1/CreateOptions"
PROCESS_SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Process"


class ProtocolError(ValueError):
    """The other side does not speak ttrpc; the connection is of no more use."""


class Frame:
    """One message: the stream it belongs to, REQUEST or RESPONSE, and its envelope as bytes."""

    __slots__ = ("kind", "payload", "stream")

    def __init__(self, stream: int, kind: int, payload: bytes) -> None:
        self.stream = stream
        self.kind = kind
        self.payload = payload


def encode(stream: int, kind: int, payload: bytes) -> bytes:
    """The bytes of one frame. Raises ProtocolError where `payload` is larger than any peer takes."""
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(f"a message of {len(payload)} bytes; at most {MAX_PAYLOAD} fit")
    return HEADER.pack(len(payload), stream, kind, 0) + payload


class FrameReader:
    """Collects bytes and hands out frames of one kind (`expected`: REQUEST on a server, RESPONSE on a client)."""

    __slots__ = ("_buffer", "_expected")

    def __init__(self, expected: int) -> None:
        self._buffer = bytearray()
        self._expected = expected

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises ProtocolError; the reader is then of no more use."""
        buffer = self._buffer
        buffer += data
        frames = []
        while len(buffer) >= HEADER.size:
            length, stream, kind, _flags = HEADER.unpack_from(buffer)
            if kind != self._expected:
                raise ProtocolError(f"a frame of type {kind}; {self._expected} was expected")
            if length > MAX_PAYLOAD:
                raise ProtocolError(f"a frame of {length} bytes; at most {MAX_PAYLOAD} are taken")
            if stream % 2 == 0:
                raise ProtocolError(f"stream {stream}; a client's streams have odd numbers")
            if len(buffer) < HEADER.size + length:
                break
            frames.append(Frame(stream, kind, bytes(buffer[HEADER.size : HEADER.size + length])))
            del buffer[: HEADER.size + length]
        return frames
