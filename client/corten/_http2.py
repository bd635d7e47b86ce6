"""The client's side of one HTTP/2 connection (RFC 9113), as far as gRPC over a local socket needs it. No socket here.

Owns frames, windows and streams: feed it what came, send what `take_output` gives. Messages, deadlines and threads are
`corten._blocking`'s. A broken connection is said once, as `ProtocolError`, and every stream is `lost`.
"""

from __future__ import annotations

import struct
from collections import deque

from corten import _hpack
from corten._hpack import Header

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, CANCEL = 0, 8

STREAM_WINDOW = 16 << 20  # bytes a stream may hold that nobody has read
_CONNECTION_WINDOW = (1 << 31) - 1
_MAX_FRAME = 1 << 20  # what we take; the peer's limit is its own
_MAX_HEADERS = 1 << 20
_SETTINGS_SENT = ((1, 0), (2, 0), (4, STREAM_WINDOW), (5, _MAX_FRAME), (6, _MAX_HEADERS))
_HEAD = struct.Struct(">HBBBI")  # length (16 + 8 bits), type, flags, stream
_FIRST_WINDOW = 65535


class ProtocolError(Exception):
    """The peer broke the protocol; the connection cannot be used any more."""


class Stream:
    """One request and its response. The fields are what has come so far."""

    __slots__ = (
        *("number", "headers", "trailers", "received", "taken", "credited", "ended", "reset", "lost"),
        *("send_window", "unsent", "half_closed", "closing"),
    )

    def __init__(self, number: int, send_window: int) -> None:
        self.number = number
        self.headers: list[Header] | None = None
        self.trailers: list[Header] | None = None
        self.received = bytearray()  # of the body, what nobody took yet
        self.taken = 0
        self.credited = 0
        self.ended = False  # by the peer
        self.reset: int | None = None  # its error code
        self.lost = ""  # why the connection ended under it
        self.send_window = send_window
        self.unsent: deque[memoryview] = deque()
        self.closing = False  # half-close once `unsent` is empty
        self.half_closed = False

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.ended or self.reset is not None or bool(self.lost)


