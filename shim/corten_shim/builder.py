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

import marshal
import os
import signal

from corten_shim import hooks, schema, spawned, spec
from corten_shim.cgroups import open_cgroup
from corten_shim.init import Job, Wishes, become, plan_beside, plan_container, user_namespace
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

_OWN_PIDS, _HOOKS = "own", "hooks"
_MOST_DESCRIPTORS = 250  # SCM_MAX_FD is 253


class Built:
    """A process that waits before its exec, and what belongs to its container. The caller owns the descriptors.

    `root_fd` is -1 for a process that was exec'd; `own_pids` says that everything else dies with the init, `has_hooks`
    that its spec has some.
    """

    __slots__ = ("cgroup_path", "has_hooks", "own_pids", "root_fd", "spawned")

    def __init__(self, spawned: Spawned) -> None:
        self.spawned = spawned
        self.root_fd = spawned.root_fd
        traits, _, self.cgroup_path = spawned.place.partition(":")
        self.own_pids = _OWN_PIDS in traits.split(",")
        self.has_hooks = _HOOKS in traits.split(",")


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

    def build(
        self,
        order: tuple[Any, ...],
        descriptors: list[int],
        *,
        meanwhile: Callable[[], None],
        reached: Callable[[str, int], None] | None = None,
    ) -> Spawned:
        """Have `order` carried out; `meanwhile` is done here in that time, `reached` when hooks are due (see
        `Spawned`). The builder is used up.

        One that was killed while it waited is replaced, and `meanwhile` may then be done again. Raises RuntimeFault or
        what `meanwhile` raises; of the process nothing is left then.
        """
        with open(os.memfd_create("order", os.MFD_CLOEXEC), "wb") as text:
            text.write(marshal.dumps(order))
            text.flush()
            whole = [text.fileno(), *descriptors]
            try:
                return self._carry_out(whole, meanwhile, reached)
            except Unheard:
                self._fork(None, network=False)
            try:
                return self._carry_out(whole, meanwhile, reached)
            except Unheard:
                raise RuntimeFault(INTERNAL, "process", "", "its builder dies when it is asked") from None

    def _carry_out(
        self, descriptors: list[int], meanwhile: Callable[[], None], reached: Callable[[str, int], None] | None
    ) -> Spawned:
        made = Spawned(self._channel, reached)
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
    meanwhile: Callable[[], None] = lambda: None,
    wishes: Wishes | None = None,
    cgroup: str = "",
    reached: Callable[[str, int], None] | None = None,
) -> Built:
    """The init of the bundle's container. `mounts` are its root; none: what the spec says. `cgroup` is its path, if the
    spec's is not to count. Hooks that run in the host's namespaces are run here, unless `reached` does it.

    Raises RuntimeFault, with nothing left behind.
    """
    root = [(mount.type, mount.source, mount.target, mount.options) for mount in mounts]
    wishes = wishes or Wishes()
    order = ("container", name, bundle, root, stdio.window, seccomp_cache, cgroup, *_wished(wishes))
    if reached is None:

        def reached(stage: str, pid: int) -> None:
            run_hooks(bundle, name, ("prestart", "createRuntime"), status="creating", pid=pid)

    descriptors = [*stdio.descriptors, *_extra(wishes)]
    return Built(builder.build(order, descriptors, meanwhile=meanwhile, reached=reached))


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
    wishes: Wishes | None = None,
    cgroup: str = "",
) -> Built:
    """A process beside the init, whose pidfd and pid are `init`. `process` is JSON. Raises RuntimeFault."""
    wishes = wishes or Wishes()
    order = ("exec", name, bundle, process, init[1], stdio.window, seccomp_cache, cgroup, *_wished(wishes))
    descriptors = [init[0], root_fd, *stdio.descriptors, *_extra(wishes)]
    return Built(builder.build(order, descriptors, meanwhile=lambda: None))


def _wished(wishes: Wishes) -> tuple[object, ...]:
    return wishes.gate >= 0, len(wishes.preserved), wishes.pivot, wishes.oom_score, wishes.no_new_keyring


