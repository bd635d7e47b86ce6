"""The planner of a container's world: an OCI spec in, operations in the order they are done out.

Owns which steps a container's filesystem and namespaces need, and their order. Pure: it reads nothing but its
arguments, so a plan is tested as data. Refuses here, before anything is made, what the runtime cannot do. What makes
the process who it is, is `process_plan`'s.
"""

from __future__ import annotations

import os

from corten_shim import hooks, mounting, nodes, operations, usermap
from corten_shim.linux import const
from corten_shim.linux.errors import INVALID_ARGUMENT, UNIMPLEMENTED, RuntimeFault
from corten_shim.mounting import Propagation
from corten_shim.mountoptions import MountOptions
from corten_shim.operations import Operation
from corten_shim.usermap import IdMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
_IPC_SYSCTL = ("kernel.auto_msgmni",)
_SYSCTL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./")
_ROOT_PROPAGATIONS = ("private", "slave", "shared", "unbindable")


class Facts:
    """What decides besides the spec: the host's cgroups, and the container's place in it.

    `hierarchies` are {controller: mount point} of v1; `own` the CLONE_NEW* of namespaces that are not the host's.
    """

    __slots__ = ("bundle", "cgroup_path", "cgroup_version", "hierarchies", "id", "own", "pivot")

    def __init__(
        self,
        *,
        cgroup_version: int,
        hierarchies: dict[str, str],
        own: int,
        id: str = "",
        bundle: str = "",
        cgroup_path: str = "",
        pivot: bool = True,
    ) -> None:
        self.cgroup_version = cgroup_version
        self.hierarchies = hierarchies
        self.own = own
        self.id = id
        self.bundle = bundle
        self.cgroup_path = cgroup_path
        self.pivot = pivot


class Binding:
    """A bind mount's source: (made before any namespace changes) a detached tree. `map`: its own shifted ids."""

    __slots__ = ("map", "options", "source")

    def __init__(self, source: str, options: MountOptions, map: IdMap | None = None) -> None:
        self.source = source
        self.options = options
        self.map = map


class Bindings:
    """Those of a spec; an operation knows its tree by its number here."""

    __slots__ = ("sources",)

    def __init__(self) -> None:
        self.sources: list[Binding] = []

    def add(self, source: str, options: MountOptions, map: IdMap | None = None) -> int:
        self.sources.append(Binding(source, options, map))
        return len(self.sources) - 1


def world_plan(
    spec: dict[str, Any], *, bindings: Bindings, facts: Facts, terminal: tuple[int, int] | None
) -> tuple[Operation, ...]:
    """From fresh namespaces to the container's finished filesystem. Fills `bindings`."""
    linux = spec.get("linux") or {}
    _refuse_unknown(linux)
    plan = _namespace_plan(spec, facts)
    plan.append(operations.AttachRoot("shared" not in _root_propagation(linux)))
    own_dev = False
    for mount in spec.get("mounts") or ():
        plan += _mount(mount, bindings, facts, linux.get("mountLabel") or "")
        if _normal(mount["destination"]) == "/dev":
            own_dev = mount.get("type") == "tmpfs"
    if own_dev:
        plan += _device_plan(linux.get("devices") or [], bindings, facts)
    if terminal is not None:
        plan.append(nodes.Terminal(*terminal, own_dev))
    plan += _hook_plan(spec, facts, "createContainer", "creating")
    propagation = _root_propagation(linux)
    plain = propagation[1:] if propagation[1:] in _ROOT_PROPAGATIONS else propagation
    flag = MountOptions([propagation]).propagation if plain != "private" else 0
    plan.append(operations.EnterRoot(facts.pivot, flag, plain != propagation))
    plan += _sysctl_plan(linux.get("sysctl") or {}, facts.own)
    plan += [mounting.ReadOnlyPath(path) for path in linux.get("readonlyPaths") or ()]
    plan += [mounting.Mask(path) for path in linux.get("maskedPaths") or ()]
    if (spec.get("root") or {}).get("readonly"):
        plan.append(mounting.ReadOnlyMount("/"))
    return tuple(plan)


def start_hooks(spec: dict[str, Any], facts: Facts) -> tuple[Operation, ...]:
    """What is run in the container when it is started, before its program."""
    return tuple(_hook_plan(spec, facts, "startContainer", "created"))


def exec_terminal(window: tuple[int, int]) -> Operation:
    """The terminal of an exec'd process; /dev/console stays the container's."""
    return nodes.Terminal(*window, False)


