"""A process's output straight from the shim's socket, for a client on the engine's own machine.

Owns that socket and its frames (docs/shim-protocol.md, "Streams"): header of stream, length; then the bytes. The engine
would pass on the same bytes, copying each a dozen times. Blocking.
"""

from __future__ import annotations

import os
import struct
from _socket import AF_UNIX, SHUT_RDWR, SOCK_CLOEXEC, SOCK_STREAM
from _socket import socket as Socket

from corten_api.errors import DataLoss

_HEADER = struct.Struct(">B3xI")
_NAMES = {1: "stdout", 2: "stderr"}
_END = 3
_BUFFER = 1 << 20


class DirectOutput:
    """An open stream. `read` until it gives None; `whole` then says whether the output's end came."""

    def __init__(self, directory: str, token: bytes) -> None:
        """Raises OSError where the socket cannot be reached: another machine, another mount namespace, not root."""
        self._socket = Socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = self._end = 0  # what of the buffer is filled and not read
        self._stream = 0
        self._left = 0  # bytes of the current frame that are still to come
        self.whole = False
        try:
            place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._socket.connect(f"/proc/self/fd/{place}/stream.sock")
            finally:
                os.close(place)
            self._socket.sendall(token)
        except BaseException:
            self._socket.close()
            raise

    def read(self) -> tuple[str, memoryview] | None:
        """(stream, bytes) of one frame or a part of it, good until the next `read`. None at the end."""
        while True:
            if self._left == 0 and not self._next_frame():
                return None
            if self._start < self._end:
                size = min(self._left, self._end - self._start)
                data = self._buffer[self._start : self._start + size]
                self._start += size
                self._left -= size
                return _NAMES[self._stream], data
            if not self._fill():
                return None

    def leave(self) -> None:
        """Wake a reader in another thread, who finds the end."""
        try:
            self._socket.shutdown(SHUT_RDWR)
        except OSError:
            return  # it had ended

    def close(self) -> None:
        self._socket.close()

    def _next_frame(self) -> bool:
        """Whether there is one; otherwise the output is at its end."""
        while self._end - self._start < _HEADER.size:
            if not self._fill():
                return False
        self._stream, self._left = _HEADER.unpack_from(self._buffer, self._start)
        self._start += _HEADER.size
        if self._stream == _END:
            self.whole = True
            return False
        if self._stream not in _NAMES or not self._left:
            raise DataLoss("stream", "", f"a frame of type {self._stream} with {self._left} bytes")
        return True

    def _fill(self) -> bool:
        """More bytes, behind what is left; False when the shim let go."""
        left = self._end - self._start
        if self._start:
            self._buffer[:left] = bytes(self._buffer[self._start : self._end])
            self._start, self._end = 0, left
        try:
            count = self._socket.recv_into(self._buffer[left:])
        except ConnectionResetError:
            count = 0
        self._end += count
        return count > 0
