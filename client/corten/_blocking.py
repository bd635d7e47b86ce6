"""gRPC over one HTTP/2 connection, blocking: `import grpc` costs a command 70 ms and more, this costs 5.

Owns the socket, the framing of messages, deadlines, statuses, and the threads' turns: whoever waits first reads for
all. While nobody waits a daemon thread looks now and then, so that the engine's pings are answered. The connection is
made at the first call and made again after the engine went away. Frames are `corten._http2`'s.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from _socket import AF_UNIX, SHUT_RDWR, SOCK_CLOEXEC, SOCK_STREAM
from _socket import socket as Socket
from binascii import a2b_base64
from contextlib import suppress
from typing import Any, Generic, TypeVar

from corten_api import status
from corten_api.errors import CortenError, DeadlineExceeded, Unavailable

from corten import _http2
from corten._calls import NAMESPACE_KEY, Options, Parser

M = TypeVar("M")

_RECEIVE = 256 << 10  # bytes asked for at once; the buffer is kept, fresh memory would cost more than the copy
_IDLE_LOOK = 5.0  # seconds between looks at a connection nobody reads
_RESETS = {7: 14, 8: 1, 11: 8, 12: 7}  # HTTP/2 error codes to status codes; any other is Internal
_HTTP_STATUS = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}


def dial(address: str) -> Socket:
    """A connected socket. Raises Unavailable with what a user can do about it."""
    try:
        if address.startswith("unix://"):
            return _dial_unix(address.removeprefix("unix://"))
        import socket  # its enums and selectors take longer to load than a connection takes

        host, _, port = address.removeprefix("tcp://").rpartition(":")
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    except OSError as error:
        raise cannot_connect(address, error) from error


def _dial_unix(path: str) -> Socket:
    connection = Socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        if len(os.fsencode(path)) < 108:
            connection.connect(path)
            return connection
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        finally:
            os.close(directory)
        return connection
    except BaseException:
        connection.close()
        raise


def cannot_connect(address: str, error: OSError) -> Unavailable:
    """The sentence for an engine that does not answer."""
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR, None):
        return Unavailable("", "", f"Cannot connect to the Corten engine at {address}. Is cortend running?")
    reason = (error.strerror or str(error)).lower()
    return Unavailable("", "", f"Cannot connect to the Corten engine at {address}: {reason}.")


class _Wire:
    """One connection and who reads it."""

    def __init__(self, connection: Socket, address: str) -> None:
        self.lock = threading.Condition(threading.Lock())
        self.http = _http2.Connection()
        self._socket = connection
        self._address = address
        self.kept = False  # a thread looks after it
        self._buffer = memoryview(bytearray(_RECEIVE))
        self._reading = False
        self._served = time.monotonic()
        connection.setblocking(False)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._alarm, select.POLLIN)
        self._alarmed = False
        self._closed = False

    def flush(self) -> None:
        """Send what is due. The lock is held."""
        output = memoryview(self.http.take_output())
        while output:
            try:
                output = output[self._socket.send(output) :]
            except BlockingIOError:
                room = select.poll()
                room.register(self._socket, select.POLLOUT)
                if not room.poll(20_000):
                    self.http.lose("the engine stopped reading")
                    return
            except OSError as error:
                self._end(error)
                return

    def wait(self, ready: Any, deadline: float | None) -> bool:
        """Serve the connection until `ready()`; False when the deadline came first. The lock is held."""
        while not ready():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if self._reading:
                self.lock.wait(left)
                continue
            self._reading = True
            self.lock.release()
            try:
                self._poll.poll(None if left is None else max(1, int(left * 1000)))
            finally:
                self.lock.acquire()
                self._reading = False
                if self._alarmed:
                    self._alarmed = False
                    os.eventfd_read(self._alarm)
                self.lock.notify_all()
            self.serve()
        return True

    def wake(self) -> None:
        """Have every waiting thread look again: something changed that no frame told. The lock is held."""
        self.lock.notify_all()
        if self._reading and not self._alarmed:
            self._alarmed = True
            os.eventfd_write(self._alarm, 1)

    def serve(self) -> None:
        """Take what is there without waiting. The lock is held."""
        self._served = time.monotonic()
        try:
            size = self._socket.recv_into(self._buffer)
            if not size:
                self.http.lose("the connection to the engine ended")
            self.http.feed(self._buffer[:size])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
        except _http2.ProtocolError as error:
            self.http.lose(f"the engine does not speak gRPC here: {error}")
        self.flush()
        self.lock.notify_all()

    def _end(self, error: OSError) -> None:
        self.http.lose(f"the connection to the engine ended: {(error.strerror or str(error)).lower()}")

    def keep(self) -> None:
        """A daemon thread's work: answer pings while nobody reads."""
        while self.http.usable or self.http.streams:
            time.sleep(_IDLE_LOOK)
            with self.lock:
                if not self._reading and time.monotonic() - self._served >= _IDLE_LOOK:
                    self.serve()

    def close(self) -> None:
        """End every call. Whoever reads is woken before the descriptor is given back."""
        with self.lock:
            self.http.lose("the client was closed")
            with suppress(OSError):
                self._socket.shutdown(SHUT_RDWR)
            self.lock.notify_all()
            while self._reading:
                self.lock.wait()
            if not self._closed:
                self._closed = True
                self._socket.close()
                os.close(self._alarm)


