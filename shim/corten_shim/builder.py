"""Making a process in a child of its own, so that all it takes to plan one is forgotten with that child.

    shim ── fork ──> builder: waits for its order
      │  order + descriptors ──> │  reads the spec, prepares the root, makes the cgroup, plans
      │  <── where it is         │
      │                          └── becomes the process (see `init`); the conversation is `spawned`'s

Owns the builder. It may be made long before there is an order: then no start waits for the fork. The shim keeps what
it needs later: descriptors, and a few words. A shim that had done this itself would be much larger for the rest of its
life.
"""

from __future__ import annotations

import json
import marshal
import os
import signal

from corten_shim import faults, spawned
from corten_shim.cgroups import open_cgroup
from corten_shim.init import Job, become, plan_beside, plan_container
from corten_shim.linux import const, fd, libc, namespace, process, sockets
from corten_shim.linux.errors import INTERNAL, RuntimeFault, from_oserror
from corten_shim.linux.pages import PageNote
from corten_shim.linux.sockets import Socket
from corten_shim.operations import Loopback
from corten_shim.rootfs import Mount, prepare_root
from corten_shim.spawned import Spawned, Stdio, Unheard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_OWN_PIDS, _SHARED_PIDS = "own:", "shared:"
_MOST_DESCRIPTORS = 8


class Built:
    """A process that waits before its exec, and what belongs to its container. The caller owns the descriptors.

    `root_fd` is -1 for a process that was exec'd; `own_pids` says that everything else dies with the init.
    """

    __slots__ = ("cgroup_path", "own_pids", "root_fd", "spawned")

    def __init__(self, spawned: Spawned) -> None:
        self.spawned = spawned
        self.root_fd = spawned.root_fd
        kind, _, self.cgroup_path = spawned.place.partition(":")
        self.own_pids = f"{kind}:" == _OWN_PIDS


class Builder:
    """A child that waits for one order. `release` ends one that got none."""

    __slots__ = ("_channel", "_pidfd", "pid")

    def __init__(self, pages: PageNote | None = None, *, network: bool = False) -> None:
        """Fork. Until its order comes the builder copies its `pages` and makes a `network` namespace.

        Raises OSError.
        """
        self._fork(pages, network=network)

    def _fork(self, pages: PageNote | None, *, network: bool) -> None:
        self._channel, theirs = sockets.pair()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _be_builder(theirs, parent, pages, network=network)
        theirs.close()
        self._pidfd = process.pidfd_open(self.pid)

    def release(self) -> None:
        """Kill and reap it."""
        self._channel.close()
        self._end()

    def build(self, order: tuple[Any, ...], descriptors: list[int], meanwhile: Callable[[], None]) -> Spawned:
        """Have `order` carried out; `meanwhile` is done here in that time. The builder is used up.

        One that was killed while it waited is replaced, and `meanwhile` may then be done again. Raises RuntimeFault or
        what `meanwhile` raises; of the process nothing is left then.
        """
        with open(os.memfd_create("order", os.MFD_CLOEXEC), "wb") as text:
            text.write(marshal.dumps(order))
            text.flush()
            whole = [text.fileno(), *descriptors]
            try:
                return self._carry_out(whole, meanwhile)
            except Unheard:
                self._fork(None, network=False)
            try:
                return self._carry_out(whole, meanwhile)
            except Unheard:
                raise RuntimeFault(INTERNAL, "process", "", "its builder dies when it is asked") from None

    def _carry_out(self, descriptors: list[int], meanwhile: Callable[[], None]) -> Spawned:
        made = Spawned(self._channel)
        try:
            try:
                made.order(descriptors)
                meanwhile()
                made.wait_until_ready()
            finally:
                self._end()  # it is no more, or waits for what never comes
        except BaseException as error:
            made.abandon()
            for descriptor in (made.pidfd, made.terminal):
                if descriptor >= 0:
                    os.close(descriptor)
            _undo(made)
            if isinstance(error, OSError):
                raise from_oserror("process", "", error) from error
            raise
        return made

    def _end(self) -> None:
        try:
            process.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # the kernel says so: it is gone
        os.close(self._pidfd)


