"""The zygote: imports everything once and keeps one fork ahead of the daemon's requests.

Owns the forking. The daemon's control socket (unix seqpacket, one descriptor with each request) is read by the spare, a
child that waits to become a shim: a request finds a process that is there already, and the zygote writes to no page it
shares with its shims. The spare tells the zygote to fork the next, and serves the descriptor, which is its first
connection; nothing comes back on the control socket. The zygote and its spare end when the daemon closes the socket;
shims live on.

    daemon --spawn NUL id NUL bundle + fd--> spare, from now on the shim
                                             └── one byte ──> zygote --fork--> the next spare
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import signal
import time

from corten_shim import placement, pools, server
from corten_shim.builder import Builder
from corten_shim.linux import const, libc, sockets
from corten_shim.linux.pages import PageNote
from corten_shim.linux.process import set_name
from corten_shim.linux.sockets import Socket
from corten_shim.rehearsal import rehearse
from corten_shim.tasks import Tasks

REQUEST_LIMIT = 64 << 10
ASKED, OVER = b"1", b"0"  # what a spare tells: it has a request; the daemon closed the socket
RETRY_SECONDS = 0.1
SIGCHLD = int(signal.SIGCHLD)


class BadRequest(Exception):
    """What is wrong with the request, as a sentence."""


def main(control_fd: int, cgroup_parent: str, spare_fd: int, state: str) -> None:
    """Serve spawn requests until the daemon closes the socket.

    `spare_fd` is the interpreter's, no longer needed; `state` the daemon's state directory, to rehearse in.
    """
    os.close(spare_fd)
    control = Socket(fileno=control_fd)
    os.set_inheritable(control_fd, False)
    set_name("corten-zygote")
    libc.prctl(const.PR_SET_DUMPABLE, 0)
    os.chdir("/")
    os.umask(0o022)
    placement.protect_from_oom_killer()
    placement.join(cgroup_parent)
    tasks = Tasks()
    rehearse(state, tasks)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # for the shims: nothing but their container's end ends them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps what nobody here waits for
    zygote = os.getpid()
    gc.collect()
    pools.fill()
    shim_pages, builder_pages = PageNote(), PageNote()
    gc.freeze()
    gc.disable()
    control.send(b"ready\0%d" % zygote)
    while True:
        told, tell = os.pipe2(os.O_CLOEXEC)
        spare = os.fork()
        if spare == 0:
            be_spare(control, tell, tasks, zygote, shim_pages, builder_pages)
        os.close(tell)
        word = os.read(told, 1)
        os.close(told)
        if word == OVER:
            await_end(spare)
            return
        if word != ASKED:
            time.sleep(RETRY_SECONDS)  # the spare died, and the next may as well


def await_end(child: int) -> None:
    """Return when `child` is gone; its status went with it."""
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        return


def be_spare(
    control: Socket, tell: int, tasks: Tasks, zygote: int, shim_pages: PageNote, builder_pages: PageNote
) -> None:
    """In the forked child: wait for a request, then be its shim. Never returns."""
    try:
        # Until there is a container to own, end with the zygote: the daemon sees by the socket's end that it is gone.
        libc.die_with_parent(9)
        if os.getppid() != zygote:
            os._exit(0)
        close_others(control.fileno(), tell)
        os.setsid()
        set_name("corten-spare")
        libc.become_subreaper()
        _signal.signal(SIGCHLD, child_ended)  # `signal` would make enums of it, in memory of this shim's own
        builder = Builder(builder_pages, network=True)
        shim_pages.copy_ahead()
        message, fds, truncated = sockets.receive(control, REQUEST_LIMIT, 8)
        over = not message and not fds
        libc.die_with_parent(0)
        if over:
            builder.release()
        os.write(tell, OVER if over else ASKED)
        os.close(tell)
        if not over:
            control.close()
            tasks.make_ready(builder, builder_pages, started=shim_pages.take)
            become_shim(message, fds, tasks, truncated=truncated)
    finally:
        os._exit(1)


def child_ended(number: int, frame: object) -> None:
    """Only heard, so that the wakeup descriptor tells the shim's loop."""


def become_shim(message: bytes, fds: list[int], tasks: Tasks, *, truncated: bool) -> None:
    """Be the shim that is asked for. Never returns."""
    status = 1
    bundle = ""
    try:
        if truncated:
            raise BadRequest(f"the request is longer than {REQUEST_LIMIT} bytes")
        container_id, bundle = parse(message)
        if not container_id:
            raise BadRequest("the id is empty")
        if len(fds) != 1:
            raise BadRequest(f"{len(fds)} descriptors came with the request; one is needed, the first connection")
        set_name("corten-shim")
        first = Socket(fileno=fds[0])
        server.main(container_id, bundle, first, tasks)
        status = 0
    except BaseException as error:
        tell_death(bundle, error)
    finally:
        os._exit(status)


def parse(message: bytes) -> tuple[str, str]:
    """(id, bundle) of a spawn request. Raises BadRequest."""
    try:
        operation, *words = message.decode().split("\0")
    except UnicodeDecodeError:
        raise BadRequest("the request is not UTF-8") from None
    if operation != "spawn":
        raise BadRequest(f'the operation {operation[:80]!r} is not known; "spawn" is')
    if len(words) != 2:
        raise BadRequest(f"{len(words)} words came with it; an id and a bundle are needed")
    container_id, bundle = words
    if not bundle.startswith("/") or not os.path.isdir(bundle):
        raise BadRequest(f"the bundle {bundle[:4096]!r} is not the absolute path of a directory")
    return container_id, bundle


def close_others(*keep: int) -> None:
    """Nothing of the zygote's stays open; standard streams lead nowhere."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    first = 3
    for fd in (*sorted(keep), os.sysconf("SC_OPEN_MAX")):
        os.closerange(first, fd)
        first = fd + 1


def tell_death(bundle: str, error: BaseException) -> None:
    """Leave in the bundle, where one was named, why there is no shim (any more)."""
    if not bundle:
        return
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f" ({where.tb_frame.f_code.co_filename}:{where.tb_lineno})" if where is not None else ""
    text = str(error) if isinstance(error, BadRequest) else f"{type(error).__name__}: {error}{place}"
    fd = os.open(f"{bundle}/shim.error", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(fd, text[:1000].encode("utf-8", "replace") + b"\n")
    os.close(fd)
