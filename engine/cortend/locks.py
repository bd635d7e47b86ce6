"""One engine per directory: a lock on a file that says who holds it.

Owns the two lock files. The kernel lets go of them when the engine ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from corten_api.errors import FailedPrecondition, PermissionDenied

NAME = "engine.lock"


class DirectoryLock:
    """Held from construction to `close`."""

    def __init__(self, directory: Path, *, kind: str) -> None:
        """Makes the directory (0700). Raises FailedPrecondition naming the process that has it locked."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            detail = error.strerror or "it cannot be made"
            raise PermissionDenied(f"{kind} directory", str(directory), detail) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            detail = f"another engine uses it (process {holder}); stop that one or choose another directory"
            raise FailedPrecondition(f"{kind} directory", str(directory), detail) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
