"""The transport over grpc: the only module of the client that imports it.

Owns channels and what grpc's failures are called here. The blocking client uses it for addresses that are no unix
socket; the asynchronous one for all.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
from corten_api import status
from corten_api.errors import CortenError

_OPTIONS = (
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
)


def _target(address: str) -> str:
    scheme, _, rest = address.partition("://")
    return f"unix:{rest}" if scheme == "unix" else rest


def translated(failure: Any) -> CortenError:
    """The error of the closed set that a grpc failure stands for."""
    trailer = None
    for key, value in failure.trailing_metadata() or ():
        if key == status.DETAIL_KEY:
            trailer = bytes(value)
    return status.decode(failure.code().value[0], failure.details() or "", trailer)


class Channel:
    """Blocking calls over one grpc channel."""

    def __init__(self, address: str, namespace: str) -> None:
        self._channel = grpc.insecure_channel(_target(address), options=_OPTIONS)
        self._metadata = (("corten-namespace", namespace),)

    def unary(self, path: str, request: bytes, timeout: float | None) -> bytes:
        try:
            answer = self._channel.unary_unary(path)(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as failure:
            raise translated(failure) from None
        return bytes(answer)

    def open(self, path: str, timeout: float | None) -> _Stream:
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        call = self._channel.stream_stream(path)(_drain(requests), timeout=timeout, metadata=self._metadata)
        return _Stream(call, requests)

    def close(self) -> None:
        self._channel.close()


def _drain(requests: queue.SimpleQueue[bytes | None]) -> Iterator[bytes]:
    while (request := requests.get()) is not None:
        yield request


class _Stream:
    def __init__(self, call: Any, requests: queue.SimpleQueue[bytes | None]) -> None:
        self._call = call
        self._requests = requests

    def send(self, message: bytes) -> None:
        self._requests.put(message)

    def half_close(self) -> None:
        self._requests.put(None)

    def receive(self) -> bytes | None:
        try:
            return bytes(next(self._call))
        except StopIteration:
            return None
        except grpc.RpcError as failure:
            raise translated(failure) from None

    def cancel(self) -> None:
        self._requests.put(None)
        self._call.cancel()


class AsyncChannel:
    """Awaited calls over one grpc channel."""

    def __init__(self, address: str, namespace: str) -> None:
        self._channel = grpc.aio.insecure_channel(_target(address), options=_OPTIONS)
        self._metadata = (("corten-namespace", namespace),)

    async def aunary(self, path: str, request: bytes, timeout: float | None) -> bytes:
        try:
            answer = await self._channel.unary_unary(path)(request, timeout=timeout, metadata=self._metadata)
        except grpc.aio.AioRpcError as failure:
            raise translated(failure) from None
        return bytes(answer)

    async def aopen(self, path: str, timeout: float | None) -> _AsyncStream:
        return _AsyncStream(self._channel.stream_stream(path)(timeout=timeout, metadata=self._metadata))

    async def aclose(self) -> None:
        await self._channel.close()


class _AsyncStream:
    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, message: bytes) -> None:
        try:
            await self._call.write(message)
        except grpc.aio.AioRpcError as failure:
            raise translated(failure) from None

    async def half_close(self) -> None:
        await self._call.done_writing()

    async def receive(self) -> bytes | None:
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as failure:
            raise translated(failure) from None
        return None if message is grpc.aio.EOF else bytes(message)

    async def cancel(self) -> None:
        self._call.cancel()
