"""The shim's event loop: descriptors, timers, and nothing else.

Owns one epoll descriptor and the list of timers. Callbacks run one after the other in the shim's only thread; one that
raises an OSError or anything else ends the shim, so each handles what it expects.
"""

from __future__ import annotations

import select
import time

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
ERROR, HANGUP = select.EPOLLERR, select.EPOLLHUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """A call in the future; `cancel` may come at any time, more than once."""

    __slots__ = ("callback", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], None] | None) -> None:
        self.deadline = deadline
        self.callback = callback

    def cancel(self) -> None:
        self.callback = None


class Reactor:
    """`run` until `stop`."""

    __slots__ = ("_epoll", "_handlers", "_stopped", "_timers")

    def __init__(self) -> None:
        self._epoll = select.epoll(select.EPOLL_CLOEXEC)
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[Timer] = []
        self._stopped = False

    def add(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler(events)` whenever `fd` is ready. ERROR and HANGUP are always told."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget `fd`, before it is closed; fine for one that is not known."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(time.monotonic() + seconds, callback)
        self._timers.append(timer)
        return timer

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        self._epoll.close()

    def run(self) -> None:
        """Serve until `stop` is called."""
        while not self._stopped:
            for fd, events in self._epoll.poll(self._timeout()):
                handler = self._handlers.get(fd)
                if handler is not None:  # a handler before it in this round may have removed it
                    handler(events)
            if self._timers:
                self._run_timers()

    def _timeout(self) -> float | None:
        self._timers = [timer for timer in self._timers if timer.callback is not None]
        if not self._timers:
            return None
        return max(0.0, min(timer.deadline for timer in self._timers) - time.monotonic())

    def _run_timers(self) -> None:
        now = time.monotonic()
        for timer in list(self._timers):
            callback = timer.callback
            if callback is not None and timer.deadline <= now:
                timer.callback = None
                callback()
