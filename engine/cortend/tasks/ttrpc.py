"""A ttrpc client on asyncio: many calls at once on one socket.

Owns the socket, the calls that wait for answers, and what a status means as an error. Which calls there are is `shim`'s
business; the frames are `corten_shim.ttrpc`.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TypeVar

from corten_api import status
from corten_api.errors import CortenError, DeadlineExceeded, Internal, InvalidArgument, Unavailable
from corten_api.shim import corten_pb2, ttrpc_pb2
from corten_shim import ttrpc
from google.protobuf.message import DecodeError, Message

Answer = TypeVar("Answer", bound=Message)
_LAST_STREAM = (1 << 32) - 1


class Client(asyncio.Protocol):
    """Made by `Client.on`; `closed` is set once the other side is gone, and every waiting call then fails."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = asyncio.Event()
        self._frames = ttrpc.FrameReader(ttrpc.RESPONSE)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._next = 1
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def on(cls, sock: socket.socket, *, name: str) -> Client:
        """A client on a connected socket, which it owns from now on; `name` is what errors call the other side."""
        _transport, client = await asyncio.get_running_loop().create_unix_connection(lambda: cls(name), sock=sock)
        return client

    async def call(
        self, service: str, method: str, request: Message, answer: type[Answer], *, timeout: float | None
    ) -> Answer:
        """Ask and wait at most `timeout` seconds (None: as long as the connection lives). Raises CortenError."""
        if self.closed.is_set() or self._transport is None:
            raise self._gone()
        stream, self._next = self._next, self._next + 2
        if self._next > _LAST_STREAM:
            self._transport.close()
        nanos = int(timeout * 1e9) if timeout is not None else 0
        envelope = ttrpc_pb2.Request(
            service=service, method=method, payload=request.SerializeToString(), timeout_nano=nanos
        )
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[stream] = future
        try:
            self._transport.write(_frame(stream, envelope, self.name))
            async with asyncio.timeout(timeout):
                payload = await future
        except TimeoutError:
            raise DeadlineExceeded("shim", self.name, f"{method} was not answered within {timeout:g} s") from None
        finally:
            self._waiting.pop(stream, None)
        response = ttrpc_pb2.Response()
        result = answer()
        try:
            response.ParseFromString(payload)
            result.ParseFromString(response.payload)
        except DecodeError as error:
            raise Internal("shim", self.name, f"{method} was answered with bytes that are no message") from error
        if response.status.code:
            raise error_of(response.status)
        return result

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._frames.feed(data)
        except ttrpc.ProtocolError:
            assert self._transport is not None
            self._transport.abort()
            return
        for frame in frames:
            future = self._waiting.get(frame.stream)
            if future is not None and not future.done():
                future.set_result(frame.payload)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._gone())

    def _gone(self) -> Unavailable:
        return Unavailable("shim", self.name, "the connection to it is closed")


def _frame(stream: int, envelope: ttrpc_pb2.Request, name: str) -> bytes:
    try:
        return ttrpc.encode(stream, ttrpc.REQUEST, envelope.SerializeToString())
    except ttrpc.ProtocolError as error:
        raise InvalidArgument("container", name, f"its shim cannot be asked that: {error}") from None


def error_of(answer: ttrpc_pb2.Status) -> CortenError:
    """The error that a status other than OK stands for."""
    kind = status.KINDS.get(answer.code, Internal)
    for detail in answer.details:
        if detail.type_url == ttrpc.ERROR_DETAIL:
            known = corten_pb2.ErrorDetail.FromString(detail.value)
            return kind(known.kind, known.name, known.detail)
    return kind("", "", answer.message)
