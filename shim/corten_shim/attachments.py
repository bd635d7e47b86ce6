"""Tokens: how a stream socket finds the process it is for.

Owns the reservations that wait for their token to be shown, and the sockets that have not shown one yet. From then on
the socket is the attacher's (`attacher`).
"""

from __future__ import annotations

import os

from corten_shim.attacher import Attacher
from corten_shim.linux.sockets import Socket
from corten_shim.reactor import READ, Reactor, Timer
from corten_shim.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corten_shim.connection import Connection

TOKEN_BYTES = 32
TOKEN_SECONDS = 10.0


class Reservation:
    __slots__ = ("attacher", "connection", "streams", "timer")

    def __init__(self, streams: Streams, attacher: Attacher, connection: Connection, timer: Timer) -> None:
        self.streams = streams
        self.attacher = attacher
        self.connection = connection
        self.timer = timer


class Attachments:
    """`reserve` gives a token; `accept` takes the sockets on which one is shown."""

    __slots__ = ("_reactor", "_reservations")

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._reservations: dict[bytes, Reservation] = {}

    def reserve(self, streams: Streams, *, stdin: bool, channels: tuple[int, ...], connection: Connection) -> bytes:
        """A token for one socket within TOKEN_SECONDS; the process's output is held back until then."""
        token = os.urandom(TOKEN_BYTES)
        attacher = streams.reserve(stdin=stdin, channels=channels)
        timer = self._reactor.call_later(TOKEN_SECONDS, lambda: self._forget(token))
        self._reservations[token] = Reservation(streams, attacher, connection, timer)
        return token

    def connection_closed(self, connection: Connection) -> None:
        """Whoever asked on `connection` will not come any more."""
        for token, reservation in list(self._reservations.items()):
            if reservation.connection is connection:
                self._forget(token)

    def accept(self, sock: Socket) -> None:
        Greeting(self._reactor, sock, self._redeem)

    def _forget(self, token: bytes) -> None:
        reservation = self._reservations.pop(token, None)
        if reservation is not None:
            reservation.timer.cancel()
            reservation.streams.drop(reservation.attacher)

    def _redeem(self, token: bytes, sock: Socket) -> None:
        reservation = self._reservations.pop(token, None)
        if reservation is None:
            sock.close()
            return
        reservation.timer.cancel()
        reservation.attacher.connect(sock)
        reservation.streams.connected(reservation.attacher)


class Greeting:
    """A socket that owes its token."""

    __slots__ = ("_reactor", "_redeem", "_shown", "_sock", "_timer")

    def __init__(self, reactor: Reactor, sock: Socket, redeem: Callable[[bytes, Socket], None]) -> None:
        sock.setblocking(False)
        self._reactor = reactor
        self._sock = sock
        self._redeem = redeem
        self._shown = b""
        self._timer = reactor.call_later(TOKEN_SECONDS, self._close)
        reactor.add(sock.fileno(), READ, self._ready)

    def _ready(self, events: int) -> None:
        try:
            data = self._sock.recv(TOKEN_BYTES - len(self._shown))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._shown += data
        if not data:
            self._close()
        elif len(self._shown) == TOKEN_BYTES:
            self._timer.cancel()
            self._reactor.remove(self._sock.fileno())
            self._redeem(self._shown, self._sock)

    def _close(self) -> None:
        self._timer.cancel()
        self._reactor.remove(self._sock.fileno())
        self._sock.close()
