"""The raw stubs of every service of one engine, and the few calls that tests' own cleaning up needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import grpc
from corten_api.v1 import (
    containers_pb2,
    containers_pb2_grpc,
    content_pb2_grpc,
    events_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    snapshots_pb2,
    snapshots_pb2_grpc,
    system_pb2_grpc,
    tasks_pb2_grpc,
)

_CHUNK = 1 << 20


class Api:
    """One channel and a stub per service."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.images = images_pb2_grpc.ImagesStub(self.channel)
        self.content = content_pb2_grpc.ContentStub(self.channel)
        self.snapshots = snapshots_pb2_grpc.SnapshotsStub(self.channel)
        self.containers = containers_pb2_grpc.ContainersStub(self.channel)
        self.tasks = tasks_pb2_grpc.TasksStub(self.channel)
        self.events = events_pb2_grpc.EventsStub(self.channel)
        self.system = system_pb2_grpc.SystemStub(self.channel)

    def close(self) -> None:
        self.channel.close()

    def load(self, archive: Path) -> None:
        """Images.Load of the archive file."""

        def chunks() -> Iterator[images_pb2.LoadImageRequest]:
            with archive.open("rb") as file:
                while data := file.read(_CHUNK):
                    yield images_pb2.LoadImageRequest(data=data)

        for _ in self.images.Load(chunks(), timeout=300):
            pass

    def has_image(self, reference: str) -> bool:
        try:
            self.images.Get(images_pb2.GetImageRequest(reference=reference), timeout=30)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise
        return True

    def remove_all(self, namespace: str) -> None:
        """Delete every container of `namespace`, running or not."""
        metadata = (("corten-namespace", namespace),)
        request = containers_pb2.ListContainersRequest(all=True)
        for container in self.containers.List(request, metadata=metadata, timeout=30).containers:
            with contextlib.suppress(grpc.RpcError):  # it may be quicker; what stays is told by the caller's check
                deletion = containers_pb2.DeleteContainerRequest(container=container.id, force=True)
                self.containers.Delete(deletion, metadata=metadata, timeout=60)

    def unfinished_snapshots(self) -> list[str]:
        """Snapshots that only a container or an unpacking may have, described."""
        answer = self.snapshots.List(snapshots_pb2.ListSnapshotsRequest(), timeout=30)
        kinds = snapshots_pb2.SnapshotKind
        return [
            f"snapshot: {each.name} ({kinds.Name(each.kind)})"
            for each in answer.snapshots
            if each.kind != kinds.SNAPSHOT_KIND_COMMITTED
        ]
