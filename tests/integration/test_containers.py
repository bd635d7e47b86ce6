"""Container records through the API: created whole or not at all, found, listed, renamed, removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from corten_api import status
from corten_api.v1 import common_pb2
from corten_api.v1 import containers_pb2 as pb

from tests.support.daemon import Daemon
from tests.support.running import Running, beside, code, eventually

pytestmark = pytest.mark.root


@pytest.fixture
def running(daemon: Daemon, busybox: str) -> Running:
    return Running(lambda: daemon.api, busybox)


def refused(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """(code, kind, name) of the error that `call` ends with."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    trailer = {each.key: each.value for each in raised.value.trailing_metadata() or ()}[status.DETAIL_KEY]
    error = status.decode(code(raised.value).value[0], raised.value.details() or "", trailer)
    return code(raised.value), error.kind, error.name


def listed(running: Running, **options: Any) -> list[str]:
    answer = running.api.containers.List(pb.ListContainersRequest(**options), timeout=30)
    return [each.id for each in answer.containers]


def test_a_created_container_has_its_intent_its_image_and_a_name(running: Running) -> None:
    made = running.get(running.create("sleep", "1", labels={"a": "b"}, environment=["X=1"], stop_signal="SIGINT"))
    assert made.state.status == pb.CONTAINER_STATUS_CREATED
    assert made.config.labels == {"a": "b"}
    assert list(made.argv) == ["sleep", "1"]
    assert made.image_id.startswith("sha256:")
    assert made.image_name == running.image
    assert made.snapshot_key == made.id
    assert "_" in made.name
    assert made.namespace == "default"


def test_a_container_is_found_by_id_name_and_unique_prefix(running: Running) -> None:
    container = running.create("true", name="web-1")
    for word in (container, "web-1", "/web-1", container[:12]):
        assert running.get(word).id == container
    assert refused(lambda: running.get("web-2")) == (grpc.StatusCode.NOT_FOUND, "container", "web-2")


