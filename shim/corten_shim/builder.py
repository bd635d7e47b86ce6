"""Making a process in a child of its own, so that all it takes to plan one is forgotten with that child.

Owns that child: it reads the spec, prepares the root and the cgroup, and has the kernel half make the process; what
the shim must keep comes back as descriptors and a few words. A shim that had done this itself would be twice as large
for the rest of its life.

    shim --fork--> builder: spec, root, cgroup, plan, `init`
      │                │
      │  <── "1", pid, cgroup, own pids, kinds of descriptors, warnings...  + descriptors
      │      "0", code, kind, name, detail
      └── the process itself is adopted by the shim, which is subreaper
"""

from __future__ import annotations

import json
import os
import socket

from corten_shim import faults
from corten_shim.cgroups import open_cgroup
from corten_shim.init import Mount, Spawned, Stdio, create_container, create_exec, prepare_root
from corten_shim.linux.errors import RuntimeFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LIMIT = 64 << 10
_FDS = 4


class Built:
    """A process that waits before its exec, and what belongs to its container. The caller owns the descriptors.

    `root_fd` is -1 for a process that was exec'd; `own_pids` says that everything else dies with the init.
    """

    __slots__ = ("cgroup_path", "own_pids", "root_fd", "spawned")

    def __init__(self, spawned: Spawned, *, root_fd: int, cgroup_path: str, own_pids: bool) -> None:
        self.spawned = spawned
        self.root_fd = root_fd
        self.cgroup_path = cgroup_path
        self.own_pids = own_pids


def build_container(*, name: str, bundle: str, mounts: list[Mount], stdio: Stdio, seccomp_cache: str) -> Built:
    """The init of the bundle's container. Raises RuntimeFault, with nothing left behind."""

    def work() -> Built:
        spec = read_spec(bundle)
        path = cgroup_path(spec)
        root_fd = prepare_root(mounts or [bundle_root(spec, bundle)], spec=spec)
        cgroup = open_cgroup(path)
        cgroup.create(section(section(spec, "linux"), "resources"))
        try:
            spawned = create_container(
                spec, bundle=bundle, root_fd=root_fd, stdio=stdio, cgroup=cgroup, seccomp_cache=seccomp_cache
            )
        except BaseException:
            cgroup.kill()
            cgroup.remove()
            raise
        return Built(spawned, root_fd=root_fd, cgroup_path=path, own_pids=has_own_pids(spec))

    return _in_child(name, work)


def build_exec(
    *, name: str, bundle: str, process: bytes, init: tuple[int, int], root_fd: int, stdio: Stdio, seccomp_cache: str
) -> Built:
    """A process beside the init, whose pidfd and pid are `init`. `process` is JSON. Raises RuntimeFault."""

    def work() -> Built:
        spec = read_spec(bundle)
        path = cgroup_path(spec)
        spawned = create_exec(
            spec,
            parse(process, "process spec", name),
            init_pidfd=init[0],
            init_pid=init[1],
            root_fd=root_fd,
            stdio=stdio,
            cgroup=open_cgroup(path),
            seccomp_cache=seccomp_cache,
        )
        return Built(spawned, root_fd=-1, cgroup_path=path, own_pids=True)

    return _in_child(name, work)


def read_spec(bundle: str) -> dict[str, object]:
    """The bundle's `config.json`. Raises RuntimeFault."""
    try:
        with open(os.path.join(bundle, "config.json"), "rb") as file:
            return parse(file.read(), "bundle", bundle)
    except OSError as error:
        raise faults.not_found("bundle", bundle, f"config.json: {error.strerror}") from None


def parse(data: bytes, kind: str, name: str) -> dict[str, object]:
    """A JSON object. Raises RuntimeFault."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise faults.invalid(kind, name, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise faults.invalid(kind, name, "must be a JSON object")
    return value


def section(spec: dict[str, object], name: str) -> dict[str, object]:
    """An object inside a spec; empty where it is absent. Raises RuntimeFault where it is something else."""
    value = spec.get(name) or {}
    if not isinstance(value, dict):
        raise faults.invalid(name, str(value)[:80], "must be an object")
    return value


def cgroup_path(spec: dict[str, object]) -> str:
    path = section(spec, "linux").get("cgroupsPath")
    if not isinstance(path, str) or not path.startswith("/") or ".." in path.split("/"):
        raise faults.invalid("linux.cgroupsPath", str(path), "must be an absolute path below the cgroup root")
    return path


def bundle_root(spec: dict[str, object], bundle: str) -> Mount:
    """The bundle's own root directory, for a caller that mounted nothing."""
    path = section(spec, "root").get("path")
    if not isinstance(path, str) or not path:
        raise faults.invalid("root.path", str(path), "must name the root filesystem's directory")
    return Mount("bind", os.path.join(bundle, path), "", ["rbind"])


def has_own_pids(spec: dict[str, object]) -> bool:
    """Whether the container has a pid namespace of its own, whose processes die with its init."""
    spaces = section(spec, "linux").get("namespaces")
    return isinstance(spaces, list) and {"type": "pid"} in spaces


def _in_child(name: str, work: Callable[[], Built]) -> Built:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        try:
            child = os.fork()
            if child == 0:
                _be_builder(theirs, name, work)
        finally:
            theirs.close()
        message, fds, _flags, _address = socket.recv_fds(ours, _LIMIT, _FDS)
        os.waitpid(child, 0)
    ok, *words = message.decode("utf-8", "replace").split("\0")
    if ok != "1":
        raise _fault(name, words)
    pid, path, own_pids, kinds, *warnings = words
    for fd in fds:
        os.set_inheritable(fd, False)
    named = dict(zip(kinds.split(","), fds, strict=True))
    spawned = Spawned(socket.socket(fileno=named["channel"]))
    spawned.pid, spawned.pidfd, spawned.warnings = int(pid), named["pidfd"], warnings
    spawned.terminal = named.get("terminal", -1)
    return Built(spawned, root_fd=named.get("root", -1), cgroup_path=path, own_pids=own_pids == "1")


def _fault(name: str, words: list[str]) -> RuntimeFault:
    if len(words) != 4:
        return RuntimeFault(faults.INTERNAL, "process", name, "whoever was to make it died, perhaps out of memory")
    return RuntimeFault(int(words[0]), words[1], words[2], words[3])


def _be_builder(channel: socket.socket, name: str, work: Callable[[], Built]) -> None:
    """In the child: do the work, tell the shim, be gone. Never returns."""
    try:
        try:
            built = work()
        except RuntimeFault as fault:
            _say_fault(channel, fault)
        except BaseException as error:  # a bug is told like anything else that prevents a process
            _say_fault(channel, faults.internal("process", name, error))
        else:
            spawned = built.spawned
            named = {"channel": spawned.channel.fileno(), "pidfd": spawned.pidfd, "root": built.root_fd}
            named["terminal"] = spawned.terminal
            kinds = [kind for kind, fd in named.items() if fd >= 0]
            words = (str(spawned.pid), built.cgroup_path, "1" if built.own_pids else "0", ",".join(kinds))
            _say(channel, "1", *words, *spawned.warnings, fds=[named[kind] for kind in kinds])
    finally:
        os._exit(0)


def _say_fault(channel: socket.socket, fault: RuntimeFault) -> None:
    _say(channel, "0", str(fault.code), fault.kind, fault.name, fault.detail)


def _say(channel: socket.socket, *words: str, fds: list[int] | None = None) -> None:
    message = "\0".join(word.replace("\0", "?")[:4096] for word in words).encode("utf-8", "replace")
    socket.send_fds(channel, [message[:_LIMIT]], fds or [])
