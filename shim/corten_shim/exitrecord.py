"""The exit record: how a container ended, on disk before anybody is told.

Owns the file's form and that it is whole or absent. When it is written is decided in `container`.
"""

from __future__ import annotations

import json
import os


class Exit:
    """How a process ended. `code` is 0..255, 128+signal where a signal ended it; times are ns since the epoch."""

    __slots__ = ("code", "error", "exited_at_ns", "oom", "signal", "started_at_ns")

    def __init__(
        self, code: int, *, signal: int, oom: bool, started_at_ns: int, exited_at_ns: int, error: str = ""
    ) -> None:
        self.code = code
        self.signal = signal
        self.oom = oom
        self.started_at_ns = started_at_ns
        self.exited_at_ns = exited_at_ns
        self.error = error

    @property
    def reason(self) -> str:
        """Why, in a word: "oom" (the kernel's OOM killer), "start-failed" (it never ran), else empty."""
        if self.error:
            return "start-failed"
        return "oom" if self.oom and self.code == 137 else ""

    def record(self, *, log_lost_bytes: int) -> dict[str, int | bool | str]:
        """The record's document. `log_lost_bytes`: output that the log could not take."""
        return {
            "exit_code": self.code,
            "signal": self.signal,
            "oom": self.oom,
            "reason": self.reason,
            "started_at_ns": self.started_at_ns,
            "exited_at_ns": self.exited_at_ns,
            "error": self.error,
            "log_lost_bytes": log_lost_bytes,
        }


def write(path: str, document: dict[str, int | bool | str], *, durable: bool) -> None:
    """Put `document` at `path` in one step; `durable`: it is there after a power loss too. Raises OSError."""
    directory, _, _name = path.rpartition("/")
    unfinished = path + ".new"
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, json.dumps(document).encode() + b"\n")
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(unfinished, path)
    if durable:
        fd = os.open(directory or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
