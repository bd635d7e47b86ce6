"""Starting a container's processes: the only place that forks for a container and enters its namespaces.

    shim ── fork ──> intermediate: joins the cgroup, unshares or joins namespaces
      │                  └── fork ──> process: builds or finds its world (root, mounts, identity)
      │   "P<pid>"  <──────┘ exits       │
      │   "T"+fd, "W<warning>" <─────────┤  its terminal, what had to give way
      │   "R"  <─────────────────────────┤  ready: everything that can fail has not
      │   "S"  ──────────────────────────>  start
      │   end of file (exec closed it), or "F<fault>"

Owns that conversation, over one seqpacket socket pair. The shim itself never enters a namespace, and nothing is
imported once one has changed: an image could have planted the module. What is done is for `plan` to say, how for
`operations` and `credentials`.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys

from corten_shim import identity, plan, rootfs, seccomp
from corten_shim.cgroups import Cgroup, version
from corten_shim.cgroups.v1 import hierarchies
from corten_shim.linux import fd, namespace, process
from corten_shim.linux.errors import DEADLINE_EXCEEDED, INTERNAL, RuntimeFault, from_oserror
from corten_shim.mountoptions import MountOptions
from corten_shim.operations import Operation, World
from corten_shim.rootfs import Mount, prepare_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn


__all__ = ["Mount", "Spawned", "Stdio", "create_container", "create_exec", "prepare_root"]

READY_SECONDS = 30.0
EXEC_SECONDS = 30.0
_MAX_TEXT = 4096


class Stdio:
    """The three streams of a process, as descriptors that stay the caller's; or the wish for a terminal."""

    __slots__ = ("descriptors", "window")

    def __init__(self, stdin: int, stdout: int, stderr: int) -> None:
        self.descriptors: tuple[int, ...] = (stdin, stdout, stderr)
        self.window: tuple[int, int] | None = None

    @classmethod
    def terminal(cls, width: int, height: int) -> Stdio:
        """A terminal of the container's own devpts; 0 by 0 leaves its size alone."""
        wish = cls(-1, -1, -1)
        wish.descriptors = ()
        wish.window = (width, height)
        return wish


