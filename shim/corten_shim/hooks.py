"""OCI hooks: programs of the bundle's author that are run at fixed points of a container's life.

Owns running one: its state on stdin, its time limit, what of its output an error tells. When which are run, and what a
failure means, is for those who run them; `STAGES` are their names in the order they come.
Source: runtime-spec config.md "POSIX-platform Hooks", runtime.md "Lifecycle".
"""

from __future__ import annotations

import json
import os
import select
import signal
import time

from corten_shim.linux.errors import INTERNAL, RuntimeFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
OUTPUT = 2048  # bytes of what a failing hook said


def of(spec: dict[str, Any], *stages: str) -> list[tuple[str, dict[str, Any]]]:
    """(stage, hook) of the spec's hooks of these stages, in order."""
    listed = spec.get("hooks") or {}
    return [(stage, hook) for stage in stages for hook in listed.get(stage) or ()]


def state(spec: dict[str, Any], *, id: str, bundle: str, status: str, pid: int = 0) -> dict[str, Any]:
    """The state of the container as hooks are told it (runtime-spec runtime.md "State")."""
    document: dict[str, Any] = {"ociVersion": spec["ociVersion"], "id": id, "status": status, "bundle": bundle}
    if pid:
        document["pid"] = pid
    if spec.get("annotations"):
        document["annotations"] = spec["annotations"]
    return document


def encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def run(stage: str, hook: dict[str, Any], state: bytes) -> None:
    """Run a hook to its end. Raises RuntimeFault where it cannot be run, fails, or takes longer than it may."""
    path = hook["path"]
    timeout = hook.get("timeout")
    stdin, feed = os.pipe2(os.O_CLOEXEC)
    hear, output = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _become(hook, stdin, output)
    os.close(stdin)
    os.close(output)
    try:
        said, status = _attend(child, feed, hear, state, timeout)
    finally:
        os.close(hear)
    if status is None:
        raise RuntimeFault(INTERNAL, "hook", path, f"the {stage} hook took longer than {timeout} s")
    code = os.waitstatus_to_exitcode(status)
    if code:
        end = f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"
        words = said.decode("utf-8", "replace").strip()
        raise RuntimeFault(INTERNAL, "hook", path, f"the {stage} hook {end}{': ' if words else ''}{words}")


def _become(hook: dict[str, Any], stdin: int, output: int) -> NoReturn:
    try:
        os.setsid()
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.closerange(3, 65536)
        environment = dict(entry.partition("=")[::2] for entry in hook.get("env") or ())
        os.execve(hook["path"], hook.get("args") or [hook["path"]], environment)
    except OSError as error:
        os.write(2, os.strerror(error.errno or 0).encode())
    finally:
        os._exit(127)


def _attend(child: int, feed: int, hear: int, state: bytes, timeout: int | None) -> tuple[bytes, int | None]:
    """What the child said, and its status; None where it was killed for taking too long.

    The pipe may be held open by what the hook left running: its own end counts.
    """
    deadline = time.monotonic() + timeout if timeout is not None else None
    said = b""
    pidfd = os.pidfd_open(child)
    os.set_blocking(feed, False)
    os.set_blocking(hear, False)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(hear, select.POLLIN)
    poll.register(feed, select.POLLOUT)
    try:
        while True:
            wait = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = dict(poll.poll(wait))
            if feed in ready:
                state = _write(feed, state)
                if not state:
                    poll.unregister(feed)
                    os.close(feed)
                    feed = -1
            if hear in ready and not (chunk := _read(hear)) and pidfd not in ready:
                poll.unregister(hear)
            elif hear in ready:
                said = (said + chunk)[-OUTPUT:]
            if pidfd in ready:
                return (said + _read(hear))[-OUTPUT:], os.waitpid(child, 0)[1]
            if not ready and deadline is not None and time.monotonic() >= deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return said, None
    finally:
        os.close(pidfd)
        if feed >= 0:
            os.close(feed)


def _write(fd: int, data: bytes) -> bytes:
    """What is left to write; nothing where nobody reads it."""
    try:
        return data[os.write(fd, data) :]
    except BlockingIOError:
        return data
    except BrokenPipeError:
        return b""


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except BlockingIOError:
        return b""