class SocketTransport:
    """`corten._calls.Transport` that blocks. Threads may share it."""

    def __init__(self, address: str, *, user_agent: str) -> None:
        self._address = address
        self._agent = user_agent.encode("ascii")
        self._wire: _Wire | None = None
        self._ending: list[_Wire] = []  # take no new calls; those they have go on
        self._opening = threading.Lock()
        self.reads_files = address.startswith("unix://") and os.geteuid() == 0

    async def unary(self, path: str, request: Any, reply: Parser[M], *, options: Options) -> M:
        exchange = self._open(path, reply, options=options)
        try:
            exchange.begin(request.SerializeToString(), end=True)
            answer = exchange.next()
            if answer is None:
                raise status.decode(13, f"{path} answered nothing", None)
            exchange.next()
        except BaseException:
            exchange.cancel()
            raise
        return answer

    async def open(self, path: str, reply: Parser[M], *, options: Options) -> SocketExchange[M]:
        exchange = self._open(path, reply, options=options)
        wire = exchange.wire
        if not wire.kept:
            wire.kept = True
            threading.Thread(target=wire.keep, name="corten-connection", daemon=True).start()
        return exchange

    async def close(self) -> None:
        with self._opening:
            wires, self._wire, self._ending = [self._wire, *self._ending], None, []
        for wire in wires:
            if wire is not None:
                wire.close()

    def _open(self, path: str, reply: Parser[M], *, options: Options) -> SocketExchange[M]:
        timeout = options.timeout
        headers = [
            *((":method", b"POST"), (":scheme", b"http"), (":path", path.encode()), (":authority", b"localhost")),
            *(("te", b"trailers"), ("content-type", b"application/grpc"), ("user-agent", self._agent)),
            (NAMESPACE_KEY, options.namespace.encode("utf-8", "surrogateescape")),
        ]
        if timeout is not None:
            headers.append(("grpc-timeout", b"%dm" % min(max(1, int(timeout * 1000)), 99_999_999)))
        with self._opening:
            wire = self._connected()
            with wire.lock:
                stream = wire.http.request(headers)
        deadline = None if timeout is None else time.monotonic() + timeout
        return SocketExchange(wire, stream, reply, path=path, deadline=deadline, timeout=timeout)

    def _connected(self) -> _Wire:
        wire = self._wire
        if wire is not None:
            with wire.lock:
                wire.serve()  # a connection that ended while it was idle is noticed now
                if wire.http.usable:
                    return wire
            self._wire = None
            self._ending.append(wire)
        for ending in [each for each in self._ending if not each.http.streams]:
            self._ending.remove(ending)
            ending.close()
        self._wire = wire = _Wire(dial(self._address), self._address)
        return wire


