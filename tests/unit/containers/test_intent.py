"""What a container's intent must satisfy: each refusal names the value."""

from __future__ import annotations

from dataclasses import replace

import pytest
from corten_api.errors import InvalidArgument
from cortend.domain import ids, intent, signals
from cortend.domain.containers import (
    ContainerConfig,
    LogOptions,
    MountPoint,
    MountType,
    Move,
    Resources,
    Status,
    Ulimit,
    moved,
)

GOOD = ContainerConfig(image="busybox")


def bind(**changes: object) -> tuple[MountPoint, ...]:
    values = {"type": MountType.BIND, "source": "/", "target": "/mnt", **changes}
    return (MountPoint(**values),)  # type: ignore[arg-type]


def tmpfs(*options: str) -> tuple[MountPoint, ...]:
    return (MountPoint(type=MountType.TMPFS, target="/t", options=options),)


BAD = [
    ({"resources": Resources(memory_bytes=1)}, "memory", "1"),
    ({"resources": Resources(memory_bytes=(6 << 20) - 1)}, "memory", "6291455"),
    ({"resources": Resources(memory_bytes=-1)}, "memory", "-1"),
    ({"resources": Resources(memory_bytes=1 << 30, memory_swap_bytes=1 << 20)}, "memory-swap", "1048576"),
    ({"resources": Resources(memory_reservation_bytes=-5)}, "memory-reservation", "-5"),
    ({"resources": Resources(cpu_nanos=3_000_000_000)}, "cpus", "3"),
    ({"resources": Resources(cpu_nanos=-1)}, "cpus", "-1e-09"),
    ({"resources": Resources(cpu_shares=1)}, "cpu-shares", "1"),
    ({"resources": Resources(pids_limit=-2)}, "pids-limit", "-2"),
    ({"resources": Resources(cpuset_cpus="0-a")}, "cpuset-cpus", "0-a"),
    ({"resources": Resources(cpuset_cpus="7")}, "cpuset-cpus", "7"),
    ({"mounts": bind(target="relative")}, "mount target", "relative"),
    ({"mounts": bind(target="/a/..")}, "mount target", "/a/.."),
    ({"mounts": bind(source="relative")}, "mount source", "relative"),
    ({"mounts": bind(propagation="sometimes")}, "mount propagation", "sometimes"),
    ({"mounts": (*bind(), *bind(target="/mnt/"))}, "mount target", "/mnt"),
    ({"mounts": tmpfs("size=big")}, "tmpfs option", "size=big"),
    ({"mounts": tmpfs("lowerdir=/")}, "tmpfs option", "lowerdir=/"),
    ({"mounts": tmpfs("bind")}, "tmpfs option", "bind"),
    ({"ulimits": (Ulimit(name="files", soft=1, hard=1),)}, "ulimit", "files"),
    ({"ulimits": (Ulimit(name="nofile", soft=2, hard=1),)}, "ulimit", "nofile=2:1"),
    ({"ulimits": (Ulimit(name="nofile", soft=-1, hard=1),)}, "ulimit", "nofile=-1:1"),
    ({"environment": ("=x",)}, "environment", "=x"),
    ({"environment": ("A=\0",)}, "environment", "A=\\0"),
    ({"command": ("a\0b",)}, "command", "a\\0b"),
    ({"hostname": "with space"}, "hostname", "with space"),
    ({"hostname": "a" * 65}, "hostname", "a" * 65),
    ({"user": "a:b:c"}, "user", "a:b:c"),
    ({"user": "4294967295"}, "user", "4294967295"),
    ({"working_directory": "relative"}, "working directory", "relative"),
    ({"stop_signal": "SIGNOTHING"}, "signal", "SIGNOTHING"),
    ({"network": "bridge"}, "network", "bridge"),
    ({"oom_score_adj": 1001}, "oom-score-adj", "1001"),
    ({"umask": 0o1000}, "umask", "0o1000"),
    ({"shm_size": -1}, "shm-size", "-1"),
    ({"extra_hosts": ("name",)}, "extra host", "name"),
    ({"extra_hosts": ("name:300.1.1.1",)}, "extra host", "name:300.1.1.1"),
    ({"labels": {"": "x"}}, "label", ""),
    ({"log": LogOptions(max_files=-1)}, "log options", "0, -1"),
]


@pytest.mark.parametrize(("changes", "kind", "name"), BAD)
def test_a_value_that_cannot_be_is_refused_by_name(changes: dict[str, object], kind: str, name: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        intent.check(replace(GOOD, **changes), host_cpus=2)  # type: ignore[arg-type]
    assert (raised.value.kind, raised.value.name) == (kind, name)
    assert raised.value.detail


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "resources": Resources(
                memory_bytes=6 << 20, memory_swap_bytes=-1, cpu_nanos=2_000_000_000, cpuset_cpus="0-1"
            )
        },
        {"mounts": (*bind(), *tmpfs("size=64m", "mode=1777", "noexec", "exec"))[:1]},
        {"mounts": tmpfs("size=50%", "mode=1777", "uid=5", "noexec")},
        {"ulimits": (Ulimit(name="nofile", soft=1024, hard=-1), Ulimit(name="core", soft=-1, hard=-1))},
        {"environment": ("A", "B=", "C=x=y")},
        {"hostname": "web-1.example.org"},
        {"user": "nobody:nogroup"},
        {"stop_signal": "RTMIN+3"},
        {"extra_hosts": ("name:127.0.0.1", "six:::1", "six2:[::1]")},
        {"stop_timeout_ns": -1_000_000_000},
    ],
)
def test_what_users_write_is_accepted(changes: dict[str, object]) -> None:
    intent.check(replace(GOOD, **changes), host_cpus=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGTERM", 15), ("term", 15), ("9", 9), ("KILL", 9), ("SIGRTMIN", 34), ("RTMIN+3", 37), ("RTMAX-1", 63)],
)
def test_signals_are_read_as_users_write_them(text: str, number: int) -> None:
    assert signals.parse(text) == number


@pytest.mark.parametrize("text", ["0", "65", "", "SIG", "SIG_IGN", "TERMINATE", "RTMIN+99", "-9"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="signal"):
        signals.parse(text)


@pytest.mark.parametrize("name", ["a1", "A.b_c-d", "0abc", "/slashed"])
def test_names_as_docker_allows_them(name: str) -> None:
    assert ids.parse_name(name) == name.removeprefix("/")


@pytest.mark.parametrize("name", ["", "a", "_a", "-x", "a b", "ä1", "a/b", "x" * 254, "a\n"])
def test_names_that_docker_does_not_allow(name: str) -> None:
    with pytest.raises(InvalidArgument, match="name"):
        ids.parse_name(name)


@pytest.mark.parametrize("text", ["", "Default", "a b", "-a", "x" * 64])
def test_namespaces_that_cannot_be(text: str) -> None:
    with pytest.raises(InvalidArgument, match="namespace"):
        ids.parse_namespace(text)


def test_made_up_names_are_names() -> None:
    for attempt in range(12):
        assert ids.parse_name(ids.made_up_name(attempt))


def test_ids_are_64_hex_digits_that_do_not_read_as_a_number() -> None:
    for _ in range(200):
        made = ids.new_id()
        assert ids.is_id(made)
        assert not made[:12].isdecimal()


def test_an_illegal_move_names_both_ends() -> None:
    with pytest.raises(Exception, match="running, so it cannot start") as raised:
        moved(Status.RUNNING, Move.START, name="web")
    assert '"web"' in str(raised.value)
