"""Becoming a container's process: the last of the runtime's own code before the exec.

    builder: joins the cgroup, unshares or joins namespaces
      └── take over ──> process: builds or finds its world (root, mounts), becomes who it is to be, waits, execs

Owns the order in which the kernel is told, and that nothing is imported once a namespace has changed: an image could
have planted the module. What is done is for `plan` to say, how for `operations` and `credentials`; what is said about
it is `spawned`'s.
"""

from __future__ import annotations

import os
import sys

from corten_shim import identity, plan, rootfs, seccomp, spawned
from corten_shim.cgroups import Cgroup, version
from corten_shim.cgroups.v1 import hierarchies
from corten_shim.linux import const, fd, namespace, process, takeover
from corten_shim.linux.errors import from_oserror
from corten_shim.linux.sockets import Socket
from corten_shim.mountoptions import MountOptions
from corten_shim.operations import Loopback, Operation, World
from corten_shim.spawned import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Job:
    """Everything the process needs, made before a namespace changes: by `plan_container` or `plan_beside`."""

    __slots__ = (
        "after",
        "before",
        "beside",
        "cgroup",
        "host_proc",
        "joins",
        "new",
        "root_tree",
        "stdio",
        "trees",
        "world",
    )

    def __init__(self, *, cgroup: Cgroup, stdio: Stdio) -> None:
        self.cgroup = cgroup
        self.stdio = stdio
        self.beside = 0  # the container's first process, for one that joins it
        self.new = 0  # CLONE_NEW* to unshare
        self.joins: list[tuple[int, int]] = []  # (descriptor, CLONE_NEW*) to join
        self.root_tree = -1  # to attach as "/"; -1 where the namespace has its root already
        self.trees: list[int] = []
        self.world: tuple[Operation, ...] = ()
        self.before: tuple[Operation, ...] = ()
        self.after: tuple[Operation, ...] = ()
        self.host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def plan_container(
    spec: dict[str, Any],
    *,
    bundle: str,
    root_fd: int,
    stdio: Stdio,
    cgroup: Cgroup,
    seccomp_cache: str,
    network: int = -1,
) -> Job:
    """The first process of a container. `root_fd` is `prepare_root`'s; `network` an unused network namespace, or -1.

    Raises RuntimeFault.
    """
    job = Job(cgroup=cgroup, stdio=stdio)
    job.root_tree = root_fd
    job.new, paths = plan.namespaces(spec)
    job.joins = [(_open_namespace(path), flag) for path, flag in paths]
    wanted = job.new
    if job.new & const.CLONE_NEWNET and network >= 0:
        job.joins.append((network, const.CLONE_NEWNET))
        job.new &= ~const.CLONE_NEWNET
    facts_version = version()
    facts = plan.Facts(facts_version, hierarchies() if facts_version == 1 else {})
    bindings = plan.Bindings()
    job.world = plan.world_plan(spec, place=bundle, bindings=bindings, facts=facts, terminal=stdio.window)
    if wanted != job.new:  # its loopback is up
        job.world = tuple(each for each in job.world if not isinstance(each, Loopback))
    _plan_process(job, spec, spec.get("process") or {}, root_fd, seccomp_cache)
    job.trees = [_bind_source(source, options) for source, options in bindings.sources]
    return job


def plan_beside(
    spec: dict[str, Any],
    process: dict[str, Any],
    *,
    init_pidfd: int,
    init_pid: int,
    root_fd: int,
    stdio: Stdio,
    cgroup: Cgroup,
    seccomp_cache: str,
) -> Job:
    """A further process in the namespaces of the container's first one. Raises RuntimeFault."""
    job = Job(cgroup=cgroup, stdio=stdio)
    job.beside = init_pid
    job.joins.append((init_pidfd, namespace.EXEC))
    if stdio.window is not None:
        job.world = (plan.exec_terminal(stdio.window),)
    _plan_process(job, spec, process, root_fd, seccomp_cache)
    return job


def _plan_process(job: Job, spec: dict[str, Any], process: dict[str, Any], root_fd: int, cache: str) -> None:
    who = identity.from_spec(process.get("user") or {}, root_fd)
    compiled = seccomp.prepare((spec.get("linux") or {}).get("seccomp"), cache)
    job.before, job.after = plan.process_plan(process, identity=who, seccomp=compiled)


def _open_namespace(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise from_oserror("namespace", path, error) from error


def _bind_source(source: str, options: MountOptions) -> int:
    try:
        return rootfs.clone_source(source, options)
    except OSError as error:
        raise from_oserror("mount source", source, error) from error


def become(job: Job, channel: Socket) -> NoReturn:
    """Be the process, in a child of the caller's that takes its place. What goes wrong is told on `channel`."""
    phase = "cgroup"
    try:
        process.set_dumpable(False)
        seal_imports()
        job.cgroup.join(beside=job.beside)
        phase = "namespaces"
        for descriptor, flags in job.joins:
            namespace.setns(descriptor, flags)
        namespace.unshare(job.new)
        if takeover.POSSIBLE and not job.new & const.CLONE_NEWTIME:

            def go_on(pid: int) -> NoReturn:
                spawned.tell_pid(channel, pid)
                _be_process(job, channel)

            takeover.take_over(go_on)
        child = os.fork()
        if child == 0:
            _be_process(job, channel)
        spawned.tell_pid(channel, child)
    except BaseException as error:
        spawned.report(channel, (phase, ""), error)
    os._exit(0)


def _be_process(job: Job, channel: Socket) -> NoReturn:
    subject = ("process", "")
    try:
        world = World(root_tree=job.root_tree, trees=job.trees, host_proc=job.host_proc)
        world.warn = lambda text: spawned.warn(channel, text)
        world.send_terminal = lambda master: spawned.tell_terminal(channel, master)
        os.setsid()
        for stream, descriptor in enumerate(job.stdio.descriptors):
            os.dup2(descriptor, stream)
        if job.root_tree < 0 or not job.new:
            world.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for operation in (*job.world, *job.before):
            subject = operation.subject()
            operation.perform(world)
        fd.close_on_exec_from(3)
        if not spawned.tell_ready(channel):
            os._exit(0)
        for operation in job.after:
            subject = operation.subject()
            operation.perform(world)
    except BaseException as error:  # an image must never see a traceback being built
        spawned.report(channel, subject, error)
    os._exit(127)


def seal_imports() -> None:
    """From here on nothing can be imported, whatever the root filesystem turns out to be."""
    sys.path[:] = []
    sys.meta_path[:] = []
    sys.path_hooks[:] = []
    sys.path_importer_cache.clear()
