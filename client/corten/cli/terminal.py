"""The user's terminal: its size, and raw mode that is always left again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

STDIN, STDOUT, STDERR = 0, 1, 2


def is_terminal(fd: int) -> bool:
    """Whether `fd` is a terminal; a closed one is none."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


def size() -> tuple[int, int] | None:
    """Columns and rows of the terminal, None where there is none."""
    for fd in (STDOUT, STDIN, STDERR):
        try:
            columns, rows = os.get_terminal_size(fd)
        except OSError:
            continue
        if columns and rows:
            return columns, rows
    return None


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Bytes pass as they are typed, ctrl-c among them; afterwards the terminal is as it was."""
    if not is_terminal(fd):
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
