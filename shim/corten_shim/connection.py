"""One ttrpc connection: calls in, answers out.

Owns the socket, its frames and what the peer has not read yet. What a call does is decided by the handlers it is given.
Whatever a peer sends, the worst that happens is that its own connection is closed.
"""

from __future__ import annotations

from corten_shim import faults, ttrpc
from corten_shim.envelopes import Any, Empty, Request, Response, Status
from corten_shim.linux.errors import RuntimeFault
from corten_shim.linux.sockets import MSG_NOSIGNAL, Socket
from corten_shim.messages import ErrorDetail
from corten_shim.reactor import ERROR, HANGUP, READ, WRITE, Reactor
from corten_shim.wireformat import DecodeError, Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[["Call", bytes], None]

BACKLOG_LIMIT = 16 << 20
_RECEIVE = 64 << 10


class Call:
    """One call that waits for its answer, which may come at any later time."""

    __slots__ = ("_connection", "_stream")

    def __init__(self, connection: Connection, stream: int) -> None:
        self._connection = connection
        self._stream = stream

    @property
    def connection(self) -> Connection:
        return self._connection

    def listening(self) -> bool:
        """False once the peer is gone."""
        return self._connection.open

    def reply(self, message: Message | None = None) -> None:
        self._connection.answer(self._stream, Response(payload=(message or Empty()).encode()))

    def fail(self, fault: RuntimeFault) -> None:
        detail = ErrorDetail(kind=fault.kind, name=fault.name, detail=fault.detail).encode()
        status = Status(code=fault.code, message=str(fault), details=[Any(type_url=ttrpc.ERROR_DETAIL, value=detail)])
        self._connection.answer(self._stream, Response(status=status))


class Connection:
    """Reads requests from `sock` and gives each to the handler of its (service, method)."""

    __slots__ = ("_closed", "_frames", "_handlers", "_last_stream", "_out", "_reactor", "_sock", "_writing", "open")

    def __init__(
        self,
        reactor: Reactor,
        sock: Socket,
        handlers: dict[tuple[str, str], Handler],
        closed: Callable[[Connection], None],
    ) -> None:
        sock.setblocking(False)
        self._reactor = reactor
        self._sock = sock
        self._handlers = handlers
        self._closed = closed
        self._frames = ttrpc.FrameReader(ttrpc.REQUEST)
        self._last_stream = 0
        self._out = bytearray()
        self._writing = False
        self.open = True
        reactor.add(sock.fileno(), READ, self._ready)

    def answer(self, stream: int, response: Response) -> None:
        """Send `response`; nothing happens where the peer is gone."""
        if not self.open:
            return
        self._out += ttrpc.encode(stream, ttrpc.RESPONSE, response.encode())
        self._flush()

    def close(self) -> None:
        if self.open:
            self.open = False
            self._reactor.remove(self._sock.fileno())
            self._sock.close()
            self._closed(self)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self.open and events & (READ | HANGUP | ERROR):
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(_RECEIVE)
            frames = self._frames.feed(data)
        except BlockingIOError:
            return
        except (OSError, ttrpc.ProtocolError):
            self.close()
            return
        if not data:
            self.close()
            return
        for frame in frames:
            if self.open:
                self._handle(frame)

    def _handle(self, frame: ttrpc.Frame) -> None:
        request = Request()
        try:
            if frame.stream <= self._last_stream:
                raise ttrpc.ProtocolError(f"stream {frame.stream} after {self._last_stream}")
            self._last_stream = frame.stream
            request.merge(frame.payload)
        except (ttrpc.ProtocolError, DecodeError):
            self.close()
            return
        call = Call(self, frame.stream)
        handler = self._handlers.get((request.service, request.method))
        try:
            if handler is None:
                name = f"{request.service}/{request.method}"
                raise faults.unimplemented("method", name[:200], "is not known to this shim")
            handler(call, request.payload)
        except RuntimeFault as fault:
            call.fail(fault)
        except DecodeError as error:
            call.fail(faults.invalid("request", request.method, f"cannot be decoded: {error}"))
        except Exception as error:  # a bug must not take the container with it
            call.fail(faults.internal("method", request.method, error))

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._sock.send(self._out, MSG_NOSIGNAL)]
        except BlockingIOError:
            if len(self._out) > BACKLOG_LIMIT:
                self.close()
                return
        except OSError:
            self.close()
            return
        if self._writing != bool(self._out):
            self._writing = not self._writing
            self._reactor.modify(self._sock.fileno(), READ | WRITE if self._writing else READ)
