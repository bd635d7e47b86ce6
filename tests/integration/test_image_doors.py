"""Images, content and snapshots through gRPC, on a unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from corten_api import status
from corten_api.v1 import (
    common_pb2,
    content_pb2,
    content_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    snapshots_pb2,
    snapshots_pb2_grpc,
)
from cortend.services.content import ContentService
from cortend.services.guard import Guard
from cortend.services.images import ImagesService
from cortend.services.snapshots import SnapshotsService

from tests.support.fake_registry import FakeRegistry, served
from tests.support.image_engine import Engine, engine
from tests.support.images import multi_platform


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Engine]:
    async with engine(tmp_path / "root") as made:
        yield made


@pytest.fixture
async def channel(storage: Engine, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    guard = Guard()
    parts: tuple[tuple[Any, object, str], ...] = (
        (images_pb2_grpc.add_ImagesServicer_to_server, ImagesService(storage.images), "Images"),
        (content_pb2_grpc.add_ContentServicer_to_server, ContentService(storage.content), "Content"),
        (snapshots_pb2_grpc.add_SnapshotsServicer_to_server, SnapshotsService(storage.snapshots), "Snapshots"),
    )
    for add, service, name in parts:
        add(guard.around(service, f"corten.v1.{name}"), server)
    address = f"unix:{tmp_path}/sock"
    server.add_insecure_port(address)
    await server.start()
    async with grpc.aio.insecure_channel(address) as made:
        yield made
    await server.stop(None)


@pytest.fixture
async def pulled(channel: grpc.aio.Channel) -> AsyncIterator[images_pb2.Image]:
    fake = FakeRegistry()
    fake.image("1", size=3_000_000)
    async with served(fake.serve) as host:
        stub = images_pb2_grpc.ImagesStub(channel)
        steps = [step async for step in stub.Pull(images_pb2.PullImageRequest(reference=f"{host}/app:1"))]
        assert steps[0].phase == images_pb2.PullImageProgress.PHASE_RESOLVING
        assert any(step.blob.size and step.offset == step.blob.size for step in steps)
        yield steps[-1].done


async def drained(responses: AsyncIterable[object]) -> None:
    async for _ in responses:
        continue


async def test_an_image_is_shown_with_its_configuration(channel: grpc.aio.Channel, pulled: images_pb2.Image) -> None:
    stub = images_pb2_grpc.ImagesStub(channel)
    listed = (await stub.List(images_pb2.ListImagesRequest())).images
    assert listed == [pulled]
    got = (await stub.Get(images_pb2.GetImageRequest(reference=pulled.id[7:19]))).image
    assert got.names == pulled.names
    assert '"Labels": {"a": "b"}' in got.config_json
    assert len(got.layers) == len(got.diff_ids) == 1
    tagged = await stub.Tag(images_pb2.TagImageRequest(source=pulled.id, target="mine"))
    assert "docker.io/library/mine:latest" in tagged.image.names
    removed = await stub.Remove(images_pb2.RemoveImageRequest(reference=pulled.id, force=True))
    assert list(removed.deleted) == [pulled.id]


async def test_an_error_carries_its_kind_and_name(channel: grpc.aio.Channel) -> None:
    stub = images_pb2_grpc.ImagesStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Get(images_pb2.GetImageRequest(reference="absent"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    metadata: Any = caught.value.trailing_metadata()
    (trailer,) = (value for key, value in metadata if key == status.DETAIL_KEY)
    assert status.decode(5, "", trailer).name == "docker.io/library/absent:latest"


async def test_a_load_that_is_no_archive_is_invalid(channel: grpc.aio.Channel) -> None:
    stub = images_pb2_grpc.ImagesStub(channel)
    with pytest.raises(grpc.aio.AioRpcError, match="not a tar archive"):
        await drained(stub.Load(iter([images_pb2.LoadImageRequest(data=b"junk" * 400)])))


async def test_a_load_takes_the_platform_that_is_asked_for(channel: grpc.aio.Channel) -> None:
    stub = images_pb2_grpc.ImagesStub(channel)
    data = multi_platform().archive.read_bytes()

    def requests(platform: common_pb2.Platform) -> Iterator[images_pb2.LoadImageRequest]:
        yield images_pb2.LoadImageRequest(platform=platform)
        for start in range(0, len(data), 1 << 20):
            yield images_pb2.LoadImageRequest(data=data[start : start + (1 << 20)])

    steps = [step async for step in stub.Load(requests(common_pb2.Platform(os="linux", architecture="s390x")))]
    assert steps[-1].loaded.platform.architecture == "s390x"
    with pytest.raises(grpc.aio.AioRpcError, match="linux/mips") as caught:
        await drained(stub.Load(requests(common_pb2.Platform(os="linux", architecture="mips"))))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    # Refused at its first message: grpc.aio takes a failing write of later ones for an error of its own.
    incomplete = images_pb2.LoadImageRequest(platform=common_pb2.Platform(os="linux"))
    with pytest.raises(grpc.aio.AioRpcError, match="has no architecture"):
        await drained(stub.Load(iter([incomplete])))


async def test_content_is_listed_in_pages_and_read_in_pieces(
    channel: grpc.aio.Channel, storage: Engine, pulled: images_pb2.Image
) -> None:
    stub = content_pb2_grpc.ContentStub(channel)
    seen: list[str] = []
    token = ""
    while True:
        page = await stub.List(content_pb2.ListContentRequest(page=common_pb2.Page(size=1, token=token)))
        seen += [each.digest for each in page.blobs]
        token = page.next_token
        if not token:
            break
    assert set(seen) == storage.blobs()
    assert seen == sorted(seen)
    layer = (
        await images_pb2_grpc.ImagesStub(channel).Get(images_pb2.GetImageRequest(reference=pulled.id))
    ).image.layers[0]
    pieces = [each.data async for each in stub.Read(content_pb2.ReadContentRequest(digest=layer.digest))]
    assert max(map(len, pieces)) <= 1 << 20
    whole = b"".join(pieces)
    assert len(whole) == layer.size
    part = content_pb2.ReadContentRequest(digest=layer.digest, offset=5, length=7)
    assert b"".join([each.data async for each in stub.Read(part)]) == whole[5:12]
    assert (await stub.Info(content_pb2.ContentInfoRequest(digest=layer.digest))).size == layer.size
    with pytest.raises(grpc.aio.AioRpcError, match="not within"):
        await drained(stub.Read(content_pb2.ReadContentRequest(digest=layer.digest, offset=layer.size + 1)))
    with pytest.raises(grpc.aio.AioRpcError, match="is not in the content store"):
        await stub.Info(content_pb2.ContentInfoRequest(digest="sha256:" + "0" * 64))


async def test_snapshots_are_prepared_committed_and_kept(
    channel: grpc.aio.Channel, storage: Engine, pulled: images_pb2.Image
) -> None:
    stub = snapshots_pb2_grpc.SnapshotsStub(channel)
    (image_snapshot,) = (await stub.List(snapshots_pb2.ListSnapshotsRequest())).snapshots
    parent = image_snapshot.name
    made = await stub.Prepare(snapshots_pb2.PrepareSnapshotRequest(key="mine", parent=parent, labels={"a": "b"}))
    assert made.mounts[0].type == "overlay"
    assert (await stub.Mounts(snapshots_pb2.SnapshotMountsRequest(key="mine"))).mounts == made.mounts
    viewed = await stub.View(snapshots_pb2.ViewSnapshotRequest(key="look", parent=parent))
    assert "ro" in viewed.mounts[0].options
    committed = await stub.Commit(snapshots_pb2.CommitSnapshotRequest(key="mine", name="done", labels={"a": "b"}))
    assert committed.kind == snapshots_pb2.SNAPSHOT_KIND_COMMITTED
    assert committed.parent == parent
    await images_pb2_grpc.ImagesStub(channel).Remove(images_pb2.RemoveImageRequest(reference=pulled.id))
    await storage.collector.collect()
    assert (await stub.Stat(snapshots_pb2.StatSnapshotRequest(name="done"))).labels["a"] == "b"
    assert (await stub.Usage(snapshots_pb2.SnapshotUsageRequest(name=parent))).size_bytes >= 3_000_000
    first = await stub.List(snapshots_pb2.ListSnapshotsRequest(page=common_pb2.Page(size=2)))
    rest = await stub.List(snapshots_pb2.ListSnapshotsRequest(page=common_pb2.Page(size=2, token=first.next_token)))
    assert [len(first.snapshots), len(rest.snapshots)] == [2, 1]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Remove(snapshots_pb2.RemoveSnapshotRequest(name=parent))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    for name in ("done", "look", parent):
        await stub.Remove(snapshots_pb2.RemoveSnapshotRequest(name=name))
    assert len((await stub.List(snapshots_pb2.ListSnapshotsRequest())).snapshots) == 0
