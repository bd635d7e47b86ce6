"""What both transports do, the blocking client's and the asynchronous one's, over a real gRPC server."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from corten import _blocking, _channel, errors
from corten._calls import Transport
from corten.client import AsyncClient, Client
from corten_api.v1 import common_pb2, images_pb2, system_pb2, tasks_pb2

from tests.unit.client.fake_engine import FakeEngine, no_image

Opener = Callable[[str], Transport]


@pytest.fixture(params=[_channel.open_blocking, _channel.open_async], ids=["blocking", "grpc"])
def opener(request: pytest.FixtureRequest) -> Opener:
    chosen: Opener = request.param
    return chosen


@pytest.fixture
async def client(engine: FakeEngine, opener: Opener) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(engine.address, namespace="tests", transport=opener(engine.address)) as client:
        yield client


def attach_response(data: bytes) -> tasks_pb2.AttachResponse:
    return tasks_pb2.AttachResponse(stdout=data)


ATTACHED = tasks_pb2.AttachResponse(attached=tasks_pb2.AttachResponse.Attached(terminal=True))
EXITED = tasks_pb2.AttachResponse(exited=tasks_pb2.ExitStatus(exit_code=3))


async def test_a_call_is_answered_in_the_clients_namespace(engine: FakeEngine, client: AsyncClient) -> None:
    engine.answers["System/Version"] = lambda _: system_pb2.VersionResponse(version="1.2", os="linux")
    assert (await client.system.version()).version == "1.2"
    assert engine.namespaces == ["tests"]


async def test_an_error_comes_as_its_class_with_its_data(engine: FakeEngine, client: AsyncClient) -> None:
    engine.answers["Images/Get"] = no_image
    for _ in range(3):
        with pytest.raises(errors.NotFound) as caught:
            await client.images.get("büsybox")
        assert (caught.value.kind, caught.value.name) == ("image", "büsybox")
        assert caught.value.detail == "is not here; täglich %41"


async def test_a_call_nobody_serves_is_unimplemented(client: AsyncClient) -> None:
    with pytest.raises(errors.Unimplemented):
        await client.system.ping()


async def test_a_call_has_a_deadline(engine: FakeEngine, opener: Opener) -> None:
    release = threading.Event()
    engine.answers["System/Ping"] = lambda _: (release.wait(10), system_pb2.PingResponse())[1]
    async with AsyncClient(engine.address, timeout=0.2, transport=opener(engine.address)) as client:
        started = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            await client.system.ping()
        assert time.monotonic() - started < 5
        release.set()
        await client.system.ping()


async def test_lists_are_read_page_by_page(engine: FakeEngine, client: AsyncClient) -> None:
    def page(request: Any) -> Any:
        number = int(request.page.token or 0)
        images = [images_pb2.Image(id=f"sha256:{number}", manifest=common_pb2.Descriptor(size=number))]
        return images_pb2.ListImagesResponse(images=images, next_token=str(number + 1) if number < 2 else "")

    engine.answers["Images/List"] = page
    assert [each.id for each in await client.images.list()] == ["sha256:0", "sha256:1", "sha256:2"]


async def test_a_stream_ends_with_the_error_it_met(engine: FakeEngine, client: AsyncClient) -> None:
    def pull(request: Any) -> Iterator[Any]:
        yield images_pb2.PullImageProgress(phase="PHASE_RESOLVING")
        raise errors.DataLoss("blob", "sha256:1", "is damaged")

    engine.answers["Images/Pull"] = pull
    steps = client.images.pull("x")
    assert (await anext(steps)).phase == "resolving"
    with pytest.raises(errors.DataLoss, match="is damaged"):
        await anext(steps)


async def test_much_goes_both_ways_and_arrives_whole(engine: FakeEngine, client: AsyncClient) -> None:
    def echo(requests: Iterator[Any]) -> Iterator[Any]:
        assert next(requests).open.container == "c"
        yield ATTACHED
        for request in requests:
            if request.WhichOneof("message") == "stdin":
                yield attach_response(request.stdin)
            elif request.close_stdin:
                break
        yield EXITED

    engine.answers["Tasks/Attach"] = echo
    data = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(500_000))
    attachment = await client.tasks.attach("c", stdin=True)
    assert attachment.terminal
    received = bytearray()
    for start in range(0, len(data), 3 << 20):
        part = data[start : start + (3 << 20)]
        await attachment.write(part)
        while len(received) < start + len(part):
            output = await attachment.read()
            assert output is not None
            received += output.data
    await attachment.close_stdin()
    assert await attachment.read() is None
    assert received == data
    assert attachment.exit_status is not None
    assert attachment.exit_status.exit_code == 3


async def test_leaving_a_stream_tells_the_engine(engine: FakeEngine, client: AsyncClient) -> None:
    gone = threading.Event()

    def logs(request: Any) -> Iterator[Any]:
        try:
            while True:
                yield tasks_pb2.LogEntries(entries=[tasks_pb2.LogEntry(data=b"x\n")])
                time.sleep(0.01)
        finally:
            gone.set()

    engine.answers["Tasks/Logs"] = logs
    entries = client.tasks.logs("c", follow=True)
    assert (await anext(entries))[0].data == b"x\n"
    await entries.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(gone.wait, 10)


async def test_an_engine_that_came_back_is_connected_to_again(engine: FakeEngine, client: AsyncClient) -> None:
    engine.answers["System/Ping"] = lambda _: system_pb2.PingResponse()
    await client.system.ping()
    engine.stop()
    await asyncio.sleep(0.1)
    with pytest.raises(errors.Unavailable):
        await client.system.ping()
    engine.start()
    deadline = time.monotonic() + 20
    while True:
        try:
            await client.system.ping()
            return
        except errors.Unavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)


async def test_an_engine_that_is_not_there_is_named(tmp_path: Path, opener: Opener) -> None:
    address = f"unix://{tmp_path}/none.sock"
    async with AsyncClient(address, transport=opener(address)) as client:
        with pytest.raises(
            errors.Unavailable, match=r"Cannot connect to the Corten engine at unix://.*Is cortend running"
        ):
            await client.system.ping()


def test_a_connection_nobody_reads_stays_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocking, "_IDLE_LOOK", 0.1)
    options = (("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_timeout_ms", 300))
    engine = FakeEngine(
        tmp_path / "engine.sock", options=(*options, ("grpc.http2.min_ping_interval_without_data_ms", 1))
    )
    engine.answers["Tasks/Attach"] = lambda _: iter([ATTACHED, *[attach_response(bytes(1 << 20))] * 40, EXITED])
    with Client(engine.address) as client, client.tasks.attach("c") as attachment:
        assert attachment.read() is not None
        time.sleep(3.5)
        received = 1
        while attachment.read() is not None:
            received += 1
    assert received == 40
    engine.stop()


def test_threads_share_a_blocking_client(engine: FakeEngine) -> None:
    def wait(request: Any) -> Any:
        time.sleep(int(request.container) / 100)
        return tasks_pb2.WaitTaskResponse(status=tasks_pb2.ExitStatus(exit_code=int(request.container)))

    engine.answers["Tasks/Wait"] = wait
    codes: dict[int, int] = {}
    with Client(engine.address) as client:

        def ask(number: int) -> None:
            codes[number] = client.tasks.wait(str(number), timeout=20).exit_code

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert codes == {number: number for number in range(12)}


def test_an_attachment_is_read_and_written_by_two_threads(engine: FakeEngine) -> None:
    def cat(requests: Iterator[Any]) -> Iterator[Any]:
        next(requests)
        yield ATTACHED
        for request in requests:
            if request.WhichOneof("message") == "stdin":
                yield attach_response(request.stdin)
            else:
                break
        yield EXITED

    engine.answers["Tasks/Attach"] = cat
    chunk = bytes(range(256)) * 1024
    with Client(engine.address) as client, client.tasks.attach("c", stdin=True) as attachment:

        def write() -> None:
            for _ in range(100):
                attachment.write(chunk)
            attachment.close_stdin()

        writer = threading.Thread(target=write)
        writer.start()
        received = bytearray()
        while (output := attachment.read()) is not None:
            received += output.data
        writer.join(10)
    assert received == chunk * 100


def test_leaving_from_another_thread_ends_the_wait(engine: FakeEngine) -> None:
    def silent(requests: Iterator[Any]) -> Iterator[Any]:
        next(requests)
        yield ATTACHED
        next(requests, None)

    engine.answers["Tasks/Attach"] = silent
    with Client(engine.address) as client, client.tasks.attach("c", stdin=True) as attachment:
        leaving = threading.Timer(0.3, attachment.detach)
        leaving.start()
        started = time.monotonic()
        with pytest.raises(errors.CortenError):
            attachment.read()
        assert time.monotonic() - started < 5
        leaving.join(10)


def test_closing_a_client_ends_the_waits_of_others(engine: FakeEngine) -> None:
    release = threading.Event()
    engine.answers["Tasks/Wait"] = lambda _: (release.wait(20), tasks_pb2.WaitTaskResponse())[1]
    with Client(engine.address) as client:
        closing = threading.Timer(0.3, client.close)
        closing.start()
        with pytest.raises(errors.Unavailable):
            client.tasks.wait("c")
        closing.join(10)
    release.set()


def test_values_come_one_after_the_other_and_the_call_ends_with_the_block(engine: FakeEngine) -> None:
    def pull(request: Any) -> Iterator[Any]:
        for phase in ("PHASE_RESOLVING", "PHASE_COMPLETE"):
            yield images_pb2.PullImageProgress(phase=phase)

    engine.answers["Images/Pull"] = pull
    with Client(engine.address) as client:
        assert [step.phase for step in client.images.pull("x")] == ["resolving", "complete"]
        with client.images.pull("x") as steps:
            assert next(steps).phase == "resolving"
        with pytest.raises(StopIteration):
            next(steps)


def test_a_server_that_speaks_something_else_is_one_error(tmp_path: Path) -> None:
    import socket

    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(f"unix://{path}") as client, pytest.raises(errors.Unavailable, match="does not speak gRPC"):
            client.system.ping()
        thread.join(10)


def test_a_socket_path_may_be_longer_than_a_socket_address(tmp_path: Path) -> None:
    directory = tmp_path.joinpath(*["d" * 60] * 3)
    directory.mkdir(parents=True)
    with pytest.raises(errors.Unavailable, match="Is cortend running"):
        _blocking.dial(f"unix://{directory}/engine.sock")


@pytest.mark.parametrize(
    ("given", "address"),
    [("/run/x.sock", "unix:///run/x.sock"), ("unix:///x", "unix:///x"), ("tcp://[::1]:80", "tcp://[::1]:80")],
)
def test_an_address_is_a_path_or_a_url(given: str, address: str) -> None:
    assert _channel.address_of(given) == address


@pytest.mark.parametrize("given", ["unix://x", "http://a:1", "tcp://a", "tcp://:1", "x"])
def test_another_address_is_refused(given: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="is needed"):
        _channel.address_of(given)


def test_the_environment_names_the_engine_and_the_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORTEN_ADDRESS", "unix:///tmp/e.sock")
    monkeypatch.setenv("CORTEN_NAMESPACE", "k8s.io")
    with Client() as client:
        assert (client.address, client.namespace) == ("unix:///tmp/e.sock", "k8s.io")