class SocketExchange(Generic[M]):
    """`corten._calls.Exchange` that blocks. One thread may send while another receives."""

    def __init__(
        self,
        wire: _Wire,
        stream: _http2.Stream,
        reply: Parser[M],
        *,
        path: str,
        deadline: float | None,
        timeout: float | None,
    ) -> None:
        self.wire = wire
        self._stream = stream
        self._parse = reply.FromString
        self._path = path
        self._deadline = deadline
        self._timeout = timeout

    def begin(self, message: bytes, *, end: bool) -> None:
        """Send one message without waiting for windows."""
        with self.wire.lock:
            self.wire.http.send(self._stream, _framed(message), end=end)
            self.wire.flush()

    async def send(self, message: Any) -> None:
        self.begin(message.SerializeToString(), end=False)
        stream = self._stream
        with self.wire.lock:
            if not self.wire.wait(lambda: not stream.unsent or stream.over, self._deadline):
                raise self._late()

    async def half_close(self) -> None:
        with self.wire.lock:
            if not self._stream.over:
                self.wire.http.send(self._stream, b"", end=True)
                self.wire.flush()

    async def receive(self) -> M | None:
        return self.next()

    def next(self) -> M | None:
        """The next message, None after the last. Raises the CortenError the call ended with."""
        stream, http = self._stream, self.wire.http
        with self.wire.lock:
            while True:
                size = _whole(stream.received)
                if size is not None:
                    break
                http.credit(stream, 0)
                self.wire.flush()
                if stream.over:
                    http.forget(stream)
                    self.wire.flush()
                    self._finish()
                    return None
                before = len(stream.received)
                if not self.wire.wait(
                    lambda before=before: len(stream.received) > before or stream.over, self._deadline
                ):
                    raise self._late()
            with memoryview(stream.received) as view:
                message = self._parse(view[5 : 5 + size])
            del stream.received[: 5 + size]
            stream.taken += 5 + size
            http.credit(stream, len(stream.received))
            self.wire.flush()
        found: M = message
        return found

    def cancel(self) -> None:
        with self.wire.lock:
            self.wire.http.cancel(self._stream)
            self.wire.flush()
            if not self._stream.over:
                self._stream.lost = "the call was given up"
            self.wire.wake()

    def _late(self) -> CortenError:
        self.wire.http.cancel(self._stream)
        self._stream.lost = "the call took too long"
        self.wire.flush()
        return DeadlineExceeded("", "", f"{self._path.rpartition('.')[2]} took longer than {self._timeout:g} seconds")

    def _finish(self) -> None:
        """Nothing for success. The lock is held."""
        stream = self._stream
        said = dict(stream.trailers or ())
        if "grpc-status" in said:
            code = int(said["grpc-status"]) if said["grpc-status"].isdigit() else 2
            if code == 0:
                return
            detail = said.get(status.DETAIL_KEY)
            raise status.decode(code, _percent(said.get("grpc-message", b"")), _unbase64(detail))
        if stream.reset is not None:
            text = f"the engine ended the call (HTTP/2 error {stream.reset})"
            raise status.decode(_RESETS.get(stream.reset, 13), text, None)
        if stream.lost:
            raise Unavailable("", "", stream.lost)
        number = int(dict(stream.headers or ()).get(":status", b"0"))
        raise status.decode(_HTTP_STATUS.get(number, 2), f"the answer has no gRPC status (HTTP status {number})", None)


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _whole(received: bytearray) -> int | None:
    """The size of the message at the start, where all of it is there."""
    if len(received) < 5:
        return None
    size = int.from_bytes(received[1:5], "big")
    return size if len(received) >= 5 + size else None


def _percent(text: bytes) -> str:
    first, *rest = text.split(b"%")
    plain = bytearray(first)
    for part in rest:
        try:
            plain += bytes.fromhex(part[:2].decode("ascii")) + part[2:]
        except ValueError:
            plain += b"%" + part
    return plain.decode("utf-8", "replace")


def _unbase64(value: bytes | None) -> bytes | None:
    if value is None:
        return None
    try:
        return a2b_base64(value + b"=" * (-len(value) % 4))
    except ValueError:
        return None
