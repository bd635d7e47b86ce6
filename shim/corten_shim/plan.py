"""The planner: an OCI spec in, operations in the order they are done out.

Owns which steps a container needs and their order. Pure: it reads nothing but its arguments, so a plan is tested as
data. Refuses here, before anything is made, what the runtime cannot do.
"""

from __future__ import annotations

import os
import resource

from corten_shim import credentials, operations
from corten_shim.identity import Identity, capability_mask
from corten_shim.linux import const
from corten_shim.linux.errors import INVALID_ARGUMENT, UNIMPLEMENTED, RuntimeFault
from corten_shim.linux.namespace import FLAGS
from corten_shim.mountoptions import MountOptions
from corten_shim.operations import Operation
from corten_shim.seccomp import Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RLIM_INFINITY = 2**64 - 1  # as OCI writes it
_NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
)
# What lxcfs provides; anything else over procfs could fool the steps that come after, and the programs inside.
_OVER_PROC = frozenset(
    f"/proc/{name}" for name in ("cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime")
)
_LABELLED = ("tmpfs", "devpts", "mqueue")  # whose files take one SELinux label for all
_IPC_SYSCTLS = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")


class Facts:
    """What of the host decides: the cgroup version and, for v1, {controller: mount point}."""

    __slots__ = ("cgroup_version", "hierarchies")

    def __init__(self, cgroup_version: int, hierarchies: dict[str, str]) -> None:
        self.cgroup_version = cgroup_version
        self.hierarchies = hierarchies


class Bindings:
    """The bind mounts of a spec, in its order: (source, options) of each detached tree that `init` makes."""

    __slots__ = ("sources",)

    def __init__(self) -> None:
        self.sources: list[tuple[str, MountOptions]] = []

    def add(self, source: str, options: MountOptions) -> int:
        self.sources.append((source, options))
        return len(self.sources) - 1


def namespaces(spec: dict[str, Any]) -> tuple[int, list[tuple[str, int]]]:
    """Flags to unshare, and (path, flag) of namespaces to join."""
    new, joined = 0, []
    for entry in _linux(spec).get("namespaces") or ():
        kind = entry.get("type")
        if kind not in FLAGS:
            raise RuntimeFault(INVALID_ARGUMENT, "namespace", str(kind), f"one of {', '.join(FLAGS)}")
        if kind in ("user", "time"):
            raise RuntimeFault(UNIMPLEMENTED, "namespace", kind, "this version runs containers in the host's")
        if entry.get("path"):
            joined.append((str(entry["path"]), FLAGS[kind]))
        else:
            new |= FLAGS[kind]
    if not new & const.CLONE_NEWNS:
        raise RuntimeFault(INVALID_ARGUMENT, "namespace", "mount", "a container needs a mount namespace of its own")
    return new, joined


def world_plan(
    spec: dict[str, Any], *, place: str, bindings: Bindings, facts: Facts, terminal: tuple[int, int] | None
) -> tuple[Operation, ...]:
    """From fresh namespaces to the container's finished filesystem. Fills `bindings`."""
    new, _ = namespaces(spec)
    if any((spec.get("hooks") or {}).values()):
        raise RuntimeFault(UNIMPLEMENTED, "hooks", ", ".join(spec["hooks"]), "this version runs no OCI hooks")
    plan: list[Operation] = []
    if new & const.CLONE_NEWNET:
        plan.append(operations.Loopback())
    if new & const.CLONE_NEWUTS:
        if spec.get("hostname"):
            plan.append(operations.Hostname(spec["hostname"]))
        if spec.get("domainname"):
            plan.append(operations.Domainname(spec["domainname"]))
    plan.append(operations.EnterRoot(place))
    own_dev = False
    label = _linux(spec).get("mountLabel") or ""
    for mount in spec.get("mounts") or ():
        plan += _mount(mount, bindings, facts, label)
        if mount["destination"].rstrip("/") == "/dev":
            own_dev = mount.get("type") == "tmpfs"
    if own_dev:
        plan += _device_plan(_linux(spec).get("devices") or [])
    if terminal is not None:
        plan.append(operations.Terminal(*terminal, own_dev))
    plan += _sysctl_plan(_linux(spec).get("sysctl") or {}, new)
    plan += [operations.ReadOnlyPath(path) for path in _linux(spec).get("readonlyPaths") or ()]
    plan += [operations.Mask(path) for path in _linux(spec).get("maskedPaths") or ()]
    if (spec.get("root") or {}).get("readonly"):
        plan.append(operations.ReadOnlyMount("/"))
    return tuple(plan)


