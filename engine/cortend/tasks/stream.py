"""One stream of a process: its output in large pieces, its stdin.

Owns the stream socket after the token is shown, and the frames on it (docs/shim-protocol.md, "Streams").
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct

from corten_api.errors import DataLoss, Unavailable

READ_LIMIT = 1 << 20
HEADER = struct.Struct(">B3xI")


class Channel(enum.IntEnum):
    STDOUT = 1
    STDERR = 2
    END = 3


class Stream:
    """Owns `sock`; `close` it, or use it as a context manager. One reader and one writer at a time."""

    def __init__(self, sock: socket.socket, *, name: str) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._name = name
        self._buffer = bytearray()
        self._channel = Channel.END
        self._left = 0
        self._ended = False

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def read(self) -> tuple[Channel, bytes]:
        """What there is of one channel, up to 1 MiB; (END, b"") once the process ended and everything was read.

        Raises Unavailable when the shim let go before the end, DataLoss for what is no frame.
        """
        while not self._ended:
            taken = self._take()
            if taken is not None:
                return taken
            if not self._ended:
                await self._fill()
        return Channel.END, b""

    async def write(self, data: bytes) -> None:
        """Feed stdin; returns when the shim has taken it. Raises Unavailable when it is gone."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Unavailable("stream", self._name, "the process or its shim is gone") from error

    async def close_stdin(self) -> None:
        """This attacher has no more stdin."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the shim is gone, and stdin with it

    def close(self) -> None:
        self._sock.close()

    async def _fill(self) -> None:
        try:
            data = await asyncio.get_running_loop().sock_recv(self._sock, READ_LIMIT)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Unavailable("stream", self._name, "the shim let go of it before the process ended")
        self._buffer += data

    def _take(self) -> tuple[Channel, bytes] | None:
        """The payload at the front of the buffer, pieces of one channel joined; None where more bytes are needed."""
        buffer = self._buffer
        pieces: list[bytes] = []
        position = 0
        channel = self._channel
        while position < len(buffer):
            if not self._left:
                if len(buffer) - position < HEADER.size:
                    break
                kind, length = HEADER.unpack_from(buffer, position)
                if kind not in (1, 2, 3) or length > READ_LIMIT or (kind == Channel.END) != (length == 0):
                    raise DataLoss("stream", self._name, f"a frame of type {kind} with {length} bytes")
                if pieces and kind != channel:
                    break
                position += HEADER.size
                channel, self._left = Channel(kind), length
                if channel == Channel.END:
                    self._ended = True
                    break
            end = min(len(buffer), position + self._left)
            pieces.append(bytes(memoryview(buffer)[position:end]))
            self._left -= end - position
            position = end
        self._channel = channel
        del buffer[:position]
        return (channel, pieces[0] if len(pieces) == 1 else b"".join(pieces)) if pieces else None