def build_container(
    builder: Builder,
    *,
    name: str,
    bundle: str,
    mounts: list[Mount],
    stdio: Stdio,
    seccomp_cache: str,
    meanwhile: Callable[[], None],
) -> Built:
    """The init of the bundle's container. `mounts` are its root; none: what the spec says.

    Raises RuntimeFault, with nothing left behind.
    """
    root = [(mount.type, mount.source, mount.target, mount.options) for mount in mounts]
    order = ("container", name, bundle, root, stdio.window, seccomp_cache)
    return Built(builder.build(order, list(stdio.descriptors), meanwhile))


def build_exec(
    builder: Builder,
    *,
    name: str,
    bundle: str,
    process: bytes,
    init: tuple[int, int],
    root_fd: int,
    stdio: Stdio,
    seccomp_cache: str,
) -> Built:
    """A process beside the init, whose pidfd and pid are `init`. `process` is JSON. Raises RuntimeFault."""
    order = ("exec", name, bundle, process, init[1], stdio.window, seccomp_cache)
    return Built(builder.build(order, [init[0], root_fd, *stdio.descriptors], lambda: None))


def _be_builder(channel: Socket, parent: int, pages: PageNote | None, *, network: bool) -> NoReturn:
    name = ""
    try:
        libc.die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
        signal.set_wakeup_fd(-1)
        process.set_name("corten-builder")
        fd.close_all_but((channel.fileno(),))
        if pages is not None:
            pages.copy_ahead()
        network_fd = _network_ahead() if network else -1
        message, descriptors, _ = sockets.receive(channel, 1, _MOST_DESCRIPTORS)
        if not message:
            os._exit(0)
        with open(descriptors.pop(0), "rb") as text:
            text.seek(0)
            kind, name, *order = marshal.loads(text.read())
        if kind == "container":
            job = _container_job(channel, descriptors, network_fd, *order)
        else:
            job = _exec_job(descriptors, name, *order)
        if pages is not None:
            pages.take()
        become(job, channel)
    except BaseException as error:
        spawned.report(channel, ("process", name), error)
    finally:
        os._exit(0)


def _network_ahead() -> int:
    """A network namespace with its loopback up, for a container that will want one; -1 where none can be had."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespace.unshare(const.CLONE_NEWNET)
        try:
            Loopback().perform(None)
            return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            namespace.setns(own, const.CLONE_NEWNET)
    except OSError:
        return -1  # the container's own try will say why
    finally:
        os.close(own)


def _container_job(
    channel: Socket,
    descriptors: list[int],
    network: int,
    bundle: str,
    root: list[tuple[str, str, str, list[str]]],
    window: tuple[int, int] | None,
    seccomp_cache: str,
) -> Job:
    spec = read_spec(bundle)
    path = cgroup_path(spec)
    root_fd = prepare_root([Mount(*mount) for mount in root] or [bundle_root(spec, bundle)], spec=spec)
    cgroup = open_cgroup(path)
    cgroup.create(section(section(spec, "linux"), "resources"))
    spawned.tell_place(channel, (_OWN_PIDS if has_own_pids(spec) else _SHARED_PIDS) + path, root_fd)
    return plan_container(
        spec,
        bundle=bundle,
        root_fd=root_fd,
        stdio=Stdio(*descriptors) if window is None else Stdio.terminal(*window),
        cgroup=cgroup,
        seccomp_cache=seccomp_cache,
        network=network,
    )


def _exec_job(
    descriptors: list[int],
    name: str,
    bundle: str,
    process: bytes,
    init_pid: int,
    window: tuple[int, int] | None,
    seccomp_cache: str,
) -> Job:
    spec = read_spec(bundle)
    init_pidfd, root_fd, *streams = descriptors
    return plan_beside(
        spec,
        parse(process, "process spec", name),
        init_pidfd=init_pidfd,
        init_pid=init_pid,
        root_fd=root_fd,
        stdio=Stdio(*streams) if window is None else Stdio.terminal(*window),
        cgroup=open_cgroup(cgroup_path(spec)),
        seccomp_cache=seccomp_cache,
    )


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


def _undo(made: Spawned) -> None:
    """The process failed after it had told its place: the cgroup it made goes."""
    built = Built(made)
    if built.root_fd >= 0:
        os.close(built.root_fd)
    if built.cgroup_path:
        cgroup = open_cgroup(built.cgroup_path)
        cgroup.kill()
        cgroup.remove()
