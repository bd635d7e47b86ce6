"""A command on a terminal of its own, as a user would sit at it.

Owns the pseudo-terminal: what is typed, what is shown, its size. Asserts nothing.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any


class Terminal:
    """`argv` with stdin, stdout and stderr on a terminal of `columns` by `rows`."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], columns: int = 80, rows: int = 24) -> None:
        self._master, slave = pty.openpty()
        self._slave = slave
        self.resize(columns, rows)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=dict(env),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,  # noqa: PLW1509
        )
        self.shown = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._master)
        os.close(self._slave)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def resize(self, columns: int, rows: int) -> None:
        """The kernel tells the foreground process by SIGWINCH, as a window manager's resize does."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, text: bytes, *, seconds: float = 20) -> bytes:
        """Everything shown so far, once `text` is among it. Raises TimeoutError with what is there instead."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise TimeoutError(f"{text!r} was not shown: {self.shown!r}")
        return self.shown

    def wait(self, *, seconds: float = 20) -> int:
        """The exit status, once it has ended; what it shows until then is kept."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"it still runs: {self.shown!r}")
            self._read(0.05)
        while self._read(0):
            pass
        return self.process.returncode

    def settings(self) -> list[Any]:
        """The terminal's modes now."""
        return termios.tcgetattr(self._slave)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], seconds)
        if ready:
            self.shown += os.read(self._master, 65536)
        return bool(ready)