def _refuse_unknown(linux: dict[str, Any]) -> None:
    if linux.get("intelRdt"):
        raise RuntimeFault(UNIMPLEMENTED, "linux.intelRdt", "", "this runtime does not use Intel RDT; leave it out")
    if linux.get("netDevices"):
        names = ", ".join(linux["netDevices"])
        raise RuntimeFault(UNIMPLEMENTED, "linux.netDevices", names, "this runtime does not move network devices")


def _root_propagation(linux: dict[str, Any]) -> str:
    word = linux.get("rootfsPropagation") or "private"
    if word not in _ROOT_PROPAGATIONS and word[1:] not in _ROOT_PROPAGATIONS:
        detail = f"one of {', '.join(_ROOT_PROPAGATIONS)}, each with or without an r before it"
        raise RuntimeFault(INVALID_ARGUMENT, "linux.rootfsPropagation", word, detail)
    return str(word)


def _namespace_plan(spec: dict[str, Any], facts: Facts) -> list[Operation]:
    plan: list[Operation] = []
    if facts.own & const.CLONE_NEWNET:
        plan.append(operations.Loopback())
    for field, operation in (("hostname", operations.Hostname), ("domainname", operations.Domainname)):
        if not spec.get(field):
            continue
        if not facts.own & const.CLONE_NEWUTS:
            raise RuntimeFault(INVALID_ARGUMENT, field, spec[field], "it needs a uts namespace of the container's own")
        plan.append(operation(spec[field]))
    if hooks.of(spec, "prestart", "createRuntime"):
        plan.append(operations.Meet("createRuntime"))
    return plan


def _hook_plan(spec: dict[str, Any], facts: Facts, stage: str, status: str) -> list[Operation]:
    state = hooks.state(spec, id=facts.id, bundle=facts.bundle, status=status)
    return [operations.RunHook(stage, hook["path"], hook, state) for _, hook in hooks.of(spec, stage)]


def _normal(path: str) -> str:
    """A mount's destination; a relative one is below the root (runtime-spec config.md "Mounts")."""
    return os.path.normpath(f"/{path}").replace("//", "/", 1)


def _mount(mount: dict[str, Any], bindings: Bindings, facts: Facts, label: str) -> list[Operation]:
    kind, source = mount.get("type") or "", mount.get("source") or ""
    options = MountOptions(list(mount.get("options") or ()))
    target = _normal(mount["destination"])
    if target == "/proc" and kind != "proc":
        raise RuntimeFault(INVALID_ARGUMENT, "mount", target, "only procfs may be mounted there")
    if target.startswith("/proc/") and target not in _OVER_PROC:
        raise RuntimeFault(INVALID_ARGUMENT, "mount", target, "nothing may be mounted over procfs")
    own_map = usermap.from_spec(mount)
    options.idmap = options.idmap or bool(own_map)
    if kind == "bind" or options.bind:
        options.bind = True
        return [mounting.Bind(bindings.add(os.path.join(facts.bundle, source), options, own_map or None), target)]
    if options.idmap:
        raise RuntimeFault(INVALID_ARGUMENT, "mount", target, "only the ids of bind mounts can be shifted")
    if kind == "cgroup":
        return _cgroup_plan(target, options.on, bindings, facts)
    if options.copy_up and kind != "tmpfs":
        raise RuntimeFault(INVALID_ARGUMENT, "mount", target, 'the option "tmpcopyup" is for tmpfs')
    if not kind:
        raise RuntimeFault(INVALID_ARGUMENT, "mount", target, 'a type is needed, or the option "bind" or "rbind"')
    context = (("context", label),) if label and kind in _LABELLED else ()
    return [
        mounting.Filesystem(
            kind,
            target,
            source,
            (*options.data, *context),
            options.on | options.all_on,
            Propagation(options.propagation, recursive=options.propagation_recursive),
            options.copy_up,
        )
    ]


