"""Blobs: immutable bytes named by their digest."""

from __future__ import annotations

from corten_api.v1 import content_pb2

from corten import _calls, _messages
from corten._blocks import Face, blocking, iterating
from corten._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from typing import Any


class Blob(Value):
    """A blob that is here. `size` is in bytes."""

    digest: str
    size: int
    created_at_ns: int


class AsyncContent:
    """Blobs, as coroutines."""

    def __init__(self, calls: _calls.Calls) -> None:
        self._calls = calls

    async def info(self, digest: str) -> Blob:
        """Raises NotFound."""
        request = content_pb2.ContentInfoRequest(digest=digest)
        return _blob(await self._calls.unary("Content/Info", request, content_pb2.ContentInfo))

    async def list(self) -> tuple[Blob, ...]:
        """Every blob, ordered by digest."""

        async def page(page: Any) -> tuple[Iterable[Any], str]:
            request = content_pb2.ListContentRequest(page=page)
            answer = await self._calls.unary("Content/List", request, content_pb2.ListContentResponse)
            return answer.blobs, answer.next_token

        return tuple([_blob(each) for each in await _messages.pages(page)])

    async def read(
        self, digest: str, *, offset: int = 0, length: int = 0, timeout: float | None = None
    ) -> AsyncIterator[bytes]:
        """Its bytes in order; `length` 0 is to the end. Raises NotFound."""
        request = content_pb2.ReadContentRequest(digest=digest, offset=offset, length=length)
        exchange = await self._calls.stream("Content/Read", request, content_pb2.ReadContentResponse, timeout=timeout)
        try:
            while (message := await exchange.receive()) is not None:
                yield message.data
        finally:
            exchange.cancel()


class Content(Face[AsyncContent]):
    """Blobs, blocking."""

    info = blocking(AsyncContent.info)
    list = blocking(AsyncContent.list)
    read = iterating(AsyncContent.read)


def _blob(message: Any) -> Blob:
    return Blob(digest=message.digest, size=message.size, created_at_ns=_messages.nanoseconds(message, "created_at"))
