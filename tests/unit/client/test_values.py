"""Values, and what becomes of them on the wire."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from corten import _messages
from corten._value import Value
from corten.containers import (
    ContainerConfig,
    LogOptions,
    MountPoint,
    Resources,
    Security,
    Ulimit,
    config_message,
    container_value,
)
from corten.images import Platform
from corten.streams import Output, Reply
from corten_api.v1 import containers_pb2, tasks_pb2

from tests.unit.client.fake_engine import FakeEngine

FULL = ContainerConfig(
    image="busybox",
    entrypoint=("/bin/sh", "-c"),
    command=("true",),
    environment=("A=b",),
    working_directory="/w",
    user="1000:2000",
    hostname="h",
    terminal=True,
    open_stdin=True,
    stdin_once=True,
    labels={"a": "b"},
    annotations={"c": "d"},
    stop_signal="SIGINT",
    stop_timeout=1.5,
    mounts=(
        MountPoint(source="/a", target="/b", read_only=True, create_source=True, propagation="rslave"),
        MountPoint(type="tmpfs", target="/t", options=("size=1m", "noexec")),
    ),
    network="host",
    resources=Resources(memory_bytes=1 << 30, cpu_nanos=1_500_000_000, cpuset_cpus="0-1", pids_limit=-1),
    security=Security(cap_add=("NET_ADMIN",), cap_drop=("ALL",), privileged=True, seccomp="{}", devices=("/dev/fuse",)),
    ulimits=(Ulimit(name="nofile", soft=1024, hard=-1),),
    auto_remove=True,
    read_only=True,
    shm_size=1 << 20,
    oom_score_adj=0,
    umask=0o27,
    extra_hosts=("a:1.2.3.4",),
    domainname="example.org",
    log=LogOptions(max_bytes=1, max_files=2),
)


@pytest.mark.parametrize("config", [ContainerConfig(image="x"), FULL], ids=["least", "most"])
def test_a_container_comes_back_as_it_was_asked_for(config: ContainerConfig) -> None:
    message = containers_pb2.Container(config=config_message(config), state={"status": "CONTAINER_STATUS_EXITED"})
    container = container_value(containers_pb2.Container.FromString(message.SerializeToString()))
    assert container.config == config
    assert container.state.status == "exited"


def test_no_field_of_a_configuration_is_forgotten() -> None:
    assert set(ContainerConfig._fields) == {field.name for field in containers_pb2.ContainerConfig.DESCRIPTOR.fields}


def test_what_was_not_asked_for_is_absent_on_the_wire() -> None:
    message = config_message(ContainerConfig(image="x"))
    for field in ("stop_timeout", "oom_score_adj", "umask"):
        assert not message.HasField(field)


def test_a_value_cannot_change_but_has_changed_copies() -> None:
    value = Platform(os="linux", architecture="amd64")
    with pytest.raises(AttributeError, match="immutable"):
        value.os = "plan9"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="immutable"):
        del value.os
    assert value.replace(architecture="arm64") == Platform(os="linux", architecture="arm64")
    assert value == Platform(os="linux", architecture="amd64", variant="")
    assert {value: 1}[Platform(os="linux", architecture="amd64")] == 1
    assert value != "linux/amd64"
    assert repr(value) == "Platform(os='linux', architecture='amd64', variant='')"


def test_a_wrong_field_is_named() -> None:
    given: dict[str, Any] = {"os": "linux", "arch": "amd64"}
    with pytest.raises(TypeError, match="unknown field 'arch', missing field 'architecture'"):
        Platform(**given)


def test_fields_of_a_subclass_follow_those_of_its_base() -> None:
    class Base(Value):
        first: int

    class Derived(Base):
        second: int = 2

    assert Derived(first=1).as_dict() == {"first": 1, "second": 2}


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/arm/v7", ("linux", "arm", "v7")),
        ("linux/arm64", ("linux", "arm64", "")),
        ("s390x", ("linux", "s390x", "")),
    ],
)
def test_a_platform_is_read_and_written(text: str, platform: tuple[str, str, str]) -> None:
    parsed = Platform.parse(text)
    assert (parsed.os, parsed.architecture, parsed.variant) == platform
    assert str(parsed).endswith(text)


def test_times_are_whole_nanoseconds_and_zero_where_absent() -> None:
    message = containers_pb2.Container(created_at=_messages.moment(1_700_000_000_123_456_789))
    assert _messages.nanoseconds(message, "created_at") == 1_700_000_000_123_456_789
    assert _messages.nanoseconds(containers_pb2.Container(), "created_at") == 0
    assert _messages.duration(-1).seconds == -1
    assert _messages.duration(0.25).nanos == 250_000_000


def test_the_blocking_client_imports_neither_grpc_nor_an_event_loop(engine: FakeEngine) -> None:
    program = (
        "import sys, corten\n"
        "client = corten.Client(sys.argv[1])\n"
        "client.containers, client.tasks, client.images\n"
        "slow = {'grpc', 'asyncio', 'dataclasses', 'inspect', 'json', 'logging', 'email', 'ssl', 'rich', 'click'}\n"
        "print(sorted(slow & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, engine.address], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 1 << 20])
def test_output_is_read_by_hand_as_protobuf_reads_it(size: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    out, err = tasks_pb2.AttachResponse(stdout=data), tasks_pb2.AttachResponse(stderr=data)
    assert Reply.FromString(memoryview(out.SerializeToString())) == Output(stream="stdout", data=data)
    assert Reply.FromString(err.SerializeToString()) == Output(stream="stderr", data=data)


@pytest.mark.parametrize(
    "message",
    [
        tasks_pb2.AttachResponse(),
        tasks_pb2.AttachResponse(attached=tasks_pb2.AttachResponse.Attached(terminal=True)),
        tasks_pb2.AttachResponse(exited=tasks_pb2.ExitStatus(exit_code=3)),
    ],
)
def test_what_is_not_output_is_read_by_protobuf(message: tasks_pb2.AttachResponse) -> None:
    assert Reply.FromString(message.SerializeToString()) == message


def test_output_with_fields_of_the_future_is_read_by_protobuf() -> None:
    message = tasks_pb2.AttachResponse(stdout=b"x").SerializeToString() + b"\x7a\x01y"
    read = Reply.FromString(message)
    assert isinstance(read, tasks_pb2.AttachResponse)
    assert read.stdout == b"x"