def _cgroup_plan(target: str, attributes: int, bindings: Bindings, facts: Facts) -> list[Operation]:
    if facts.cgroup_version == 2:
        return [mounting.Filesystem("cgroup2", target, "cgroup", (), attributes)]
    # A tmpfs holds a directory per hierarchy; what is mounted there shows this container's part only: by its cgroup
    # namespace, or as a bind mount of that part.
    namespaced = facts.own & const.CLONE_NEWCGROUP
    writable = attributes & ~const.MOUNT_ATTR_RDONLY
    plan: list[Operation] = [mounting.Filesystem("tmpfs", target, "tmpfs", (("mode", "755"),), writable)]
    together: dict[str, list[str]] = {}
    for controller, place in facts.hierarchies.items():
        together.setdefault(place, []).append(controller)
    for place, controllers in together.items():
        name = os.path.basename(place)
        at = f"{target}/{name}"
        if namespaced:
            plan.append(mounting.Filesystem("cgroup", at, "cgroup", _hierarchy_options(controllers), attributes))
        else:
            options = MountOptions(["bind"])
            options.on = attributes
            plan.append(mounting.Bind(bindings.add(place + facts.cgroup_path, options), at))
        plan += [
            nodes.Symlink(f"{target}/{controller}", name)
            for controller in controllers
            if controller != name and "=" not in controller
        ]
    if attributes & const.MOUNT_ATTR_RDONLY:
        plan.append(mounting.ReadOnlyMount(target))
    return plan


def _hierarchy_options(controllers: list[str]) -> tuple[tuple[str, str], ...]:
    """What a hierarchy is mounted with: its controllers, or its name and none."""
    options = [(name, value) for name, _, value in (controller.partition("=") for controller in controllers)]
    if any(value for _, value in options):
        options.append(("none", ""))
    return tuple(sorted(options, key=lambda option: option[0] != "none"))


def _device_plan(devices: list[dict[str, Any]], bindings: Bindings, facts: Facts) -> list[Operation]:
    plan: list[Operation] = []
    for name, major, minor in _NODES:
        plan += _device({"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor}, bindings, facts)
    plan += [nodes.Symlink(path, to) for path, to in _LINKS]
    plan.append(nodes.Symlink("/dev/ptmx", "pts/ptmx"))
    for device in devices:
        plan += _device(device, bindings, facts)
    return plan


def _device(device: dict[str, Any], bindings: Bindings, facts: Facts) -> list[Operation]:
    path, kind = device["path"], device["type"]
    if _normal(path) != path:
        raise RuntimeFault(INVALID_ARGUMENT, "device", path, "its path must not hold .. or //")
    if facts.own & const.CLONE_NEWUSER and kind != "p":
        # Nobody makes device nodes in a user namespace: the host's own is shown there.
        return [mounting.Bind(bindings.add(path, MountOptions(["bind"])), path)]
    mode, uid, gid = (device.get(name) for name in ("fileMode", "uid", "gid"))
    numbers = device.get("major") or 0, device.get("minor") or 0
    if kind != "p" and not all(0 <= number < 2**20 for number in numbers):
        raise RuntimeFault(INVALID_ARGUMENT, "device", path, f"{numbers[0]}:{numbers[1]} are no device's numbers")
    plain = "c" if kind == "u" else kind
    permissions = 0o666 if mode is None else mode & 0o7777
    return [nodes.Node(path, plain, *numbers, permissions, uid or 0, gid or 0)]


def _sysctl_plan(settings: dict[str, str], own: int) -> list[Operation]:
    found: list[Operation] = []
    for name, value in settings.items():
        path = sysctl_path(name)
        if not set(name) <= _SYSCTL or not all(part.strip(".") for part in path.split("/")):
            raise RuntimeFault(INVALID_ARGUMENT, "sysctl", name, "letters, digits and _ - . / make its name")
        if not _is_own(path.replace("/", "."), own):
            raise RuntimeFault(INVALID_ARGUMENT, "sysctl", name, "it is not of a namespace that this container owns")
        found.append(operations.Sysctl(name, path, value))
    return found


def sysctl_path(name: str) -> str:
    """Where below /proc/sys a setting is: of "." and "/" the one that comes first divides its name (sysctl(8))."""
    slash, dot = name.find("/"), name.find(".")
    if slash >= 0 and (dot < 0 or slash < dot):
        return name
    return name.translate({ord("."): "/", ord("/"): "."})


def _is_own(name: str, own: int) -> bool:
    """Whether a kernel setting is of a namespace that is the container's. kernel.hostname is set by "hostname"."""
    if name.startswith("net."):
        return bool(own & const.CLONE_NEWNET)
    if name.startswith(_IPC_SYSCTLS) or name in _IPC_SYSCTL:
        return bool(own & const.CLONE_NEWIPC)
    return name == "kernel.domainname" and bool(own & const.CLONE_NEWUTS)
