"""Becoming a container's process: the last of the runtime's own code before the exec.

    builder: joins the cgroup, enters or makes the namespaces
      └── take over ──> process: builds or finds its world (root, mounts), becomes who it is to be, waits, execs

Owns the order in which the kernel is told, and that nothing is imported once a namespace has changed: an image could
have planted the module. What is done is for `plan` and `process_plan` to say, how for the operations; what is said
about it is `spawned`'s.
"""

from __future__ import annotations

import fcntl
import os
import sys

from corten_shim import identity, plan, process_plan, rootfs, scheduling, seccomp, spawned, usermap
from corten_shim import spec as specs
from corten_shim.cgroups import Cgroup, version
from corten_shim.cgroups.v1 import hierarchies
from corten_shim.linux import const, fd, namespace, takeover
from corten_shim.linux import process as processes
from corten_shim.linux.errors import INVALID_ARGUMENT, RuntimeFault, from_oserror
from corten_shim.linux.sockets import Socket
from corten_shim.operations import Loopback, Operation, World
from corten_shim.spawned import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Wishes:
    """What whoever asks for a process wants of it besides what its spec says.

    `gate` is a listening socket on which the start is told, -1 where it is told on the conversation itself. `preserved`
    are descriptors that the program gets as 3 and on. `oom_score` is taken where the spec has none; None leaves it.
    """

    __slots__ = ("gate", "no_new_keyring", "oom_score", "pivot", "preserved")

    def __init__(
        self,
        *,
        gate: int = -1,
        preserved: tuple[int, ...] = (),
        pivot: bool = True,
        oom_score: int | None = 0,
        no_new_keyring: bool = False,
    ) -> None:
        self.gate = gate
        self.preserved = preserved
        self.pivot = pivot
        self.oom_score = oom_score
        self.no_new_keyring = no_new_keyring


class Job:
    """Everything the process needs, made before a namespace changes: by `plan_container` or `plan_beside`."""

    __slots__ = (
        "affinity",
        "after",
        "before",
        "beside",
        "cgroup",
        "early",
        "host_proc",
        "joins",
        "new",
        "root_tree",
        "stdio",
        "time_offsets",
        "trees",
        "user",
        "warnings",
        "wishes",
        "world",
    )

    def __init__(self, *, cgroup: Cgroup, stdio: Stdio, wishes: Wishes) -> None:
        self.cgroup = cgroup
        self.stdio = stdio
        self.wishes = wishes
        self.beside = 0  # the container's first process, for one that joins it
        self.new = 0  # CLONE_NEW* to unshare
        self.joins: list[tuple[int, int]] = []  # (descriptor, CLONE_NEW*) to join
        self.user = -1  # a user namespace to enter and be root of
        self.time_offsets = ""
        self.affinity: tuple[int, ...] = ()
        self.root_tree = -1  # to attach as "/"; -1 where the namespace has its root already
        self.trees: list[int] = []
        self.early: tuple[Operation, ...] = ()  # done with the host's rights, before any namespace changes
        self.world: tuple[Operation, ...] = ()
        self.before: tuple[Operation, ...] = ()
        self.after: tuple[Operation, ...] = ()
        self.warnings: list[str] = []
        self.host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def user_namespace(spec: dict[str, Any]) -> int:
    """Descriptor of the container's user namespace, made or opened; -1 where it lives in the host's.

    Raises RuntimeFault.
    """
    maps = usermap.from_spec(specs.linux(spec))
    for entry in specs.linux(spec).get("namespaces") or ():
        if entry["type"] == "user":
            if not entry.get("path"):
                return usermap.make(maps)
            found = _open_namespace(entry["path"], const.CLONE_NEWUSER)
            if namespace.differs(found, "user"):
                return found
            os.close(found)
            return -1
    if maps:
        raise RuntimeFault(INVALID_ARGUMENT, "linux.uidMappings", "", 'they need a namespace of type "user"')
    return -1