def exec_terminal(window: tuple[int, int]) -> Operation:
    """The terminal of an exec'd process; /dev/console stays the container's."""
    return operations.Terminal(*window, False)


def _linux(spec: dict[str, Any]) -> dict[str, Any]:
    return spec.get("linux") or {}


def _mount(mount: dict[str, Any], bindings: Bindings, facts: Facts, label: str) -> list[Operation]:
    target, kind, source = mount["destination"], mount.get("type") or "", mount.get("source") or ""
    if not target.startswith("/"):
        raise RuntimeFault(INVALID_ARGUMENT, "mount", target, "the destination must be an absolute path")
    options = MountOptions(list(mount.get("options") or ()))
    normal = os.path.normpath(target)
    if normal == "/proc" and kind != "proc":
        raise RuntimeFault(INVALID_ARGUMENT, "mount", target, "only procfs may be mounted there")
    if normal.startswith("/proc/") and normal not in _OVER_PROC:
        raise RuntimeFault(INVALID_ARGUMENT, "mount", target, "nothing may be mounted over procfs")
    if kind == "bind" or options.bind:
        options.bind = True
        return [operations.Bind(bindings.add(source, options), target)]
    if kind == "cgroup":
        return _cgroup_plan(target, options.on, facts)
    on = options.on | options.all_on
    context = (("context", label),) if label and kind in _LABELLED else ()
    return [operations.Filesystem(kind, target, source, (*options.data, *context), on)]


def _cgroup_plan(target: str, attributes: int, facts: Facts) -> list[Operation]:
    if facts.cgroup_version == 2:
        return [operations.Filesystem("cgroup2", target, "cgroup", (), attributes)]
    # A tmpfs holds a directory per hierarchy; what is mounted there shows this cgroup namespace's part only.
    writable = attributes & ~const.MOUNT_ATTR_RDONLY
    plan: list[Operation] = [operations.Filesystem("tmpfs", target, "tmpfs", (("mode", "755"),), writable)]
    together: dict[str, list[str]] = {}
    for controller, place in facts.hierarchies.items():
        together.setdefault(place, []).append(controller)
    for place, controllers in together.items():
        name = os.path.basename(place)
        options = [tuple(controller.partition("=")[::2]) for controller in controllers]
        if any(option[1] for option in options):
            options.append(("none", ""))
        ordered = tuple((option[0], option[1]) for option in sorted(options, key=lambda option: option[0] != "none"))
        plan.append(operations.Filesystem("cgroup", f"{target}/{name}", "cgroup", ordered, attributes))
        plan += [
            operations.Symlink(f"{target}/{controller}", name)
            for controller in controllers
            if controller != name and "=" not in controller
        ]
    if attributes & const.MOUNT_ATTR_RDONLY:
        plan.append(operations.ReadOnlyMount(target))
    return plan


def _device_plan(devices: list[dict[str, Any]]) -> list[Operation]:
    plan: list[Operation] = [
        operations.Node(f"/dev/{name}", "c", major, minor, 0o666, 0, 0) for name, major, minor in _NODES
    ]
    plan += [operations.Symlink(path, to) for path, to in _LINKS]
    plan.append(operations.Symlink("/dev/ptmx", "pts/ptmx"))
    for device in devices:
        kind = device.get("type")
        if kind not in ("c", "b", "u", "p"):
            raise RuntimeFault(INVALID_ARGUMENT, "device", str(device.get("path")), "its type is c, u, b or p")
        mode, uid, gid = (device.get(name) for name in ("fileMode", "uid", "gid"))
        numbers = device.get("major") or 0, device.get("minor") or 0
        plain = "c" if kind == "u" else kind
        plan.append(
            operations.Node(device["path"], plain, *numbers, 0o666 if mode is None else mode, uid or 0, gid or 0)
        )
    return plan


