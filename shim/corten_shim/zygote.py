"""The zygote: imports everything once and keeps one fork ahead of the daemon's requests.

Owns the forking. The daemon's control socket (unix seqpacket, one descriptor with each request) is read by the spare, a
child that waits to become a shim: a request finds a process that is there already, and the zygote writes to no page it
shares with its shims. The spare answers, also where the answer is an error, and tells the zygote to fork the next. The
zygote and its spare end when the daemon closes the socket; shims live on.

    daemon --spawn NUL id NUL bundle + fd--> spare, from now on the shim --id NUL "pid" NUL number--> daemon
                                             └── one byte ──> zygote --fork--> the next spare
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import time

from corten_shim import placement, pools, server
from corten_shim.linux import const, libc
from corten_shim.rehearsal import rehearse
from corten_shim.tasks import Tasks

REQUEST_LIMIT = 64 << 10
ASKED, OVER = b"1", b"0"  # what a spare tells: it has a request; the daemon closed the socket
RETRY_SECONDS = 0.1


class BadRequest(Exception):
    """What is wrong with the request, as a sentence."""


def main(control_fd: int, cgroup_parent: str, spare_fd: int, state: str) -> None:
    """Serve spawn requests until the daemon closes the socket.

    `spare_fd` is the interpreter's, no longer needed; `state` the daemon's state directory, to rehearse in.
    """
    os.close(spare_fd)
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
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
    gc.freeze()
    gc.disable()
    told, tell = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        be_spare(control, tell, tasks, zygote)
    control.send(b"ready\0%d" % zygote)
    while True:
        os.close(tell)
        word = os.read(told, 1)
        os.close(told)
        if word == OVER:
            return
        if word != ASKED:
            time.sleep(RETRY_SECONDS)  # the spare died, and the next may as well
        told, tell = os.pipe2(os.O_CLOEXEC)
        if os.fork() == 0:
            be_spare(control, tell, tasks, zygote)


def be_spare(control: socket.socket, tell: int, tasks: Tasks, zygote: int) -> None:
    """In the forked child: wait for a request, then be its shim. Never returns."""
    try:
        # Until there is a container to own, end with the zygote: the daemon sees by the socket's end that it is gone.
        libc.prctl(const.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != zygote:
            os._exit(0)
        close_others(control.fileno(), tell)
        os.setsid()
        set_name("corten-spare")
        libc.become_subreaper()
        signal.signal(signal.SIGCHLD, child_ended)
        message, fds, flags, _address = socket.recv_fds(control, REQUEST_LIMIT, 8)
        over = not message and not fds
        libc.prctl(const.PR_SET_PDEATHSIG, 0)
        os.write(tell, OVER if over else ASKED)
        os.close(tell)
        if not over:
            become_shim(control, message, fds, tasks, truncated=bool(flags & socket.MSG_TRUNC))
    finally:
        os._exit(1)


def child_ended(number: int, frame: object) -> None:
    """Only heard, so that the wakeup descriptor tells the shim's loop."""


def become_shim(control: socket.socket, message: bytes, fds: list[int], tasks: Tasks, *, truncated: bool) -> None:
    """Answer the request and, unless it is wrong, be the shim. Never returns."""
    answer = Answer(control)
    status = 1
    bundle = ""
    try:
        for fd in fds:
            os.set_inheritable(fd, False)
        if truncated:
            raise BadRequest(f"the request is longer than {REQUEST_LIMIT} bytes")
        answer.container_id, bundle = parse(message)
        if len(fds) != 1:
            raise BadRequest(f"{len(fds)} descriptors came with the request; one is needed, the first connection")
        set_name("corten-shim")
        first = socket.socket(fileno=fds[0])
        server.main(answer.container_id, bundle, first, tasks, lambda: answer.send("pid", str(os.getpid())))
        status = 0
    except BadRequest as error:
        answer.send("error", str(error))
    except BaseException as error:
        tell_death(bundle, answer, error)
    finally:
        os._exit(status)


class Answer:
    """The daemon's answer, sent once; then the zygote's socket is no longer ours."""

    __slots__ = ("_control", "container_id")

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self.container_id = ""

    def send(self, kind: str, text: str) -> None:
        if self._control.fileno() >= 0:
            self._control.send("\0".join((self.container_id, kind, text)).encode("utf-8", "replace"))
            self._control.close()


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
    if not container_id:
        raise BadRequest("the id is empty")
    if not bundle.startswith("/") or not os.path.isdir(bundle):
        raise BadRequest(f"the bundle {bundle[:4096]!r} is not the absolute path of a directory")
    return container_id, bundle


def set_name(name: str) -> None:
    """What ps shows as the command."""
    fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, name.encode())
    os.close(fd)


def close_others(*keep: int) -> None:
    """Nothing of the zygote's stays open; standard streams lead nowhere."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    first = 3
    for fd in (*sorted(keep), os.sysconf("SC_OPEN_MAX")):
        os.closerange(first, fd)
        first = fd + 1


def tell_death(bundle: str, answer: Answer, error: BaseException) -> None:
    """Say why there is no shim: to the daemon while it still listens, and in the bundle."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f" ({where.tb_frame.f_code.co_filename}:{where.tb_lineno})" if where is not None else ""
    text = f"{type(error).__name__}: {error}{place}"[:1000]
    answer.send("error", text)
    fd = os.open(f"{bundle}/shim.error", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(fd, text.encode("utf-8", "replace") + b"\n")
