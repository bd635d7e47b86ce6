"""The Content service: blobs as they are stored. Owns paging and pacing, nothing of what blobs mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

from corten_api.errors import InvalidArgument
from corten_api.v1 import content_pb2, content_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp

from cortend.content.store import BlobInfo, ContentStore
from cortend.oci.digest import Digest

_CHUNK = 1 << 20
_MAX_PAGE = 1000


class ContentService(content_pb2_grpc.ContentServicer):
    """Blobs over gRPC, read-only."""

    def __init__(self, content: ContentStore) -> None:
        self._content = content

    async def Info(self, request: content_pb2.ContentInfoRequest, context: Any) -> content_pb2.ContentInfo:
        return _message(await asyncio.to_thread(self._content.info, Digest.stored(request.digest)))

    async def List(self, request: content_pb2.ListContentRequest, context: Any) -> content_pb2.ListContentResponse:
        limit = min(request.page.size, _MAX_PAGE) if request.page.size > 0 else _MAX_PAGE
        after = request.page.token
        if after:
            Digest.stored(after)
        found = await asyncio.to_thread(self._page, after, limit + 1)
        token = str(found[limit - 1].digest) if len(found) > limit else ""
        return content_pb2.ListContentResponse(blobs=[_message(each) for each in found[:limit]], next_token=token)

    async def Read(
        self, request: content_pb2.ReadContentRequest, context: Any
    ) -> AsyncIterator[content_pb2.ReadContentResponse]:
        digest = Digest.stored(request.digest)
        with await asyncio.to_thread(self._content.open, digest) as blob:
            size = blob.seek(0, 2)
            if not 0 <= request.offset <= size or request.length < 0:
                detail = f"offset {request.offset} and length {request.length} are not within its {size} bytes"
                raise InvalidArgument("blob", str(digest), detail)
            left = min(request.length or size, size - request.offset)
            blob.seek(request.offset)
            while left > 0 and (data := await asyncio.to_thread(blob.read, min(_CHUNK, left))):
                left -= len(data)
                yield content_pb2.ReadContentResponse(data=data)

    def _page(self, after: str, count: int) -> list[BlobInfo]:
        return list(islice((each for each in self._content.list() if str(each.digest) > after), count))


def _message(blob: BlobInfo) -> content_pb2.ContentInfo:
    created = Timestamp(seconds=blob.created_at_ns // 10**9, nanos=blob.created_at_ns % 10**9)
    return content_pb2.ContentInfo(digest=str(blob.digest), size=blob.size, created_at=created)