class Connection:
    """Frames in, frames out."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self.usable = True  # for new streams
        self._next = 1
        self._output: list[bytes | memoryview] = []
        self._input = bytearray()  # a frame that is not whole yet
        self._body: tuple[Stream | None, int, int] | None = None  # of a DATA frame: stream, bytes to come, flags
        self._headers: tuple[int, int, bytearray] | None = None  # a block that goes on: stream, flags, block
        self._send_window = _FIRST_WINDOW
        self._peer_window = _FIRST_WINDOW
        self._peer_frame = 16384
        self._uncredited = 0
        settings = b"".join(struct.pack(">HI", *pair) for pair in _SETTINGS_SENT)
        self._output.append(PREFACE)
        self._put(SETTINGS, 0, 0, settings)
        self._put(WINDOW_UPDATE, 0, 0, struct.pack(">I", _CONNECTION_WINDOW - _FIRST_WINDOW))

    # Towards the peer.

    def take_output(self) -> bytes:
        """Everything that is to be sent now."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def request(self, headers: list[Header]) -> Stream:
        """A new stream, its headers sent. The caller has looked at `usable`."""
        stream = Stream(self._next, self._peer_window)
        self._next += 2
        self.streams[stream.number] = stream
        block = _hpack.encode(headers)
        self._put(HEADERS, END_HEADERS, stream.number, block[: self._peer_frame])
        if len(block) > self._peer_frame:
            raise ProtocolError("the request's metadata is too large")
        return stream

    def send(self, stream: Stream, data: bytes, *, end: bool = False) -> None:
        """Queue `data`; it goes as the peer's windows allow. `stream.unsent` is empty once all went."""
        if data:
            stream.unsent.append(memoryview(data))
        stream.closing = stream.closing or end
        self._flush(stream)

    def cancel(self, stream: Stream) -> None:
        """Tell the peer that nobody wants the rest, and forget the stream."""
        if stream.number in self.streams:
            del self.streams[stream.number]
            if not stream.over:
                self._put(RST_STREAM, 0, stream.number, struct.pack(">I", CANCEL))
        stream.unsent.clear()
        stream.received.clear()

    def forget(self, stream: Stream) -> None:
        """After its end. A request that was not half-closed is cancelled, so that the peer forgets it too."""
        if stream.number in self.streams and stream.reset is None and not stream.half_closed and not stream.lost:
            self._put(RST_STREAM, 0, stream.number, struct.pack(">I", CANCEL))
        self.streams.pop(stream.number, None)

    def credit(self, stream: Stream, held: int) -> None:
        """Open the stream's window again: `held` of the bytes received are messages nobody has read."""
        used = stream.taken + len(stream.received) - held - stream.credited
        if used >= STREAM_WINDOW // 2 and not stream.over:
            stream.credited += used
            self._put(WINDOW_UPDATE, 0, stream.number, struct.pack(">I", used))

    def _put(self, kind: int, flags: int, stream: int, payload: bytes | memoryview = b"") -> None:
        size = len(payload)
        self._output.append(_HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream))
        if size:
            self._output.append(payload)

    def _flush(self, stream: Stream) -> None:
        while stream.unsent:
            chunk = stream.unsent[0]
            allowed = min(self._send_window, stream.send_window, self._peer_frame)
            if allowed <= 0:
                return
            part = chunk[:allowed]
            if len(part) == len(chunk):
                stream.unsent.popleft()
            else:
                stream.unsent[0] = chunk[allowed:]
            self._send_window -= len(part)
            stream.send_window -= len(part)
            stream.half_closed = stream.closing and not stream.unsent
            self._put(DATA, END_STREAM if stream.half_closed else 0, stream.number, part)
        if stream.closing and not stream.half_closed:
            stream.half_closed = True
            self._put(DATA, END_STREAM, stream.number)

    # From the peer.

    def lose(self, reason: str) -> None:
        """The connection is gone."""
        self.usable = False
        for stream in self.streams.values():
            if not stream.over:
                stream.lost = reason
        self.streams.clear()

    def feed(self, data: memoryview) -> None:
        """Take what came. Raises ProtocolError; the connection is then to be closed and `lose` to be called."""
        while data:
            if self._body is not None:
                data = self._feed_body(self._body, data)
                continue
            needed = 9 if len(self._input) < 9 else 9 + int.from_bytes(self._input[:3], "big")
            missing = needed - len(self._input)
            self._input += data[:missing]
            data = data[missing:]
            if len(self._input) < 9:
                return
            high, low, kind, flags, number = _HEAD.unpack_from(self._input)
            size = high << 8 | low
            if size > _MAX_FRAME:
                raise ProtocolError(f"a frame of {size} bytes is larger than allowed")
            if kind == DATA and not flags & PADDED:
                self._input.clear()
                self._body = (self.streams.get(number), size, flags)
                if not size:
                    self._feed_body(self._body, data[:0])
            elif len(self._input) == 9 + size:
                payload = bytes(self._input[9:])
                self._input.clear()
                try:
                    self._frame(kind, flags, number & 0x7FFFFFFF, payload)
                except struct.error as error:
                    raise ProtocolError(f"a frame of type {kind} is too short") from error

    def _feed_body(self, body: tuple[Stream | None, int, int], data: memoryview) -> memoryview:
        stream, missing, flags = body
        part = data[:missing]
        if stream is not None:
            stream.received += part
        self._uncredited += len(part)
        if self._uncredited >= STREAM_WINDOW:
            self._put(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._uncredited))
            self._uncredited = 0
        missing -= len(part)
        self._body = (stream, missing, flags) if missing else None
        if not missing and stream is not None and flags & END_STREAM:
            stream.ended = True
        return data[len(part) :]

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._headers is not None and kind != CONTINUATION:
            raise ProtocolError("a header block was interrupted")
        if kind == DATA:  # padded: the padding counts towards the windows too
            body = _unpadded(flags, payload)
            stream = self.streams.get(number)
            if stream is not None:
                stream.credited -= len(payload) - len(body)
            self._uncredited += len(payload) - len(body)
            self._feed_body((stream, len(body), flags), memoryview(body))
        elif kind in (HEADERS, CONTINUATION):
            self._header_frame(kind, flags, number, payload)
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == WINDOW_UPDATE:
            self._window_update(number, int.from_bytes(payload, "big") & 0x7FFFFFFF)
        elif kind == RST_STREAM:
            stream = self.streams.get(number)
            if stream is not None and not stream.ended:
                stream.reset = int.from_bytes(payload, "big")
                stream.unsent.clear()
        elif kind == PING and not flags & ACK:
            self._put(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            self._goaway(payload)
        elif kind == PUSH_PROMISE:
            raise ProtocolError("the peer pushed, which was switched off")

    def _header_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == HEADERS:
            payload = _unpadded(flags, payload)
            self._headers = (number, flags, bytearray(payload[5:] if flags & PRIORITY else payload))
        elif self._headers is None or self._headers[0] != number:
            raise ProtocolError("a header block goes on that never began")
        else:
            self._headers[2].extend(payload)
        first, first_flags, block = self._headers
        if len(block) > _MAX_HEADERS:
            raise ProtocolError("a header block is too large")
        if not flags & END_HEADERS:
            return
        self._headers = None
        stream = self.streams.get(first)
        if stream is None:
            return
        try:
            headers = _hpack.decode(bytes(block))
        except _hpack.HeaderError as error:
            raise ProtocolError(str(error)) from error
        if stream.headers is None:
            stream.headers = headers
        else:
            stream.trailers = headers
        if first_flags & END_STREAM:
            stream.ended = True
            stream.trailers = headers

    def _settings(self, payload: bytes) -> None:
        for position in range(0, len(payload) - 5, 6):
            name, value = struct.unpack_from(">HI", payload, position)
            if name == 4:
                for stream in self.streams.values():
                    stream.send_window += value - self._peer_window
                self._peer_window = value
            elif name == 5:
                self._peer_frame = value
        self._put(SETTINGS, ACK, 0)
        self._flush_all()

    def _window_update(self, number: int, increment: int) -> None:
        if not number:
            self._send_window += increment
            self._flush_all()
            return
        stream = self.streams.get(number)
        if stream is not None:
            stream.send_window += increment
            self._flush(stream)

    def _flush_all(self) -> None:
        for stream in self.streams.values():
            if stream.unsent:
                self._flush(stream)

    def _goaway(self, payload: bytes) -> None:
        last, code = struct.unpack_from(">II", payload)
        self.usable = False
        for number in [each for each in self.streams if each > last & 0x7FFFFFFF]:
            stream = self.streams.pop(number)
            stream.lost = stream.lost or f"the engine refused the call (HTTP/2 error {code})"


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    padding = payload[0] if payload else 0
    if padding >= len(payload):
        raise ProtocolError("a frame is all padding")
    return payload[1 : len(payload) - padding]
