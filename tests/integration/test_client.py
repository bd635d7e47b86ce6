"""The client library against a real engine: both clients, every noun. What the command makes of it is `test_cli`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from corten import AsyncClient, Client, errors
from corten.containers import Container, ContainerConfig, MountPoint, Resources

from tests.support.daemon import Daemon
from tests.support.images import TestImage

pytestmark = pytest.mark.root


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.address) as client:
        yield client


def made(client: Client, image: str, *command: str, name: str = "", **config: object) -> Container:
    return client.containers.create(
        ContainerConfig(image=image, command=command, **config),  # type: ignore[arg-type]
        name=name,
    ).container


def output(client: Client, container: Container) -> tuple[bytes, bytes, int]:
    """Attach, start and read to the end: stdout, stderr, exit code."""
    said = {"stdout": bytearray(), "stderr": bytearray()}
    with client.tasks.attach(container.id) as attachment:
        client.tasks.start(container.id)
        while (part := attachment.read()) is not None:
            said[part.stream] += part.data
        assert attachment.exit_status is not None
        return bytes(said["stdout"]), bytes(said["stderr"]), attachment.exit_status.exit_code


def test_the_first_byte_of_a_container_is_read_and_its_exit_code(client: Client, busybox: str) -> None:
    container = made(client, busybox, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert output(client, container) == (b"out\n", b"err\n", 7)
    assert client.tasks.wait(container.id).exit_code == 7
    state = client.containers.get(container.id).state
    assert (state.status, state.exit_code) == ("exited", 7)
    assert state.finished_at_ns > state.started_at_ns > 0


def test_what_is_written_to_a_container_comes_back_whole(client: Client, busybox: str) -> None:
    container = made(client, busybox, "cat", open_stdin=True, stdin_once=True)
    data = bytes(range(256)) * 40_000
    received = bytearray()
    with client.tasks.attach(container.id, stdin=True) as attachment:
        client.tasks.start(container.id)

        def write() -> None:
            attachment.write(data)
            attachment.close_stdin()

        writer = threading.Thread(target=write)
        writer.start()
        while (part := attachment.read()) is not None:
            received += part.data
        writer.join(20)
    assert received == data


def test_a_configuration_is_kept_as_it_was_given(client: Client, busybox: str, tmp_path: Path) -> None:
    config = ContainerConfig(
        image=busybox,
        command=("sleep", "60"),
        environment=("A=b",),
        labels={"of": "test"},
        mounts=(MountPoint(source=str(tmp_path), target="/mnt", read_only=True),),
        resources=Resources(memory_bytes=64 << 20, pids_limit=50),
        stop_timeout=0.5,
        network="none",
    )
    created = client.containers.create(config, name="kept").container
    found = client.containers.get("kept")
    assert found.id == created.id
    assert found.config.replace(hostname="") == config
    client.tasks.start("kept")
    spec = json.loads(client.containers.get("kept").runtime_spec_json)
    assert spec["process"]["args"] == ["sleep", "60"]
    assert [each.name for each in client.containers.list(labels={"of": "test"})] == ["kept"]
    client.containers.rename("kept", "renamed")
    client.tasks.stop("renamed", grace=0)
    assert client.tasks.wait("renamed").exit_code == 137


def test_a_process_beside_the_container_has_its_own_streams_and_end(client: Client, busybox: str) -> None:
    container = made(client, busybox, "sleep", "60")
    client.tasks.start(container.id)
    process = client.tasks.exec(container.id, ["sh", "-c", "echo $X; exit 5"], environment=["X=y"], attach_first=True)
    with client.tasks.attach(container.id, exec_id=process.exec_id) as attachment:
        part = attachment.read()
        assert part is not None
        assert part.data == b"y\n"
        assert attachment.read() is None
        assert attachment.exit_status is not None
        assert attachment.exit_status.exit_code == 5
    assert len(client.tasks.pids(container.id)) == 1
    client.tasks.pause(container.id)
    assert client.containers.get(container.id).state.status == "paused"
    client.tasks.resume(container.id)


def test_a_terminal_is_told_its_size(client: Client, busybox: str) -> None:
    container = made(client, busybox, "sh", "-c", "stty size; read x; stty size", terminal=True, open_stdin=True)
    received = b""
    with client.tasks.attach(container.id, stdin=True, size=(91, 17)) as attachment:
        assert attachment.terminal
        client.tasks.start(container.id)
        while b"17 91" not in received:
            part = attachment.read()
            assert part is not None, received
            received += part.data
        attachment.resize(80, 24)
        attachment.write(b"\n")
        while (part := attachment.read()) is not None:
            received += part.data
    assert b"24 80" in received


def test_logs_come_in_order_with_their_streams(client: Client, busybox: str) -> None:
    container = made(client, busybox, "sh", "-c", "for i in 1 2 3; do echo $i; done; sleep 0.2; echo e >&2")
    client.tasks.start(container.id)
    entries = [entry for batch in client.tasks.logs(container.id, follow=True) for entry in batch]
    assert [(entry.stream, entry.data) for entry in entries] == [
        ("stdout", b"1\n"),
        ("stdout", b"2\n"),
        ("stdout", b"3\n"),
        ("stderr", b"e\n"),
    ]
    last = [entry for batch in client.tasks.logs(container.id, tail=1) for entry in batch]
    assert [entry.data for entry in last] == [b"e\n"]


def test_events_go_on_from_a_cursor(client: Client, busybox: str) -> None:
    container = made(client, busybox, "true")
    client.tasks.start(container.id)
    client.tasks.wait(container.id)
    topics = []
    with client.events.subscribe(since_ns=container.created_at_ns - 1_000_000_000, timeout=20) as events:
        for event in events:
            if event.id == container.id:
                topics.append(event.topic)
                if event.topic == "task.exited":
                    break
    assert topics[0] == "container.created"
    assert event.attributes["exit_code"] == "0"
    with client.events.subscribe(after=event.cursor - 1, timeout=20) as events:
        assert next(events).cursor == event.cursor


def test_images_content_and_snapshots_are_one_store(client: Client, busybox: str, busybox_image: TestImage) -> None:
    image = client.images.get(busybox)
    assert busybox in image.names
    assert json.loads(image.config_json)["os"] == "linux"
    assert len(image.layers) == len(image.diff_ids) > 0
    blob = client.content.info(image.manifest.digest)
    read = b"".join(client.content.read(blob.digest))
    assert len(read) == blob.size
    assert json.loads(read)["config"]["digest"] == image.id
    assert blob.digest in {each.digest for each in client.content.list()}
    tagged = client.images.tag(busybox, "other:1")
    assert tagged.id == image.id
    assert client.images.remove("other:1").deleted == ()
    chain = next(each.name for each in client.snapshots.list() if each.kind == "committed")
    mounts = client.snapshots.prepare("by-hand", chain)
    assert mounts == client.snapshots.mounts("by-hand")
    assert client.snapshots.stat("by-hand").parent == chain
    assert client.snapshots.usage(chain).inodes > 0
    client.snapshots.remove("by-hand")
    with pytest.raises(errors.NotFound):
        client.snapshots.stat("by-hand")


def test_namespaces_do_not_see_each_others_containers(daemon: Daemon, client: Client, busybox: str) -> None:
    container = made(client, busybox, "true")
    with Client(daemon.address, namespace="elsewhere") as other:
        assert other.containers.list(all=True) == ()
        with pytest.raises(errors.NotFound):
            other.containers.get(container.id)


async def test_the_asynchronous_client_does_the_same(daemon: Daemon, busybox: str) -> None:
    async with AsyncClient(daemon.address) as client:
        assert (await client.system.version()).api == "corten.v1"
        created = await client.containers.create(
            ContainerConfig(image=busybox, command=("sh", "-c", "echo hi; exit 3"))
        )
        container = created.container.id
        async with await client.tasks.attach(container) as attachment:
            await client.tasks.start(container)
            part = await attachment.read()
            assert part is not None
            assert part.data == b"hi\n"
            assert await attachment.read() is None
            assert attachment.exit_status is not None
            assert attachment.exit_status.exit_code == 3
        entries = [entry async for batch in client.tasks.logs(container) for entry in batch]
        assert [entry.data for entry in entries] == [b"hi\n"]
        with pytest.raises(errors.NotFound) as caught:
            await client.containers.get("nobody")
        assert (caught.value.kind, caught.value.name) == ("container", "nobody")
        await client.containers.delete(container)


def test_a_client_outlives_its_engine(fresh_daemon: Daemon) -> None:
    with Client(fresh_daemon.address) as client:
        first = client.system.info()
        fresh_daemon.restart(crash=True)
        second = client.system.info()
    assert first.id == second.id
    assert first.pid != second.pid
