"""Opening transports. The only module that imports grpc, and only for the asynchronous client.

Owns addresses and the grpc.aio implementation of `corten._calls.Transport`. The blocking one is `corten._blocking`.
"""

from __future__ import annotations

import os

from corten_api import status
from corten_api.errors import CortenError, InvalidArgument, Unavailable

from corten._calls import NAMESPACE_KEY, Options, Parser, Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    M = TypeVar("M")

DEFAULT_ADDRESS = "unix:///run/corten/engine.sock"
USER_AGENT = "corten-python"
_MAX_MESSAGE = 16 << 20
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


def address_of(given: str | None) -> str:
    """`given`, else CORTEN_ADDRESS, else the default. Raises InvalidArgument for one that names no engine."""
    address = given or os.environ.get("CORTEN_ADDRESS") or DEFAULT_ADDRESS
    if address.startswith("/"):
        return f"unix://{address}"
    kind, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    if (kind == "unix" and rest.startswith("/")) or (kind == "tcp" and host and port.isdecimal()):
        return address
    raise InvalidArgument("address", address, "unix:///absolute/path or tcp://host:port is needed")


def namespace_of(given: str | None) -> str:
    """`given`, else CORTEN_NAMESPACE, else "default"."""
    return given or os.environ.get("CORTEN_NAMESPACE") or "default"


def open_blocking(address: str) -> Transport:
    """A transport that blocks; it connects at the first call."""
    from corten._blocking import SocketTransport

    return SocketTransport(address, user_agent=USER_AGENT)


def open_async(address: str) -> Transport:
    """A transport for an event loop; it connects at the first call."""
    return _AioTransport(address)


class _AioTransport:
    reads_files = False  # nothing may block the event loop

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: Any = None

    def _opened(self) -> Any:
        if self._channel is None:
            from grpc import aio

            target = self._address.removeprefix("tcp://")
            if target.startswith("unix://"):
                target = f"unix:{target.removeprefix('unix://')}"
            self._channel = aio.insecure_channel(target, options=_OPTIONS)
        return self._channel

    async def unary(self, path: str, request: Any, reply: Parser[M], *, options: Options) -> M:
        from grpc import aio

        parse = reply.FromString
        call = self._opened().unary_unary(path, request_serializer=_serialised, response_deserializer=parse)
        try:
            answer: M = await call(request, timeout=options.timeout, metadata=_metadata(options))
        except aio.AioRpcError as error:
            raise self.error(error.code(), error.details(), error.trailing_metadata()) from error
        return answer

    async def open(self, path: str, reply: Parser[M], *, options: Options) -> _AioExchange:
        parse = reply.FromString
        call = self._opened().stream_stream(path, request_serializer=_serialised, response_deserializer=parse)
        return _AioExchange(self, call(timeout=options.timeout, metadata=_metadata(options)))

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    def error(self, code: Any, details: str | None, trailers: Any) -> CortenError:
        """What a call ended with."""
        trailer = next((value for key, value in trailers or () if key == status.DETAIL_KEY), None)
        number: int = code.value[0]
        text = details or ""
        if number == 14 and trailer is None and "failed to connect" in text.lower():
            return Unavailable("", "", f"Cannot connect to the Corten engine at {self._address}. Is cortend running?")
        return status.decode(number, text, trailer)


class _AioExchange:
    def __init__(self, transport: _AioTransport, call: Any) -> None:
        self._transport = transport
        self._call = call

    async def send(self, message: Any) -> None:
        import asyncio

        from grpc import aio

        try:
            await self._call.write(message)
        except (aio.AioRpcError, asyncio.InvalidStateError):
            return  # the call is over; `receive` says why

    async def half_close(self) -> None:
        if not self._call.done():
            await self._call.done_writing()

    async def receive(self) -> Any:
        from grpc import aio

        try:
            message = await self._call.read()
            if message is not aio.EOF:  # type: ignore[attr-defined]
                return message
            code = await self._call.code()
            if code.value[0] == 0:
                return None
            raise self._transport.error(code, await self._call.details(), await self._call.trailing_metadata())
        except aio.AioRpcError as error:
            raise self._transport.error(error.code(), error.details(), error.trailing_metadata()) from error

    def cancel(self) -> None:
        self._call.cancel()


def _serialised(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _metadata(options: Options) -> tuple[tuple[str, str], ...]:
    return ((NAMESPACE_KEY, options.namespace),)
