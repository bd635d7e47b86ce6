"""Signals of a foreground command: forwarded to the container's process, resizes to its terminal.

Owns the handlers while a process is attached. A handler only notes the signal; a thread of its own acts on it, so that
nothing is called while the main thread holds a lock.
"""

from __future__ import annotations

import os
import signal
import threading
from _queue import SimpleQueue
from collections.abc import Callable
from types import FrameType, TracebackType

_KEPT = {
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGURG,
    signal.SIGWINCH,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGILL,
    signal.SIGFPE,
    signal.SIGABRT,
    signal.SIGTRAP,
    signal.SIGSYS,
}
_IMPATIENT = 3  # interrupts after which the command ends by itself


class Forwarding:
    """While it is entered, signals go to `forward` by name, and resizes to `resized`."""

    def __init__(
        self, *, forward: Callable[[str], None] | None, resized: Callable[[], None] | None, give_up: Callable[[], None]
    ) -> None:
        self._forward = forward
        self._resized = resized
        self._give_up = give_up
        self._noted: SimpleQueue[int] = SimpleQueue()
        self._before: dict[int, object] = {}
        self._interrupts = 0

    def __enter__(self) -> Forwarding:
        if self._forward is not None:
            for number in signal.valid_signals() - _KEPT:
                if int(number) < signal.SIGRTMIN:
                    self._take(number)
        if self._resized is not None:
            self._take(signal.SIGWINCH)
        threading.Thread(target=self._act, name="corten-signals", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._noted.put(0)

    def _take(self, number: int) -> None:
        self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted.put(number)
        if number in (signal.SIGINT, signal.SIGTERM):
            self._interrupts += 1
            if self._interrupts >= _IMPATIENT:
                self._give_up()
                os.write(2, b"corten: got 3 interrupts, leaving the container as it is\n")
                os._exit(128 + number)

    def _act(self) -> None:
        while number := self._noted.get():
            if number == signal.SIGWINCH:
                if self._resized is not None:
                    self._resized()
            elif self._forward is not None:
                self._forward(signal.Signals(number).name)