def plan_container(
    spec: dict[str, Any],
    *,
    id: str,
    bundle: str,
    root_fd: int,
    user: int,
    stdio: Stdio,
    cgroup: Cgroup,
    seccomp_cache: str,
    wishes: Wishes,
    network: int = -1,
) -> Job:
    """The first process of a container. `root_fd` is `prepare_root`'s, `user` `user_namespace`'s; `network` an unused
    network namespace with its loopback up, or -1. Raises RuntimeFault.
    """
    job = Job(cgroup=cgroup, stdio=stdio, wishes=wishes)
    job.root_tree, job.user = root_fd, user
    new, paths = specs.namespaces(spec)
    own = _join(job, new, paths)
    job.new = new & ~const.CLONE_NEWUSER
    ready_network = bool(new & const.CLONE_NEWNET) and network >= 0 and user < 0
    if ready_network:
        job.joins.append((network, const.CLONE_NEWNET))
        job.new &= ~const.CLONE_NEWNET
    cgroup_version = version()
    facts = plan.Facts(
        cgroup_version=cgroup_version,
        hierarchies=hierarchies() if cgroup_version == 1 else {},
        own=own,
        id=id,
        bundle=bundle,
        cgroup_path=cgroup.path,
        pivot=wishes.pivot,
    )
    bindings = plan.Bindings()
    job.world = plan.world_plan(spec, bindings=bindings, facts=facts, terminal=stdio.window)
    if ready_network:
        job.world = tuple(each for each in job.world if not isinstance(each, Loopback))
    job.time_offsets = _time_offsets(spec, new)
    _plan_process(job, spec, spec.get("process") or {}, seccomp_cache, is_exec=False)
    job.after = (*plan.start_hooks(spec, facts), *job.after)
    job.trees = [_tree(each, user) for each in bindings.sources]
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
    wishes: Wishes,
) -> Job:
    """A further process in the namespaces of the container's first one. Raises RuntimeFault."""
    job = Job(cgroup=cgroup, stdio=stdio, wishes=wishes)
    job.beside = init_pid
    new, paths = specs.namespaces(spec)
    flags = new
    for path, flag in paths:
        if flag != const.CLONE_NEWUSER or _is_other(path):
            flags |= flag
    job.joins.append((init_pidfd, flags))
    if flags & const.CLONE_NEWUSER:
        job.user = init_pidfd
    if stdio.window is not None:
        job.world = (plan.exec_terminal(stdio.window),)
    job.affinity = scheduling.initial_affinity(process)
    _plan_process(job, spec, process, seccomp_cache, is_exec=True, root_fd=root_fd)
    return job


def _join(job: Job, new: int, paths: list[tuple[str, int]]) -> int:
    """Have the namespaces at `paths` joined; CLONE_NEW* of all that are not the host's, new ones included."""
    own = new
    kinds = {flag: kind for kind, flag in namespace.FLAGS.items()}
    for path, flag in paths:
        if flag == const.CLONE_NEWUSER:
            own |= flag if job.user >= 0 else 0
            continue
        descriptor = _open_namespace(path, flag)
        job.joins.append((descriptor, flag))
        if namespace.differs(descriptor, kinds[flag]):
            own |= flag
    return own


def _open_namespace(path: str, flag: int) -> int:
    """Descriptor of the namespace at `path`. Raises RuntimeFault where it is none, or one of another kind."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise from_oserror("namespace", path, error) from error
    try:
        kind = namespace.kind_of(descriptor)
    except OSError:
        kind = 0
    if kind != flag:
        os.close(descriptor)
        names = {value: name for name, value in namespace.FLAGS.items()}
        found = f"a {names[kind]} namespace" if kind in names else "no namespace"
        detail = f"a {names[flag]} namespace is needed; this is {found}"
        raise RuntimeFault(INVALID_ARGUMENT, "namespace", path, detail)
    return descriptor


def _is_other(path: str) -> bool:
    descriptor = _open_namespace(path, const.CLONE_NEWUSER)
    try:
        return namespace.differs(descriptor, "user")
    finally:
        os.close(descriptor)


def _time_offsets(spec: dict[str, Any], new: int) -> str:
    """The text for /proc/self/timens_offsets (time_namespaces(7)). Raises RuntimeFault."""
    offsets = specs.linux(spec).get("timeOffsets") or {}
    if offsets and not new & const.CLONE_NEWTIME:
        raise RuntimeFault(INVALID_ARGUMENT, "linux.timeOffsets", "", 'they need a new namespace of type "time"')
    for clock in offsets:
        if clock not in ("monotonic", "boottime"):
            raise RuntimeFault(INVALID_ARGUMENT, "linux.timeOffsets", clock, "monotonic or boottime is needed")
    lines = (f"{clock} {each.get('secs') or 0} {each.get('nanosecs') or 0}\n" for clock, each in offsets.items())
    return "".join(lines)


def _plan_process(
    job: Job, spec: dict[str, Any], process: dict[str, Any], cache: str, *, is_exec: bool, root_fd: int = -1
) -> None:
    who = identity.from_spec(process.get("user") or {}, root_fd if is_exec else job.root_tree)
    compiled = seccomp.prepare(specs.linux(spec).get("seccomp"), cache)
    planned = process_plan.process_plan(
        process,
        identity=who,
        seccomp=compiled,
        held=processes.permitted_capabilities(job.host_proc) if job.user < 0 else processes.EVERY_CAPABILITY,
        streams=job.stdio.descriptors,
        maps=usermap.from_spec(specs.linux(spec)) if job.user >= 0 else None,
        oom_score=job.wishes.oom_score,
        keyring=not job.wishes.no_new_keyring,
    )
    job.early, job.before, job.after = planned.early, planned.before, planned.after
    job.before = (*scheduling.plan(spec, process, is_exec=is_exec), *job.before)
    job.warnings += planned.warnings


def _tree(binding: plan.Binding, user: int) -> int:
    own = usermap.make(binding.map) if binding.map is not None else -1
    try:
        return rootfs.clone_source(binding.source, binding.options, own if own >= 0 else user)
    except OSError as error:
        raise from_oserror("mount source", binding.source, error) from error
    finally:
        if own >= 0:
            os.close(own)


def become(job: Job, channel: Socket) -> NoReturn:
    """Be the process, in a child of the caller's that takes its place. What goes wrong is told on `channel`."""
    subject = ("process", "")
    try:
        processes.set_dumpable(False)
        seal_imports()
        for text in job.warnings:
            spawned.warn(channel, text)
        world = _world(job, channel)
        for operation in job.early:
            subject = operation.subject()
            operation.perform(world)
        subject = ("cgroup", job.cgroup.path)
        if job.affinity:
            os.sched_setaffinity(0, job.affinity)
        job.cgroup.join(beside=job.beside)
        subject = ("namespaces", "")
        _change_namespaces(job)
        if takeover.POSSIBLE and not job.new & const.CLONE_NEWTIME:

            def go_on(pid: int) -> NoReturn:
                spawned.tell_pid(channel, pid)
                _be_process(job, world, channel, pid)

            takeover.take_over(go_on)
        told, tell = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            _be_process(job, world, channel, int(os.read(told, 16)))
        spawned.tell_pid(channel, child)
        os.write(tell, b"%d" % child)
    except BaseException as error:
        spawned.report(channel, subject, error)
    os._exit(0)