class Spawned:
    """A process that waits before its exec.

    `terminal` is the other end of its terminal, or -1; `place` and `root_fd` are what `tell_place` told, else empty
    and -1. The descriptors are the caller's to close.
    """

    __slots__ = ("_channel", "pid", "pidfd", "place", "root_fd", "terminal", "warnings")

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self.pid = 0
        self.pidfd = -1
        self.terminal = -1
        self.place = ""
        self.root_fd = -1
        self.warnings: list[str] = []

    def start(self) -> None:
        """Let it exec; returns once it has. Raises RuntimeFault (kind "executable" where the program was at fault)."""
        try:
            self._channel.settimeout(EXEC_SECONDS)
            self._channel.send(b"S")
            while message := self._receive("exec"):
                if message[:1] == b"W":
                    self.warnings.append(message[1:].decode("utf-8", "replace"))
        except BrokenPipeError:
            raise RuntimeFault(INTERNAL, "process", str(self.pid), "it ended before it was started") from None
        finally:
            self._channel.close()

    def abandon(self) -> None:
        """Kill and reap it; fine when it has ended."""
        self._channel.close()
        if self.pid:
            try:
                process.pidfd_send_signal(self.pidfd, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                return

    def wait_until_ready(self) -> None:
        """Take what the two processes say until one is ready and its pid known. Raises RuntimeFault."""
        self._channel.settimeout(READY_SECONDS)
        ready = False
        while not (ready and self.pid):
            message = self._receive("setup")
            kind, text = message[:1], message[1:]
            if kind == b"P":
                self.pid = int(text)
                self.pidfd = process.pidfd_open(self.pid)
            elif kind == b"W":
                self.warnings.append(text.decode("utf-8", "replace"))
            elif kind == b"R":
                ready = True
            elif kind == b"B":
                self.place = text.decode("utf-8", "surrogateescape")
            elif not kind:
                raise RuntimeFault(INTERNAL, "process", str(self.pid), "it ended during setup, perhaps out of memory")

    def _receive(self, phase: str) -> bytes:
        try:
            message, fds, _, _ = socket.recv_fds(self._channel, 4 * _MAX_TEXT, 1)
        except TimeoutError:
            detail = f"its {phase} took longer than {READY_SECONDS:.0f} s"
            raise RuntimeFault(DEADLINE_EXCEEDED, "process", str(self.pid), detail) from None
        for descriptor in fds:
            os.set_inheritable(descriptor, False)
            if message[:1] == b"B":
                self.root_fd = descriptor
            else:
                self.terminal = descriptor
        if message[:1] == b"F":
            code, kind, name, detail = message[1:].decode("utf-8", "replace").split("\0", 3)
            raise RuntimeFault(int(code), kind, name, detail)
        return message


class _Job:
    """Everything the children need, made before the first fork."""

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

    def descriptors(self) -> list[int]:
        """What the children need of what the shim has open.

        The rest is closed in them: the shim's end of the conversation would keep them from noticing its death, others
        would keep somebody from seeing an end of file.
        """
        joined = (descriptor for descriptor, _ in self.joins)
        found = (*self.stdio.descriptors, self.root_tree, self.host_proc, *self.trees, *joined)
        return [descriptor for descriptor in found if descriptor >= 0]

    def close(self) -> None:
        for descriptor in (self.host_proc, *self.trees):
            os.close(descriptor)


def create_container(
    spec: dict[str, Any],
    *,
    bundle: str,
    root_fd: int,
    stdio: Stdio,
    cgroup: Cgroup,
    seccomp_cache: str,
    channel: socket.socket | None = None,
) -> Spawned:
    """The first process of a container, waiting before its exec. `root_fd` is `prepare_root`'s and stays the caller's.

    With `channel` the caller is the intermediate already (see `converse`), and this never returns.
    Raises RuntimeFault, with nothing left behind.
    """
    job = _Job(cgroup=cgroup, stdio=stdio)
    joined: list[int] = []
    try:
        job.root_tree = root_fd
        job.new, paths = plan.namespaces(spec)
        for path, flag in paths:
            joined.append(_open_namespace(path))
            job.joins.append((joined[-1], flag))
        facts_version = version()
        facts = plan.Facts(facts_version, hierarchies() if facts_version == 1 else {})
        bindings = plan.Bindings()
        job.world = plan.world_plan(spec, place=bundle, bindings=bindings, facts=facts, terminal=stdio.window)
        _plan_process(job, spec, spec.get("process") or {}, root_fd, seccomp_cache)
        for source, options in bindings.sources:
            job.trees.append(_bind_source(source, options))
        return _spawn(job, channel)
    finally:
        job.close()
        for descriptor in joined:
            os.close(descriptor)


def create_exec(
    spec: dict[str, Any],
    process: dict[str, Any],
    *,
    init_pidfd: int,
    init_pid: int,
    root_fd: int,
    stdio: Stdio,
    cgroup: Cgroup,
    seccomp_cache: str,
    channel: socket.socket | None = None,
) -> Spawned:
    """A further process in the namespaces of the container's first one, waiting before its exec.

    `channel` is as in `create_container`. Raises RuntimeFault, with nothing left behind.
    """
    job = _Job(cgroup=cgroup, stdio=stdio)
    try:
        job.beside = init_pid
        job.joins.append((init_pidfd, namespace.EXEC))
        if stdio.window is not None:
            job.world = (plan.exec_terminal(stdio.window),)
        _plan_process(job, spec, process, root_fd, seccomp_cache)
        return _spawn(job, channel)
    finally:
        job.close()


def _plan_process(job: _Job, spec: dict[str, Any], process: dict[str, Any], root_fd: int, cache: str) -> None:
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


def _spawn(job: _Job, channel: socket.socket | None) -> Spawned:
    def be_intermediate(theirs: socket.socket) -> NoReturn:
        fd.close_all_but((*job.descriptors(), theirs.fileno()))
        _be_intermediate(job, theirs)

    if channel is not None:
        be_intermediate(channel)
    return converse(Spawned, be_intermediate)


def converse(make: Callable[[socket.socket], Spawned], be_intermediate: Callable[[socket.socket], NoReturn]) -> Spawned:
    """Fork the intermediate, which is what `be_intermediate` does with its end, and hear it out.

    `make` gets this end. Raises RuntimeFault; of the processes nothing is left then.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    spawned = make(ours)
    try:
        child = os.fork()
        if child == 0:
            try:
                be_intermediate(theirs)
            finally:
                os._exit(127)  # whatever happens, there must not be two shims
        theirs.close()
        try:
            spawned.wait_until_ready()
        except BaseException:
            os.kill(child, signal.SIGKILL)  # perhaps what it waits for never comes
            raise
        finally:
            os.waitpid(child, 0)
    except BaseException as error:
        theirs.close()
        spawned.abandon()
        for descriptor in (spawned.pidfd, spawned.terminal):
            if descriptor >= 0:
                os.close(descriptor)
        if isinstance(error, OSError):
            raise from_oserror("process", "", error) from error
        raise
    return spawned


def _be_intermediate(job: _Job, channel: socket.socket) -> NoReturn:
    phase = "cgroup"
    try:
        process.set_dumpable(False)
        seal_imports()
        job.cgroup.join(beside=job.beside)
        phase = "namespaces"
        for descriptor, flags in job.joins:
            namespace.setns(descriptor, flags)
        namespace.unshare(job.new)
        child = os.fork()
        if child == 0:
            _be_process(job, channel)
        channel.send(b"P%d" % child)
    except BaseException as error:
        report(channel, (phase, ""), error)
    os._exit(0)


def _be_process(job: _Job, channel: socket.socket) -> NoReturn:
    subject = ("process", "")
    try:
        world = World(root_tree=job.root_tree, trees=job.trees, host_proc=job.host_proc)
        world.warn = lambda text: _say(channel, b"W" + text.encode("utf-8", "replace")[:_MAX_TEXT])
        world.send_terminal = lambda master: _send_terminal(channel, master)
        os.setsid()
        for stream, descriptor in enumerate(job.stdio.descriptors):
            os.dup2(descriptor, stream)
        if job.root_tree < 0 or not job.new:
            world.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for operation in (*job.world, *job.before):
            subject = operation.subject()
            operation.perform(world)
        fd.close_on_exec_from(3)
        _say(channel, b"R")
        if channel.recv(1) != b"S":
            os._exit(0)  # given up, or the shim is gone
        for operation in job.after:
            subject = operation.subject()
            operation.perform(world)
    except BaseException as error:  # an image must never see a traceback being built
        report(channel, subject, error)
    os._exit(127)


def seal_imports() -> None:
    """From here on nothing can be imported, whatever the root filesystem turns out to be."""
    sys.path[:] = []
    sys.meta_path[:] = []
    sys.path_hooks[:] = []
    sys.path_importer_cache.clear()


def tell_place(channel: socket.socket, place: str, root_fd: int) -> None:
    """From the intermediate to the shim: whatever the shim must know of where the container is, and its root."""
    message = b"B" + place.encode("utf-8", "surrogateescape")
    channel.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", root_fd))])


def _say(channel: socket.socket, message: bytes) -> None:
    channel.send(message)


def _send_terminal(channel: socket.socket, master: int) -> None:
    channel.sendmsg([b"T"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", master))])


def report(channel: socket.socket, subject: tuple[str, str], error: BaseException) -> None:
    fault = error if isinstance(error, RuntimeFault) else None
    if isinstance(error, OSError):
        fault = from_oserror(*subject, error)
    elif fault is None:
        fault = RuntimeFault(INTERNAL, *subject, f"{type(error).__name__}: {error}")
    fields = (str(fault.code), fault.kind, fault.name[:_MAX_TEXT], fault.detail[:_MAX_TEXT])
    try:
        channel.send(("F" + "\0".join(field.replace("\0", "?") for field in fields)).encode("utf-8", "replace"))
    except OSError:
        os._exit(126)  # nobody listens any more
