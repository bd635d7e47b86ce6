"""The zygote: imports everything once and forks a shim per request.

Owns the daemon's control socket (unix seqpacket, JSON requests with one descriptor each). It does next to nothing
itself between two forks: what it wrote to would be shared with no shim any more. So the child reads the request and
answers it, also where the answer is an error. The zygote ends when the daemon closes the socket; its shims live on.

    daemon --{"op":"spawn","id":..,"bundle":..} + fd--> zygote --fork--> shim --{"id":..,"pid":N}--> daemon
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket

from corten_shim import placement, server
from corten_shim.linux import const, libc

REQUEST_LIMIT = 64 << 10


class BadRequest(Exception):
    """What is wrong with the request, as a sentence."""


def main(control_fd: int, cgroup_parent: str, spare_fd: int) -> None:
    """Serve spawn requests until the daemon closes the socket. `spare_fd` is the interpreter's, no longer needed."""
    os.close(spare_fd)
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    libc.set_process_name("corten-zygote")
    libc.prctl(const.PR_SET_DUMPABLE, 0)
    os.chdir("/")
    os.umask(0o022)
    placement.protect_from_oom_killer()
    placement.join(cgroup_parent)
    gc.collect()
    gc.freeze()
    gc.disable()
    control.send(json.dumps({"ready": os.getpid()}).encode())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended shims are nobody's zombies
    while True:
        message, fds, flags, _address = socket.recv_fds(control, REQUEST_LIMIT, 8)
        if not message and not fds:
            return
        if os.fork() == 0:
            become_shim(control, message, fds, truncated=bool(flags & socket.MSG_TRUNC))
        for fd in fds:
            os.close(fd)


def become_shim(control: socket.socket, message: bytes, fds: list[int], *, truncated: bool) -> None:
    """In the forked child: answer the request and, unless it is wrong, be the shim. Never returns."""
    answer = Answer(control)
    status = 1
    bundle = ""
    try:
        if truncated:
            raise BadRequest(f"the request is longer than {REQUEST_LIMIT} bytes")
        answer.container_id, bundle = parse(message)
        if len(fds) != 1:
            raise BadRequest(f"{len(fds)} descriptors came with the request; one is needed, the first connection")
        close_others(control.fileno(), fds[0])
        os.setsid()
        libc.set_process_name("corten-shim")
        libc.prctl(const.PR_SET_CHILD_SUBREAPER, 1)
        first = socket.socket(fileno=fds[0])
        server.main(answer.container_id, bundle, first, lambda: answer.send({"pid": os.getpid()}))
        status = 0
    except BadRequest as error:
        answer.send({"error": str(error)})
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

    def send(self, answer: dict[str, object]) -> None:
        if self._control.fileno() >= 0:
            self._control.send(json.dumps({"id": self.container_id, **answer}).encode())
            self._control.close()


def parse(message: bytes) -> tuple[str, str]:
    """(container_id, bundle) of a spawn request. Raises BadRequest."""
    try:
        request = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the request is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise BadRequest("the request is not an object")
    if request.get("op") != "spawn":
        raise BadRequest(f'the operation {str(request.get("op"))[:80]!r} is not known; "spawn" is')
    container_id, bundle = request.get("id"), request.get("bundle")
    if not isinstance(container_id, str) or not container_id:
        raise BadRequest('"id" must be a text')
    if not isinstance(bundle, str) or not bundle.startswith("/"):
        raise BadRequest('"bundle" must be an absolute path')
    if "\0" in bundle or not os.path.isdir(bundle):
        raise BadRequest(f"the bundle {bundle[:4096]!r} is not a directory")
    return container_id, bundle


def close_others(*keep: int) -> None:
    """Nothing of the zygote's stays open; standard streams lead nowhere."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                continue  # the listing's own descriptor


def tell_death(bundle: str, answer: Answer, error: BaseException) -> None:
    """Say why there is no shim: to the daemon while it still listens, and in the bundle."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f" ({where.tb_frame.f_code.co_filename}:{where.tb_lineno})" if where is not None else ""
    text = f"{type(error).__name__}: {error}{place}"[:1000]
    answer.send({"error": text})
    fd = os.open(f"{bundle}/shim.error", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(fd, text.encode("utf-8", "replace") + b"\n")