def _change_namespaces(job: Job) -> None:
    """Those of others first, with the host's rights; then the user namespace, which owns those that are new."""
    if job.user >= 0:
        os.setgroups(())  # the host's are none of the container's business; later a namespace may not allow it
    for descriptor, flags in job.joins:
        namespace.setns(descriptor, flags)
    if job.user >= 0:
        if not any(flags & const.CLONE_NEWUSER for _, flags in job.joins):
            namespace.setns(job.user, const.CLONE_NEWUSER)
        usermap.become_root()
    namespace.unshare(job.new)
    if job.time_offsets:
        _write_time_offsets(job)


def _write_time_offsets(job: Job) -> None:
    # Who is not dumpable does not own the files of its own /proc directory.
    processes.set_dumpable(True)
    try:
        offsets = os.open("self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC, dir_fd=job.host_proc)
        os.write(offsets, job.time_offsets.encode())
        os.close(offsets)
    except OSError as error:
        raise from_oserror("linux.timeOffsets", job.time_offsets.strip(), error) from error
    finally:
        processes.set_dumpable(False)


def _world(job: Job, channel: Socket) -> World:
    world = World(root_tree=job.root_tree, trees=job.trees, host_proc=job.host_proc)
    world.warn = lambda text: spawned.warn(channel, text)
    world.send_terminal = lambda master: spawned.tell_terminal(channel, master)
    world.meet = lambda stage: spawned.meet(channel, stage)
    return world


def _be_process(job: Job, world: World, channel: Socket, pid: int) -> NoReturn:
    subject = ("process", "")
    try:
        world.pid = pid
        os.setsid()
        for stream, descriptor in enumerate(job.stdio.descriptors):
            os.dup2(descriptor, stream)
        if job.root_tree < 0:
            world.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for operation in (*job.world, *job.before):
            subject = operation.subject()
            operation.perform(world)
        channel = _arrange_descriptors(channel, job.wishes)
        channel = spawned.await_start(channel, job.wishes.gate)
        for operation in job.after:
            subject = operation.subject()
            operation.perform(world)
    except BaseException as error:  # an image must never see a traceback being built
        spawned.report(channel, subject, error)
    os._exit(127)


def _arrange_descriptors(channel: Socket, wishes: Wishes) -> Socket:
    """The preserved ones are 3 and on, the rest does not survive the exec; returns the conversation, perhaps moved."""
    if not wishes.preserved:
        fd.close_on_exec_from(3)
        return channel
    first = 3 + len(wishes.preserved)
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD, first) for each in (channel.fileno(), *wishes.preserved)]
    if wishes.gate >= 0:
        wishes.gate = fcntl.fcntl(wishes.gate, fcntl.F_DUPFD, first)
    channel.detach()
    for number, each in enumerate(moved[1:]):
        os.dup2(each, 3 + number)
    fd.close_on_exec_from(first)
    return Socket(fileno=moved[0])


def seal_imports() -> None:
    """From here on nothing can be imported, whatever the root filesystem turns out to be."""
    sys.path[:] = []
    sys.meta_path[:] = []
    sys.path_hooks[:] = []
    sys.path_importer_cache.clear()
