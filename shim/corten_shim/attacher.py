"""One attacher: a stream socket that takes a process's output and feeds its stdin.

Owns the socket, the frames sent on it and what of them the peer has not taken yet (one chunk at most). What an attacher
does to the others and to the process is decided in `streams`. An attacher begins as a reservation, which holds the
process's output back until its token is shown.
"""

from __future__ import annotations

import struct
import time

from corten_shim.linux.sockets import MSG_NOSIGNAL, Socket
from corten_shim.reactor import ERROR, HANGUP, READ, WRITE, Reactor
from corten_shim.stdio import CHUNK, END

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten_shim.streams import Streams

HEADER = struct.Struct(">B3xI")


class Attacher:
    """`channels` is what it wants of STDOUT and STDERR; `stdin` whether it feeds the process."""

    __slots__ = (
        "_ending",
        "_events",
        "_lingering",
        "_pending",
        "_reactor",
        "_sock",
        "_stdin_open",
        "_streams",
        "channels",
        "progress_at",
        "stdin",
    )

    def __init__(self, reactor: Reactor, streams: Streams, *, stdin: bool, channels: tuple[int, ...]) -> None:
        self._reactor = reactor
        self._streams = streams
        self._sock: Socket | None = None
        self._pending = memoryview(b"")
        self._events = 0
        self._stdin_open = True
        self._ending = False
        self._lingering = False
        self.stdin = stdin
        self.channels = channels
        self.progress_at = time.monotonic()

    @property
    def connected(self) -> bool:
        return self._sock is not None

    @property
    def blocked(self) -> bool:
        """No output may be read for it now: it is behind, or not there yet."""
        return bool(self._pending) or self._sock is None

    def connect(self, sock: Socket) -> None:
        """The token was shown on `sock`, which is the attacher's from now on."""
        sock.setblocking(False)
        self._sock = sock
        self.progress_at = time.monotonic()
        self._events = READ if self._reads else 0
        self._reactor.add(sock.fileno(), self._events, self._ready)

    def send(self, channel: int, data: bytes) -> None:
        """Pass on output; only while not `blocked`. A peer that is gone is dropped."""
        header = HEADER.pack(channel, len(data))
        assert self._sock is not None
        try:
            sent = self._sock.sendmsg((header, data), (), MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._streams.drop(self)
            return
        self.progress_at = time.monotonic()
        if sent < len(header) + len(data):
            left = data if sent >= len(header) else header + data
            self._pending = memoryview(left)[sent - len(header) if left is data else sent :]
            self.update()

    def finish(self) -> None:
        """Say that the process ended and every byte was sent, then leave."""
        if not self._ending and self._sock is not None:
            self._ending = True
            self._pending = memoryview(bytes(self._pending) + HEADER.pack(END, 0))
            self._flush()

    def update(self) -> None:
        """Wait for what matters now: called when the stdin's sink changed, too."""
        if self._sock is None:
            return
        events = (WRITE if self._pending else 0) | (READ if self._reads else 0)
        if self._lingering:
            if self._reads:
                self._lingering = False
                self._reactor.add(self._sock.fileno(), events, self._ready)
        elif events != self._events:
            self._reactor.modify(self._sock.fileno(), events)
        self._events = events

    def close(self) -> None:
        if self._sock is not None:
            self._reactor.remove(self._sock.fileno())
            self._sock.close()
            self._sock = None
        self._pending = memoryview(b"")
        self._stdin_open = False

    @property
    def _reads(self) -> bool:
        return self._stdin_open and not (self.stdin and self._streams.stdin_full)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self._sock is not None and events & (READ | HANGUP | ERROR) and self._reads:
            self._pull()
        if self._sock is None or not events & (HANGUP | ERROR) or self._lingering:
            return
        if not self._stdin_open:
            self._streams.drop(self)
        elif not self._reads:
            self._linger()

    def _linger(self) -> None:
        """The peer is gone, but bytes of its for stdin are waiting until the process reads."""
        assert self._sock is not None
        self._reactor.remove(self._sock.fileno())
        self._lingering = True
        self._pending = memoryview(b"")
        self.channels = ()
        self._streams.pace()

    def _flush(self) -> None:
        assert self._sock is not None
        try:
            if self._pending:
                self._pending = self._pending[self._sock.send(self._pending, MSG_NOSIGNAL) :]
                self.progress_at = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:
            self._streams.drop(self)
            return
        if self._pending:
            self.update()
        elif self._ending:
            self._streams.drop(self)
        else:
            self.update()
            self._streams.pace()

    def _pull(self) -> None:
        """Take stdin from the peer."""
        assert self._sock is not None
        try:
            data = self._sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._stdin_open = False
            if self.stdin:
                self._streams.stdin_ended()
        elif self.stdin:
            self._streams.feed(data)
        self.update()
