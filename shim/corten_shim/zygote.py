"""The zygote: imports everything once and forks a shim per request.

Owns the daemon's control socket (unix seqpacket, JSON requests with one descriptor each) and the double fork. A request
that is wrong gets an error as its answer; the zygote ends when the daemon closes the socket, its shims live on.

    daemon --{"op":"spawn","id":..,"bundle":..} + fd--> zygote --fork--> . --fork--> shim --{"pid":N}--> daemon
"""

from __future__ import annotations

import gc
import json
import os
import socket

from corten_shim import placement, server
from corten_shim.linux import const, libc

REQUEST_LIMIT = 64 << 10
REPLY_LIMIT = 4096


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
    while True:
        message, fds, flags, _address = socket.recv_fds(control, REQUEST_LIMIT, 8)
        if not message and not fds:
            return
        answer = serve(message, fds, truncated=bool(flags & socket.MSG_TRUNC))
        control.send(json.dumps(answer).encode())


def serve(message: bytes, fds: list[int], *, truncated: bool) -> dict[str, object]:
    """Do what one request says; the answer. `fds` are closed here."""
    try:
        if truncated:
            raise BadRequest(f"the request is longer than {REQUEST_LIMIT} bytes")
        container_id, bundle = parse(message)
        if len(fds) != 1:
            raise BadRequest(f"{len(fds)} descriptors came with the request; one is needed, the first connection")
        return spawn(container_id, bundle, fds[0])
    except BadRequest as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"no shim could be made: {error.strerror}"}
    finally:
        for fd in fds:
            os.close(fd)


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


def spawn(container_id: str, bundle: str, first: int) -> dict[str, object]:
    """Fork a shim that belongs to init; the answer comes from the shim itself, once it listens."""
    answer, report = os.pipe2(os.O_CLOEXEC)
    try:
        child = os.fork()
        if child == 0:
            become_shim(container_id, bundle, first, report)
    finally:
        os.close(report)
    try:
        os.waitpid(child, 0)
        told = os.read(answer, REPLY_LIMIT)
    finally:
        os.close(answer)
    if not told:
        return {"error": "the shim died before it listened"}
    reply: dict[str, object] = json.loads(told)
    return reply


def become_shim(container_id: str, bundle: str, first: int, report: int) -> None:
    """In the forked child: leave the zygote behind. Never returns."""
    told = Report(report)
    status = 1
    try:
        if os.fork():
            os._exit(0)
        close_others(first, report)
        os.setsid()
        libc.set_process_name("corten-shim")
        libc.prctl(const.PR_SET_CHILD_SUBREAPER, 1)
        server.main(container_id, bundle, socket.socket(fileno=first), lambda: told.send({"pid": os.getpid()}))
        status = 0
    except BaseException as error:
        tell_death(bundle, told, error)
    finally:
        os._exit(status)


class Report:
    """The pipe on which the daemon's answer goes, once."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, answer: dict[str, object]) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.write(fd, json.dumps(answer).encode())
            os.close(fd)


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


def tell_death(bundle: str, report: Report, error: BaseException) -> None:
    """Say why there is no shim: to the daemon while it still listens, and in the bundle."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f" ({where.tb_frame.f_code.co_filename}:{where.tb_lineno})" if where is not None else ""
    text = f"{type(error).__name__}: {error}{place}"[:1000]
    report.send({"error": text})
    fd = os.open(f"{bundle}/shim.error", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(fd, text.encode("utf-8", "replace") + b"\n")
