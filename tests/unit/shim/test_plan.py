"""A plan is data: which operations a spec becomes, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from corten_shim import mounting, nodes, operations, plan
from corten_shim.linux import const
from corten_shim.linux.errors import RuntimeFault
from corten_shim.linux.namespace import FLAGS
from corten_shim.mounting import Propagation
from corten_shim.mountoptions import MountOptions
from corten_shim.operations import Operation
from corten_shim.plan import Bindings, Facts, world_plan

DEV = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
PROC = {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}


def spec(*mounts: dict[str, Any], kinds: tuple[str, ...] = ("mount", "pid"), **fields: Any) -> dict[str, Any]:
    linux = {"namespaces": [{"type": kind} for kind in kinds], **fields.pop("linux", {})}
    return {"ociVersion": "1.2.0", "mounts": list(mounts), "linux": linux, **fields}


V1 = {"cpu": "/c/cpu,cpuacct", "cpuacct": "/c/cpu,cpuacct", "memory": "/c/memory"}


def world(
    document: dict[str, Any],
    *,
    terminal: tuple[int, int] | None = None,
    v2: bool = True,
    bindings: Bindings | None = None,
    pivot: bool = True,
) -> tuple[Operation, ...]:
    own = sum(FLAGS[each["type"]] for each in document["linux"]["namespaces"])
    version, hierarchies = (2, {}) if v2 else (1, V1)
    facts = Facts(
        cgroup_version=version,
        hierarchies=hierarchies,
        own=own,
        id="box",
        bundle="/bundle",
        cgroup_path="/boxes/box",
        pivot=pivot,
    )
    return world_plan(document, bindings=bindings or Bindings(), facts=facts, terminal=terminal)


def kinds_of(planned: tuple[Operation, ...]) -> list[str]:
    return [type(operation).__name__ for operation in planned]


def test_the_root_is_attached_furnished_entered_and_made_read_only_last() -> None:
    planned = world(spec(PROC, DEV, root={"readonly": True}, linux={"maskedPaths": ["/proc/kcore"]}))
    assert planned[0] == operations.AttachRoot(True)
    assert planned[1] == mounting.Filesystem("proc", "/proc", "proc", (), 0xE)
    assert planned[-3:] == (
        operations.EnterRoot(True, 0, False),
        mounting.Mask("/proc/kcore"),
        mounting.ReadOnlyMount("/"),
    )


def test_devices_come_after_dev_and_only_where_dev_is_the_containers_own() -> None:
    planned = world(spec(DEV))
    assert nodes.Node("/dev/null", "c", 1, 3, 0o666, 0, 0) in planned
    assert nodes.Symlink("/dev/ptmx", "pts/ptmx") in planned
    bound = {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}
    assert kinds_of(world(spec(bound))) == ["AttachRoot", "Bind", "EnterRoot"]


def test_sysctls_are_written_before_their_files_become_read_only() -> None:
    planned = world(
        spec(
            PROC,
            kinds=("mount", "network"),
            linux={"sysctl": {"net.ipv4.ip_forward": "1"}, "readonlyPaths": ["/proc/sys"]},
        )
    )
    assert kinds_of(planned) == ["Loopback", "AttachRoot", "Filesystem", "EnterRoot", "Sysctl", "ReadOnlyPath"]


@pytest.mark.parametrize(
    "name", ["net.ipv4.ip_forward", "kernel.shmmax", "kernel.pid_max", "vm.swappiness", "kernel.domainname"]
)
def test_a_sysctl_of_a_namespace_that_is_not_the_containers_is_refused(name: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        world(spec(PROC, linux={"sysctl": {name: "1"}}))
    assert (caught.value.kind, caught.value.name) == ("sysctl", name)


@pytest.mark.parametrize("target", ["/proc", "/proc/", "/proc/sys", "/proc/../proc/self", "//proc", "proc"])
def test_mounts_over_procfs_are_refused(target: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        world(spec({"destination": target, "type": "tmpfs", "source": "tmpfs"}))
    assert caught.value.kind == "mount"
    assert caught.value.name.startswith("/proc")


def test_what_lxcfs_provides_may_be_mounted_over_procfs() -> None:
    bound = {"destination": "/proc/meminfo", "type": "bind", "source": "/lxcfs/meminfo", "options": ["bind"]}
    assert kinds_of(world(spec(PROC, bound))) == ["AttachRoot", "Filesystem", "Bind", "EnterRoot"]


def test_on_v1_every_hierarchy_is_mounted_and_controllers_that_share_one_are_links() -> None:
    cgroup = {"destination": "/cg", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    planned = world(spec(cgroup, kinds=("mount", "cgroup")), v2=False)
    assert nodes.Symlink("/cg/cpu", "cpu,cpuacct") in planned
    assert nodes.Symlink("/cg/cpuacct", "cpu,cpuacct") in planned
    targets = [operation.target for operation in planned if isinstance(operation, mounting.Filesystem)]
    assert targets == ["/cg", "/cg/cpu,cpuacct", "/cg/memory"]


def test_on_v2_the_unified_hierarchy_is_mounted() -> None:
    cgroup = {"destination": "/cg", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]}
    assert world(spec(cgroup))[1] == mounting.Filesystem("cgroup2", "/cg", "cgroup", (), 0x3)


def test_without_a_cgroup_namespace_a_container_sees_its_own_part_of_each_hierarchy() -> None:
    bindings = Bindings()
    cgroup = {"destination": "/cg", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    planned = world(spec(cgroup), v2=False, bindings=bindings)
    assert [each.target for each in planned if isinstance(each, mounting.Bind)] == ["/cg/cpu,cpuacct", "/cg/memory"]
    assert [each.source for each in bindings.sources] == ["/c/cpu,cpuacct/boxes/box", "/c/memory/boxes/box"]


def test_in_a_user_namespace_device_nodes_are_the_hosts_bound() -> None:
    bindings = Bindings()
    fuse = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
    planned = world(spec(DEV, kinds=("mount", "user"), linux={"devices": [fuse]}), bindings=bindings)
    assert not [each for each in planned if isinstance(each, nodes.Node)]
    assert {each.source for each in bindings.sources} >= {"/dev/null", "/dev/tty", "/dev/fuse"}


@pytest.mark.parametrize(
    ("word", "slave", "flag", "recursive"),
    [
        (None, True, 0, False),
        ("private", True, 0, False),
        ("rslave", True, const.MS_SLAVE, True),
        ("shared", False, const.MS_SHARED, False),
        ("unbindable", True, const.MS_UNBINDABLE, False),
    ],
)
def test_the_roots_propagation_is_set_once_it_is_entered(
    word: str | None, slave: bool, flag: int, recursive: bool
) -> None:
    planned = world(spec(linux={"rootfsPropagation": word} if word else {}))
    assert planned == (operations.AttachRoot(slave), operations.EnterRoot(True, flag, recursive))


def test_a_filesystem_may_be_shared_and_begin_with_what_it_covers() -> None:
    tmpfs = {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["rshared", "tmpcopyup", "ro"]}
    (mount,) = (each for each in world(spec(tmpfs)) if isinstance(each, mounting.Filesystem))
    assert (mount.propagation, mount.copy_up) == (Propagation(const.MS_SHARED, recursive=True), True)


def test_a_bind_source_may_be_relative_to_the_bundle_and_a_target_to_the_root() -> None:
    bindings = Bindings()
    planned = world(spec({"destination": "etc/x", "source": "files/x", "options": ["bind"]}), bindings=bindings)
    assert planned[1] == mounting.Bind(0, "/etc/x")
    assert bindings.sources[0].source == "/bundle/files/x"


def test_hooks_are_met_or_run_in_their_order() -> None:
    hook = {"path": "/bin/true"}
    document = spec(DEV, hooks={"createContainer": [hook], "prestart": [hook], "startContainer": [hook]})
    planned = world(document)
    assert planned[0] == operations.Meet("createRuntime")
    names = kinds_of(planned)
    assert names.index("RunHook") == names.index("EnterRoot") - 1
    (run,) = (each for each in planned if isinstance(each, operations.RunHook))
    assert run.state == {"ociVersion": "1.2.0", "id": "box", "status": "creating", "bundle": "/bundle"}
    facts = Facts(cgroup_version=2, hierarchies={}, own=0, id="box", bundle="/bundle")
    (last,) = plan.start_hooks(document, facts)
    assert isinstance(last, operations.RunHook)
    assert last.state["status"] == "created"


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({"destination": "/a", "source": "x"}, "type is needed"),
        ({"destination": "/a", "type": "proc", "options": ["tmpcopyup"]}, "for tmpfs"),
        ({"destination": "/a", "type": "tmpfs", "options": ["idmap"]}, "only the ids of bind mounts"),
    ],
)
def test_mounts_that_make_no_sense_are_refused(mount: dict[str, Any], words: str) -> None:
    with pytest.raises(RuntimeFault, match=words):
        world(spec(mount))


@pytest.mark.parametrize("field", ["intelRdt", "netDevices"])
def test_what_the_runtime_does_not_do_is_refused_by_name(field: str) -> None:
    with pytest.raises(RuntimeFault, match=field):
        world(spec(linux={field: {"x": {}}}))


def test_a_name_for_the_host_needs_a_uts_namespace() -> None:
    with pytest.raises(RuntimeFault, match="uts"):
        world(spec(hostname="box"))
    assert operations.Hostname("box") in world(spec(hostname="box", kinds=("mount", "uts")))


def test_a_dot_in_a_name_that_slashes_divide_is_part_of_it() -> None:
    assert plan.sysctl_path("net.ipv4.conf.eth0/100.forwarding") == "net/ipv4/conf/eth0.100/forwarding"
    assert plan.sysctl_path("net/ipv4/conf/eth0.100/forwarding") == "net/ipv4/conf/eth0.100/forwarding"


@pytest.mark.parametrize("name", ["net.ipv4.ip forward", "net/../../x", "net/..", "net..x", "", "net.\u00e9"])
def test_odd_names_of_kernel_settings_are_refused(name: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        world(spec(PROC, kinds=("mount", "network"), linux={"sysctl": {name: "1"}}))
    assert (caught.value.kind, caught.value.name) == ("sysctl", name)


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
