"""The Snapshots service: corten.v1 messages to calls of the snapshotter and back.

Owns the label that keeps what callers make here from being collected as nobody's; removing it is theirs.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import Any

from corten_api.errors import InvalidArgument
from corten_api.v1 import common_pb2, snapshots_pb2, snapshots_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp

from cortend.domain.mounts import Mount
from cortend.gc import ROOT_LABEL
from cortend.snapshots.snapshotter import Kind, Snapshot, Snapshotter

_MAX_PAGE = 1000
_KINDS = {
    Kind.VIEW: snapshots_pb2.SNAPSHOT_KIND_VIEW,
    Kind.ACTIVE: snapshots_pb2.SNAPSHOT_KIND_ACTIVE,
    Kind.COMMITTED: snapshots_pb2.SNAPSHOT_KIND_COMMITTED,
}


class SnapshotsService(snapshots_pb2_grpc.SnapshotsServicer):
    """Snapshots over gRPC."""

    def __init__(self, snapshots: Snapshotter) -> None:
        self._snapshots = snapshots

    async def Prepare(
        self, request: snapshots_pb2.PrepareSnapshotRequest, context: Any
    ) -> snapshots_pb2.MountsResponse:
        labels = _kept(request.labels)
        mounts = await asyncio.to_thread(
            self._snapshots.prepare, _named(request.key), request.parent or None, labels=labels
        )
        return _mounts(mounts)

    async def View(self, request: snapshots_pb2.ViewSnapshotRequest, context: Any) -> snapshots_pb2.MountsResponse:
        labels = _kept(request.labels)
        mounts = await asyncio.to_thread(
            self._snapshots.view, _named(request.key), request.parent or None, labels=labels
        )
        return _mounts(mounts)

    async def Mounts(self, request: snapshots_pb2.SnapshotMountsRequest, context: Any) -> snapshots_pb2.MountsResponse:
        return _mounts(await asyncio.to_thread(self._snapshots.mounts, request.key))

    async def Commit(self, request: snapshots_pb2.CommitSnapshotRequest, context: Any) -> snapshots_pb2.SnapshotInfo:
        labels = _kept(request.labels)
        return _message(
            await asyncio.to_thread(self._snapshots.commit, request.key, _named(request.name), labels=labels)
        )

    async def Remove(
        self, request: snapshots_pb2.RemoveSnapshotRequest, context: Any
    ) -> snapshots_pb2.RemoveSnapshotResponse:
        await asyncio.to_thread(self._snapshots.remove, request.name)
        return snapshots_pb2.RemoveSnapshotResponse()

    async def Stat(self, request: snapshots_pb2.StatSnapshotRequest, context: Any) -> snapshots_pb2.SnapshotInfo:
        return _message(await asyncio.to_thread(self._snapshots.stat, request.name))

    async def List(
        self, request: snapshots_pb2.ListSnapshotsRequest, context: Any
    ) -> snapshots_pb2.ListSnapshotsResponse:
        limit = min(request.page.size, _MAX_PAGE) if request.page.size > 0 else _MAX_PAGE
        after = _position(request.page.token)
        found = await asyncio.to_thread(self._snapshots.list, after=after, limit=limit + 1)
        token = _token(found[limit - 1].name) if len(found) > limit else ""
        return snapshots_pb2.ListSnapshotsResponse(
            snapshots=[_message(each) for each in found[:limit]], next_token=token
        )

    async def Usage(self, request: snapshots_pb2.SnapshotUsageRequest, context: Any) -> snapshots_pb2.SnapshotUsage:
        usage = await asyncio.to_thread(self._snapshots.usage, request.name)
        return snapshots_pb2.SnapshotUsage(size_bytes=usage.size_bytes, inodes=usage.inodes)


def _kept(labels: Any) -> dict[str, str]:
    return {**labels, ROOT_LABEL: "api"}


def _named(name: str) -> str:
    if not name or len(name) > 1024 or not name.isprintable():
        raise InvalidArgument("snapshot", name[:80], "needs a name of 1 to 1024 printable characters")
    return name


def _mounts(mounts: Sequence[Mount]) -> snapshots_pb2.MountsResponse:
    return snapshots_pb2.MountsResponse(
        mounts=[common_pb2.Mount(type=each.type, source=each.source, options=each.options) for each in mounts]
    )


def _message(snapshot: Snapshot) -> snapshots_pb2.SnapshotInfo:
    nanoseconds = snapshot.created_at_ns
    return snapshots_pb2.SnapshotInfo(
        kind=_KINDS[snapshot.kind],
        name=snapshot.name,
        parent=snapshot.parent,
        created_at=Timestamp(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9),
        labels=dict(snapshot.labels),
    )


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _position(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidArgument("page token", token[:80], "is not one that a list returned") from None
