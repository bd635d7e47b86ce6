"""A plan is data: which operations a spec becomes, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from corten_shim import credentials, operations
from corten_shim.identity import Identity
from corten_shim.linux import const
from corten_shim.linux.errors import RuntimeFault
from corten_shim.mountoptions import MountOptions
from corten_shim.operations import Operation
from corten_shim.plan import Bindings, Facts, namespaces, process_plan, world_plan
from corten_shim.seccomp import Filter

ROOT = Identity(0, 0, [], "/root")
DEV = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
PROC = {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}


def spec(*mounts: dict[str, Any], kinds: tuple[str, ...] = ("mount", "pid"), **fields: Any) -> dict[str, Any]:
    linux = {"namespaces": [{"type": kind} for kind in kinds], **fields.pop("linux", {})}
    return {"mounts": list(mounts), "linux": linux, **fields}


def world(
    document: dict[str, Any], *, terminal: tuple[int, int] | None = None, v2: bool = True
) -> tuple[Operation, ...]:
    facts = (
        Facts(2, {}) if v2 else Facts(1, {"cpu": "/c/cpu,cpuacct", "cpuacct": "/c/cpu,cpuacct", "memory": "/c/memory"})
    )
    return world_plan(document, place="/bundle", bindings=Bindings(), facts=facts, terminal=terminal)


def kinds_of(plan: tuple[Operation, ...]) -> list[str]:
    return [type(operation).__name__ for operation in plan]


def test_the_root_is_entered_before_anything_is_mounted_and_made_read_only_last() -> None:
    plan = world(spec(PROC, DEV, root={"readonly": True}, linux={"maskedPaths": ["/proc/kcore"]}))
    assert plan[0] == operations.EnterRoot("/bundle")
    assert plan[-1] == operations.ReadOnlyMount("/")
    assert plan[1] == operations.Filesystem("proc", "/proc", "proc", (), 0xE)


def test_devices_come_after_dev_and_only_where_dev_is_the_containers_own() -> None:
    plan = world(spec(DEV))
    assert operations.Node("/dev/null", "c", 1, 3, 0o666, 0, 0) in plan
    assert operations.Symlink("/dev/ptmx", "pts/ptmx") in plan
    bound = {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}
    assert kinds_of(world(spec(bound))) == ["EnterRoot", "Bind"]


def test_sysctls_are_written_before_their_files_become_read_only() -> None:
    plan = world(
        spec(
            PROC,
            kinds=("mount", "network"),
            linux={"sysctl": {"net.ipv4.ip_forward": "1"}, "readonlyPaths": ["/proc/sys"]},
        )
    )
    assert kinds_of(plan) == ["Loopback", "EnterRoot", "Filesystem", "Sysctl", "ReadOnlyPath"]


@pytest.mark.parametrize("name", ["net.ipv4.ip_forward", "kernel.shmmax", "kernel.pid_max", "vm.swappiness"])
def test_a_sysctl_of_a_namespace_that_is_not_the_containers_is_refused(name: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        world(spec(PROC, linux={"sysctl": {name: "1"}}))
    assert (caught.value.kind, caught.value.name) == ("sysctl", name)


@pytest.mark.parametrize("target", ["/proc", "/proc/", "/proc/sys", "/proc/../proc/self", "relative"])
def test_mounts_over_procfs_are_refused(target: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        world(spec({"destination": target, "type": "tmpfs", "source": "tmpfs"}))
    assert (caught.value.kind, caught.value.name) == ("mount", target)


def test_what_lxcfs_provides_may_be_mounted_over_procfs() -> None:
    bound = {"destination": "/proc/meminfo", "type": "bind", "source": "/lxcfs/meminfo", "options": ["bind"]}
    assert kinds_of(world(spec(PROC, bound))) == ["EnterRoot", "Filesystem", "Bind"]


def test_on_v1_every_hierarchy_is_mounted_and_controllers_that_share_one_are_links() -> None:
    cgroup = {"destination": "/cg", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    plan = world(spec(cgroup), v2=False)
    assert operations.Symlink("/cg/cpu", "cpu,cpuacct") in plan
    assert operations.Symlink("/cg/cpuacct", "cpu,cpuacct") in plan
    targets = [operation.target for operation in plan if isinstance(operation, operations.Filesystem)]
    assert targets == ["/cg", "/cg/cpu,cpuacct", "/cg/memory"]


def test_on_v2_the_unified_hierarchy_is_mounted() -> None:
    cgroup = {"destination": "/cg", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]}
    assert world(spec(cgroup))[1] == operations.Filesystem("cgroup2", "/cg", "cgroup", (), 0x3)


@pytest.mark.parametrize(
    ("kinds", "named"), [(("mount", "user"), "user"), (("mount", "time"), "time"), (("pid",), "mount"), (("x",), "x")]
)
def test_namespaces_that_cannot_be_made_are_refused(kinds: tuple[str, ...], named: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        namespaces(spec(kinds=kinds))
    assert (caught.value.kind, caught.value.name) == ("namespace", named)


def test_namespaces_are_made_or_joined() -> None:
    document = spec()
    document["linux"]["namespaces"].append({"type": "network", "path": "/run/netns/x"})
    new, joined = namespaces(document)
    assert new == const.CLONE_NEWNS | const.CLONE_NEWPID
    assert joined == [("/run/netns/x", const.CLONE_NEWNET)]


def test_identity_comes_after_everything_that_takes_privileges_and_seccomp_last() -> None:
    process = {
        "args": ["true"],
        "cwd": "/",
        "noNewPrivileges": True,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}],
        "capabilities": {"bounding": ["CAP_KILL"]},
    }
    before, after = process_plan(process, identity=ROOT, seccomp=Filter(b"12345678", 0))
    names = kinds_of(before)
    assert names[-3:] == ["BoundingSet", "ResourceLimit", "BecomeUser"]
    assert names.index("WorkingDirectory") < names.index("ResourceLimit")
    assert kinds_of(after) == ["Confine", "Execute"]


def test_the_home_of_the_user_is_added_unless_it_is_set() -> None:
    def environment(*entries: str) -> dict[bytes, bytes]:
        process = {"args": ["true"], "env": list(entries)}
        execute = process_plan(process, identity=ROOT, seccomp=None)[1][-1]
        assert isinstance(execute, credentials.Execute)
        return dict(execute.environment)

    assert environment("A=1") == {b"A": b"1", b"HOME": b"/root"}
    assert environment("HOME=/x") == {b"HOME": b"/x"}


@pytest.mark.parametrize(
    ("process", "kind"),
    [
        ({"args": []}, "command"),
        ({"args": ["a\0b"]}, "command"),
        ({"args": ["a"], "env": ["NOVALUE"]}, "environment"),
        ({"args": ["a"], "rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}, "ulimit"),
        ({"args": ["a"], "capabilities": {"bounding": ["CAP_FLY"]}}, "capability"),
    ],
)
def test_what_is_wrong_with_a_process_is_refused_before_anything_is_made(process: dict[str, Any], kind: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        process_plan(process, identity=ROOT, seccomp=None)
    assert caught.value.kind == kind


def test_mount_options_are_sorted_by_what_they_mean() -> None:
    options = MountOptions(["rbind", "rro", "nosuid", "rslave", "noatime", "size=1m", "huge"])
    assert (options.bind, options.recursive) == (True, True)
    assert options.on == const.MOUNT_ATTR_NOSUID | const.MOUNT_ATTR_NOATIME
    assert options.off == const.MOUNT_ATTR_ATIME & ~const.MOUNT_ATTR_NOATIME or options.off & const.MOUNT_ATTR_ATIME
    assert options.all_on == const.MOUNT_ATTR_RDONLY
    assert (options.propagation, options.propagation_recursive) == (const.MS_SLAVE, True)
    assert options.data == [("size", "1m"), ("huge", "")]


def test_of_two_options_that_contradict_the_later_counts() -> None:
    options = MountOptions(["ro", "rw"])
    assert (options.on & const.MOUNT_ATTR_RDONLY, options.off & const.MOUNT_ATTR_RDONLY) == (0, const.MOUNT_ATTR_RDONLY)
