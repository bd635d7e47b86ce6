"""Snapshots. `key` names an active snapshot or view, `name` a committed one, `parent` is always a `name`."""

from __future__ import annotations

from types import MappingProxyType

from corten_api.v1 import common_pb2, snapshots_pb2

from corten import _calls, _messages
from corten._blocks import Face, blocking
from corten._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_NONE: Mapping[str, str] = MappingProxyType({})


class Mount(Value):
    """A filesystem to mount, as mount(2) takes it."""

    type: str
    source: str
    options: tuple[str, ...]


class Snapshot(Value):
    """`kind` is "view", "active" or "committed"; `parent` is empty at the bottom."""

    kind: str
    name: str
    parent: str
    created_at_ns: int
    labels: Mapping[str, str]


class Usage(Value):
    """Disk used by one snapshot, parents excluded."""

    size_bytes: int
    inodes: int


class AsyncSnapshots:
    """Snapshots, as coroutines."""

    def __init__(self, calls: _calls.Calls) -> None:
        self._calls = calls

    async def prepare(self, key: str, parent: str = "", *, labels: Mapping[str, str] = _NONE) -> tuple[Mount, ...]:
        """An active snapshot on `parent`. Raises NotFound, AlreadyExists."""
        request = snapshots_pb2.PrepareSnapshotRequest(key=key, parent=parent, labels=dict(labels))
        return _mounts(await self._calls.unary("Snapshots/Prepare", request, snapshots_pb2.MountsResponse))

    async def view(self, key: str, parent: str = "", *, labels: Mapping[str, str] = _NONE) -> tuple[Mount, ...]:
        """A read-only one on `parent`. Raises NotFound, AlreadyExists."""
        request = snapshots_pb2.ViewSnapshotRequest(key=key, parent=parent, labels=dict(labels))
        return _mounts(await self._calls.unary("Snapshots/View", request, snapshots_pb2.MountsResponse))

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """How an active snapshot or view is mounted. Raises NotFound."""
        request = snapshots_pb2.SnapshotMountsRequest(key=key)
        return _mounts(await self._calls.unary("Snapshots/Mounts", request, snapshots_pb2.MountsResponse))

    async def commit(self, key: str, name: str, *, labels: Mapping[str, str] = _NONE) -> Snapshot:
        """Turn an active snapshot into a committed one. Raises NotFound, AlreadyExists."""
        request = snapshots_pb2.CommitSnapshotRequest(key=key, name=name, labels=dict(labels))
        return _snapshot(await self._calls.unary("Snapshots/Commit", request, snapshots_pb2.SnapshotInfo))

    async def remove(self, name: str) -> None:
        """Raises NotFound, and FailedPrecondition for one with children."""
        request = snapshots_pb2.RemoveSnapshotRequest(name=name)
        await self._calls.unary("Snapshots/Remove", request, snapshots_pb2.RemoveSnapshotResponse)

    async def stat(self, name: str) -> Snapshot:
        """Raises NotFound."""
        request = snapshots_pb2.StatSnapshotRequest(name=name)
        return _snapshot(await self._calls.unary("Snapshots/Stat", request, snapshots_pb2.SnapshotInfo))

    async def list(self) -> tuple[Snapshot, ...]:
        """Every snapshot."""

        async def page(page: common_pb2.Page) -> tuple[Iterable[Any], str]:
            request = snapshots_pb2.ListSnapshotsRequest(page=page)
            answer = await self._calls.unary("Snapshots/List", request, snapshots_pb2.ListSnapshotsResponse)
            return answer.snapshots, answer.next_token

        return tuple([_snapshot(each) for each in await _messages.pages(page)])

    async def usage(self, name: str) -> Usage:
        """Raises NotFound."""
        request = snapshots_pb2.SnapshotUsageRequest(name=name)
        answer = await self._calls.unary("Snapshots/Usage", request, snapshots_pb2.SnapshotUsage)
        return Usage(size_bytes=answer.size_bytes, inodes=answer.inodes)


class Snapshots(Face[AsyncSnapshots]):
    """Snapshots, blocking."""

    prepare = blocking(AsyncSnapshots.prepare)
    view = blocking(AsyncSnapshots.view)
    mounts = blocking(AsyncSnapshots.mounts)
    commit = blocking(AsyncSnapshots.commit)
    remove = blocking(AsyncSnapshots.remove)
    stat = blocking(AsyncSnapshots.stat)
    list = blocking(AsyncSnapshots.list)
    usage = blocking(AsyncSnapshots.usage)


def _mounts(message: Any) -> tuple[Mount, ...]:
    return tuple(Mount(type=each.type, source=each.source, options=tuple(each.options)) for each in message.mounts)


def _snapshot(message: Any) -> Snapshot:
    kind = snapshots_pb2.SnapshotKind.Name(message.kind).removeprefix("SNAPSHOT_KIND_").lower()
    return Snapshot(
        kind=kind,
        name=message.name,
        parent=message.parent,
        created_at_ns=_messages.nanoseconds(message, "created_at"),
        labels=dict(message.labels),
    )
