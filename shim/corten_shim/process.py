"""One process of the container: the init, or one that was exec'd beside it.

Owns its state, its streams, its exit and who waits for that. How a process is made is the kernel half's (`init`), the
order of things in a container's life is `container`'s.
"""

from __future__ import annotations

import os
import signal

from corten_shim import faults, lifecycle
from corten_shim.builder import Built
from corten_shim.exitrecord import Exit
from corten_shim.spawned import Spawned, Stdio
from corten_shim.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Process:
    """`exec_id` is empty for the init. `pid` is 0 until there is one, and stays after the end."""

    __slots__ = (
        "_waiters",
        "exec_id",
        "exit",
        "name",
        "pid",
        "pidfd",
        "spawned",
        "spec",
        "started_at_ns",
        "state",
        "streams",
        "window",
    )

    def __init__(self, *, name: str, exec_id: str, spec: bytes, streams: Streams) -> None:
        self.name = name
        self.exec_id = exec_id
        self.spec = spec
        self.streams = streams
        self.state = lifecycle.CREATED
        self.spawned: Spawned | None = None
        self.pid = 0
        self.pidfd = -1
        self.window = (0, 0)
        self.started_at_ns = 0
        self.exit: Exit | None = None
        self._waiters: list[tuple[Callable[[Exit], None], Callable[[], bool]]] = []

    @property
    def kind(self) -> str:
        """What an error calls it."""
        return "process" if self.exec_id else "container"

    def move(self, event: str) -> None:
        """Go where `event` leads. Raises RuntimeFault for an illegal move."""
        self.state = lifecycle.after(self.state, event, kind=self.kind, name=self.name)

    def make(self, build: Callable[[Stdio], Built]) -> Built:
        """Make its descriptors and the process itself, which waits before its exec."""
        if self.streams.terminal:
            built = build(Stdio.terminal(*self.window))
            self.streams.adopt_terminal(built.spawned.terminal)
        else:
            theirs = self.streams.open_pipes()
            try:
                built = build(Stdio(*theirs))
            finally:
                for fd in theirs:
                    os.close(fd)
        self.spawned = built.spawned
        self.pid = built.spawned.pid
        self.pidfd = built.spawned.pidfd
        return built

    def release(self) -> list[str]:
        """Let it exec; returns further warnings. Raises RuntimeFault where it could not."""
        assert self.spawned is not None
        known = len(self.spawned.warnings)
        try:
            self.spawned.start()
        except OSError as error:  # it died before it was let go
            raise faults.internal(self.kind, self.name, error) from None
        return self.spawned.warnings[known:]

    def wait(self, tell: Callable[[Exit], None], listening: Callable[[], bool]) -> None:
        """Call `tell` with the exit: now if there is one. `listening` answers whether that still matters to anybody."""
        if self.exit is not None:
            tell(self.exit)
            return
        self._waiters = [waiter for waiter in self._waiters if waiter[1]()]
        self._waiters.append((tell, listening))

    def ended(self, end: Exit) -> None:
        """It is dead and its record is written: tell everybody."""
        self.exit = end
        self.move(lifecycle.EXIT)
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self.streams.process_ended()
        waiters, self._waiters = self._waiters, []
        for tell, _listening in waiters:
            tell(end)

    def kill(self, number: int) -> None:
        """Send a signal. Raises RuntimeFault: NOT_FOUND once it has ended or before it exists."""
        if not 1 <= number <= 64:
            raise faults.invalid("signal", str(number), "is not a signal; they are 1 to 64")
        if self.pidfd < 0:
            state = lifecycle.NAMES[self.state]
            raise faults.not_found(self.kind, self.name, f"has no process to signal: it is {state}")
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            raise faults.not_found(self.kind, self.name, "has ended already") from None

    def resize(self, width: int, height: int) -> None:
        """Give its terminal a size; before there is one, it will begin with that."""
        if not self.streams.terminal:
            raise faults.precondition(self.kind, self.name, "has no terminal to resize")
        if not (0 < width < 1 << 16 and 0 < height < 1 << 16):
            raise faults.invalid("terminal size", f"{width}x{height}", "each side is 1 to 65535")
        self.window = (width, height)
        self.streams.resize(width, height)