def _sysctl_plan(settings: dict[str, str], new: int) -> list[Operation]:
    for name in settings:
        own = (name.startswith("net.") and new & const.CLONE_NEWNET) or (
            name.startswith(_IPC_SYSCTLS) and new & const.CLONE_NEWIPC
        )
        if not own:
            raise RuntimeFault(INVALID_ARGUMENT, "sysctl", name, "it is not of a namespace that this container owns")
    return [operations.Sysctl(name, value) for name, value in settings.items()]


def process_plan(
    process: dict[str, Any],
    *,
    identity: Identity,
    seccomp: Filter | None,
) -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
    """(before, after) the gate: what makes the process who it is, and what it does once it is let go."""
    user = process.get("user") or {}
    caps = process.get("capabilities") or {}
    sets = {name: capability_mask(caps.get(name)) for name in ("bounding", "effective", "permitted", "inheritable")}
    before: list[Operation] = [credentials.OomScore(process.get("oomScoreAdj") or 0)]
    before.append(credentials.Keyring("_corten"))
    before.append(credentials.StandardStreams(identity.uid, identity.gid))
    before.append(credentials.WorkingDirectory(process.get("cwd") or "/"))
    before.append(credentials.Umask(user.get("umask", 0o022)))
    if process.get("apparmorProfile"):
        before.append(credentials.SecurityLabel("apparmor/exec", f"exec {process['apparmorProfile']}"))
    if process.get("selinuxLabel"):
        before.append(credentials.SecurityLabel("exec", process["selinuxLabel"]))
    if process.get("noNewPrivileges"):
        before.append(credentials.NoNewPrivileges())
    before.append(credentials.BoundingSet(sets["bounding"]))
    # From here on no descriptor is opened, so that RLIMIT_NOFILE may be anything; raising one takes a capability still.
    before += [_rlimit(limit) for limit in process.get("rlimits") or ()]
    before.append(credentials.BecomeUser(identity.uid, identity.gid, tuple(identity.groups)))
    confine = credentials.Confine(
        sets["bounding"],
        sets["effective"],
        sets["permitted"],
        sets["inheritable"],
        capability_mask(caps.get("ambient")),
        seccomp.program if seccomp is not None else b"",
        seccomp.flags if seccomp is not None else 0,
    )
    return tuple(before), (confine, _execute(process, identity))


def _rlimit(limit: dict[str, Any]) -> Operation:
    name = str(limit.get("type"))
    kind = getattr(resource, name, None) if name.startswith("RLIMIT_") else None
    if kind is None:
        raise RuntimeFault(INVALID_ARGUMENT, "ulimit", name, "no such resource limit")
    soft, hard = (resource.RLIM_INFINITY if limit[key] >= RLIM_INFINITY else limit[key] for key in ("soft", "hard"))
    return credentials.ResourceLimit(kind, name, soft, hard)


def _execute(process: dict[str, Any], identity: Identity) -> Operation:
    arguments = process.get("args") or ()
    if not arguments or not arguments[0]:
        raise RuntimeFault(INVALID_ARGUMENT, "command", "", "process.args is empty")
    environment: dict[bytes, bytes] = {}
    for entry in process.get("env") or ():
        name, separator, value = os.fsencode(entry).partition(b"=")
        if not separator or not name or b"\0" in name + value:
            raise RuntimeFault(INVALID_ARGUMENT, "environment", entry, 'written "NAME=value", without NUL')
        environment[name] = value
    if identity.home:
        environment.setdefault(b"HOME", os.fsencode(identity.home))
    argv = tuple(os.fsencode(argument) for argument in arguments)
    if any(b"\0" in argument for argument in argv):
        raise RuntimeFault(INVALID_ARGUMENT, "command", arguments[0], "an argument holds a NUL")
    path = environment.get(b"PATH", DEFAULT_PATH)
    return credentials.Execute(argv, tuple(environment.items()), path)