def _extra(wishes: Wishes) -> list[int]:
    return [*((wishes.gate,) if wishes.gate >= 0 else ()), *wishes.preserved]


def _take_wishes(wished: tuple[Any, ...], descriptors: list[int]) -> Wishes:
    """The wishes again, their descriptors taken from the end of `descriptors`."""
    has_gate, preserved, pivot, oom_score, no_new_keyring = wished
    first = len(descriptors) - preserved
    kept = tuple(descriptors[first:])
    del descriptors[first:]
    gate = descriptors.pop() if has_gate else -1
    return Wishes(gate=gate, preserved=kept, pivot=pivot, oom_score=oom_score, no_new_keyring=no_new_keyring)


def run_hooks(bundle: str, id: str, stages: tuple[str, ...], *, status: str, pid: int = 0) -> None:
    """Run hooks in the host's namespaces, in a child: the spec is read for them and forgotten. Raises RuntimeFault."""
    ours, theirs = sockets.pair()
    child = os.fork()
    if child == 0:
        try:
            signal.set_wakeup_fd(-1)
            document = spec.read(bundle)
            state = hooks.encode(hooks.state(document, id=id, bundle=bundle, status=status, pid=pid))
            for stage, hook in hooks.of(document, *stages):
                hooks.run(stage, hook, state)
        except BaseException as error:
            spawned.report(theirs, ("hook", ""), error)
        finally:
            os._exit(0)
    theirs.close()
    try:
        Spawned(ours).hear_out()
    finally:
        ours.close()
        os.waitpid(child, 0)


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
            job = _container_job(channel, descriptors, network_fd, name, *order)
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
    name: str,
    bundle: str,
    root: list[tuple[str, str, str, list[str]]],
    window: tuple[int, int] | None,
    seccomp_cache: str,
    cgroup_path: str,
    *wished: object,
) -> Job:
    document = spec.read(bundle)
    wishes = _take_wishes(wished, descriptors)
    path = cgroup_path or spec.cgroup_path(document)
    user = user_namespace(document)
    mounts = [Mount(*mount) for mount in root] or [Mount("bind", spec.root_directory(document, bundle), "", ["rbind"])]
    root_fd = prepare_root(mounts, spec=document, user_namespace=user)
    cgroup = open_cgroup(path)
    cgroup.create(spec.linux(document).get("resources") or {})
    traits = [_OWN_PIDS] if spec.has_own_pids(document) else []
    if document.get("hooks"):
        traits.append(_HOOKS)
    spawned.tell_place(channel, f"{','.join(traits)}:{path}", root_fd)
    return plan_container(
        document,
        id=name,
        bundle=bundle,
        root_fd=root_fd,
        user=user,
        stdio=Stdio(*descriptors) if window is None else Stdio.terminal(*window),
        cgroup=cgroup,
        seccomp_cache=seccomp_cache,
        wishes=wishes,
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
    cgroup_path: str,
    *wished: object,
) -> Job:
    document = spec.read(bundle)
    beside = spec.parse(process, "process spec", name)
    schema.check_process(beside)
    wishes = _take_wishes(wished, descriptors)
    init_pidfd, root_fd, *streams = descriptors
    return plan_beside(
        document,
        beside,
        init_pidfd=init_pidfd,
        init_pid=init_pid,
        root_fd=root_fd,
        stdio=Stdio(*streams) if window is None else Stdio.terminal(*window),
        cgroup=open_cgroup(cgroup_path or spec.cgroup_path(document)),
        seccomp_cache=seccomp_cache,
        wishes=wishes,
    )


def _undo(made: Spawned) -> None:
    """The process failed after it had told its place: the cgroup it made goes."""
    built = Built(made)
    if built.root_fd >= 0:
        os.close(built.root_fd)
    if built.cgroup_path:
        cgroup = open_cgroup(built.cgroup_path)
        cgroup.kill()
        cgroup.remove()
