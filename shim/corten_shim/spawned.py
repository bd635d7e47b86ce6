"""A process that waits before its exec, as its parent sees it; and what the two say to each other.

    parent                  builder, then the process
      │  "O" + order ──>            what to build
      │  <── "B<place>" + root      where the container is
      │  <── "P<pid>"               the process's pid
      │  <── "T" + terminal         its terminal's other end
      │  <── "W<warning>"           what had to give way
      │  <── "H<stage>"             hooks of the parent's are due
      │  "G" ──>                    they went well
      │  <── "R"                    ready: everything that can fail has not
      │  "S" ──>                    start
      │  <── "W<warning>", "F<fault>", or the end of the conversation: exec closed it

Owns that conversation, over one seqpacket socket pair, on both sides. What the other side does meanwhile is `builder`'s
and `init`'s.
"""

from __future__ import annotations

import os
import signal

from corten_shim.linux import process, sockets
from corten_shim.linux.errors import DEADLINE_EXCEEDED, INTERNAL, RuntimeFault, from_oserror
from corten_shim.linux.sockets import Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READY_SECONDS = 30.0
EXEC_SECONDS = 30.0
MAX_TEXT = 4096


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


class Unheard(Exception):
    """The other side is gone, and never said a word."""


class Spawned:
    """The parent's side.

    `terminal` is the other end of its terminal, or -1; `place` and `root_fd` are what `tell_place` told, else empty
    and -1. The descriptors are the caller's to close.
    """

    __slots__ = ("_channel", "_heard", "_reached", "pid", "pidfd", "place", "root_fd", "terminal", "warnings")

    def __init__(self, channel: Socket, reached: Callable[[str, int], None] | None = None) -> None:
        """`reached` is called with a stage at which hooks are run, and the pid; what it raises ends the process."""
        self._channel = channel
        self._reached = reached
        self._heard = False
        self.pid = 0
        self.pidfd = -1
        self.terminal = -1
        self.place = ""
        self.root_fd = -1
        self.warnings: list[str] = []

    def order(self, descriptors: list[int]) -> None:
        """Tell the builder what to do; the first descriptor holds it, the others belong to it. Raises Unheard."""
        try:
            sockets.send(self._channel, b"O", *descriptors)
        except (BrokenPipeError, ConnectionResetError):
            raise Unheard from None

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

    def hear_out(self) -> None:
        """Return when the other side is done. Raises RuntimeFault for what it reports."""
        while self._receive("end"):
            continue

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
        """Take what is said until the process is ready and its pid known. Raises RuntimeFault, Unheard."""
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
            elif kind == b"H":
                if self._reached is not None:
                    self._reached(text.decode(), self.pid)
                self._channel.send(b"G")
                self._channel.settimeout(READY_SECONDS)
            elif kind == b"B":
                self.place = text.decode("utf-8", "surrogateescape")
            elif not kind:
                if not self._heard:
                    raise Unheard
                raise RuntimeFault(INTERNAL, "process", str(self.pid), "it ended during setup, perhaps out of memory")

    def _receive(self, phase: str) -> bytes:
        try:
            message, fds, _ = sockets.receive(self._channel, 4 * MAX_TEXT, 1)
        except TimeoutError:
            detail = f"its {phase} took longer than {READY_SECONDS:.0f} s"
            raise RuntimeFault(DEADLINE_EXCEEDED, "process", str(self.pid), detail) from None
        except ConnectionResetError:
            message, fds = b"", []
        self._heard = self._heard or bool(message)
        for descriptor in fds:
            if message[:1] == b"B":
                self.root_fd = descriptor
            else:
                self.terminal = descriptor
        if message[:1] == b"F":
            code, kind, name, detail = message[1:].decode("utf-8", "replace").split("\0", 3)
            raise RuntimeFault(int(code), kind, name, detail)
        return message


def tell_place(channel: Socket, place: str, root_fd: int) -> None:
    """Whatever the parent must know of where the container is, and its root."""
    sockets.send(channel, b"B" + place.encode("utf-8", "surrogateescape"), root_fd)


def tell_pid(channel: Socket, pid: int) -> None:
    channel.send(b"P%d" % pid)


def tell_terminal(channel: Socket, master: int) -> None:
    sockets.send(channel, b"T", master)


def warn(channel: Socket, text: str) -> None:
    channel.send(b"W" + text.encode("utf-8", "replace")[:MAX_TEXT])


def meet(channel: Socket, stage: str) -> None:
    """Say that `stage` is reached and wait for the parent, which runs its hooks then; ends the process otherwise."""
    channel.send(b"H" + stage.encode())
    if channel.recv(1) != b"G":
        os._exit(0)  # a hook failed, or the parent is gone


def await_start(channel: Socket, gate: int) -> Socket:
    """Say that the process is ready and wait for its start; returns the conversation from then on.

    With `gate`, a listening socket, whoever comes there starts the process, and the parent need not live. Ends the
    process where it is given up.
    """
    channel.send(b"R")
    if gate >= 0:
        listener = Socket(fileno=gate)
        channel.close()
        channel = sockets.accept(listener)
        listener.close()
    if channel.recv(1) != b"S":
        os._exit(0)  # given up, or the parent is gone
    return channel


def report(channel: Socket, subject: tuple[str, str], error: BaseException) -> None:
    """Tell what went wrong; `subject` is the kind and name that an OSError was about."""
    fault = error if isinstance(error, RuntimeFault) else None
    if isinstance(error, OSError):
        fault = from_oserror(*subject, error)
    elif fault is None:
        fault = RuntimeFault(INTERNAL, *subject, f"{type(error).__name__}: {error}")
    fields = (str(fault.code), fault.kind, fault.name[:MAX_TEXT], fault.detail[:MAX_TEXT])
    try:
        channel.send(("F" + "\0".join(field.replace("\0", "?") for field in fields)).encode("utf-8", "replace"))
    except OSError:
        os._exit(126)  # nobody listens any more