def test_a_name_in_use_is_refused_and_leaves_nothing(running: Running, daemon: Daemon) -> None:
    running.create("true", name="taken")
    before = daemon.api.unfinished_snapshots()
    assert refused(lambda: running.create("true", name="taken")) == (grpc.StatusCode.ALREADY_EXISTS, "name", "taken")
    assert daemon.api.unfinished_snapshots() == before
    assert len(listed(running, all=True)) == 1


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"image": "nobody/nothing"}, ("NOT_FOUND", "image", "docker.io/nobody/nothing:latest")),
        ({"image": "Busy box"}, ("INVALID_ARGUMENT", "image reference", "Busy box")),
        ({"resources": pb.Resources(memory_bytes=1)}, ("INVALID_ARGUMENT", "memory", "1")),
        ({"resources": pb.Resources(cpu_nanos=10**14)}, ("INVALID_ARGUMENT", "cpus", "100000")),
        ({"ulimits": [pb.Ulimit(name="files", soft=1, hard=1)]}, ("INVALID_ARGUMENT", "ulimit", "files")),
        ({"security": pb.Security(cap_add=["FLY"])}, ("INVALID_ARGUMENT", "capability", "FLY")),
        ({"security": pb.Security(devices=["/dev/nothing"])}, ("NOT_FOUND", "device", "/dev/nothing")),
        ({"stop_signal": "SIGWHAT"}, ("INVALID_ARGUMENT", "signal", "SIGWHAT")),
        ({"network": "bridge"}, ("INVALID_ARGUMENT", "network", "bridge")),
        (
            {"mounts": [pb.MountPoint(type=pb.MountPoint.TYPE_BIND, source="/no/such", target="/x")]},
            ("NOT_FOUND", "mount source", "/no/such"),
        ),
        (
            {"mounts": [pb.MountPoint(type=pb.MountPoint.TYPE_TMPFS, target="x")]},
            ("INVALID_ARGUMENT", "mount target", "x"),
        ),
        ({"mounts": [pb.MountPoint(target="/x")]}, ("INVALID_ARGUMENT", "mount type", "0")),
    ],
)
def test_a_value_that_cannot_be_is_named_and_leaves_nothing(
    running: Running, daemon: Daemon, config: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    found = refused(lambda: running.create("true", **config))
    assert (found[0].name, *found[1:]) == expected
    assert listed(running, all=True) == []
    assert daemon.api.unfinished_snapshots() == []


def test_a_retry_with_the_same_request_gets_the_same_container(running: Running) -> None:
    first = running.create("true", request_id="r-1")
    assert running.create("true", request_id="r-1") == first
    with (
        beside(lambda: running.create("true", request_id="r-2")) as one,
        beside(lambda: running.create("true", request_id="r-2")) as two,
    ):
        assert one.get() == two.get() != first


def test_lists_show_what_runs_and_with_all_the_rest_in_pages(running: Running) -> None:
    made = [running.create("sleep", "60", labels={"n": str(n)}) for n in range(5)]
    running.start(made[2])
    assert listed(running) == [made[2]]
    assert listed(running, all=True) == made[::-1]
    assert listed(running, all=True, labels={"n": "3"}) == [made[3]]
    assert listed(running, all=True, labels={"n": ""}) == made[::-1]
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListContainersRequest(all=True, page=common_pb2.Page(size=2, token=token))
        answer = running.api.containers.List(request, timeout=30)
        seen += [each.id for each in answer.containers]
        token = answer.next_token
        if not token:
            break
    assert seen == made[::-1]


def test_a_renamed_container_answers_to_the_new_name_only(running: Running) -> None:
    container = running.create("true", name="before")
    running.create("true", name="other")
    running.api.containers.Rename(pb.RenameContainerRequest(container="before", new_name="after"), timeout=30)
    assert running.get("after").id == container
    assert refused(lambda: running.get("before"))[0] is grpc.StatusCode.NOT_FOUND
    request = pb.RenameContainerRequest(container="after", new_name="other")
    assert refused(lambda: running.api.containers.Rename(request, timeout=30))[0] is grpc.StatusCode.ALREADY_EXISTS


def test_a_running_container_is_removed_by_force_only(running: Running, daemon: Daemon) -> None:
    container = running.run("sleep", "60")
    assert refused(lambda: running.delete(container))[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert running.get(container).state.status == pb.CONTAINER_STATUS_RUNNING
    running.delete(container, force=True)
    assert refused(lambda: running.get(container))[0] is grpc.StatusCode.NOT_FOUND
    assert not (daemon.root / "containers" / container).exists()
    assert not (daemon.state / "shims" / container).exists()


def test_namespaces_keep_containers_apart(running: Running) -> None:
    container = running.create("true", name="mine")
    other = (("corten-namespace", "other"),)
    request = pb.GetContainerRequest(container=container)
    with pytest.raises(grpc.RpcError) as raised:
        running.api.containers.Get(request, metadata=other, timeout=30)
    assert code(raised.value) is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as raised:
        running.api.containers.Get(request, metadata=(("corten-namespace", "BAD NAME"),), timeout=30)
    assert code(raised.value) is grpc.StatusCode.INVALID_ARGUMENT


def test_the_spec_of_a_running_container_is_told(running: Running) -> None:
    container = running.run("sleep", "60", hostname="web")
    request = pb.GetContainerRequest(container=container)
    assert '"hostname":"web"' in running.api.containers.Get(request, timeout=30).runtime_spec_json
    running.kill(container)
    running.wait(container)
    spec = eventually(lambda: not running.api.containers.Get(request, timeout=30).runtime_spec_json)
    assert spec


def test_a_missing_mount_source_is_made_only_when_asked(running: Running, tmp_path: Path) -> None:
    source = tmp_path / "made"
    mount = pb.MountPoint(type=pb.MountPoint.TYPE_BIND, source=str(source), target="/data", create_source=True)
    container = running.run("touch", "/data/file", mounts=[mount])
    assert running.wait(container).exit_code == 0
    assert (source / "file").exists()
