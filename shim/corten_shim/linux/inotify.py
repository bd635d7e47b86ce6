"""Changes in a directory, as a descriptor that becomes readable (inotify(7)).

Owns the watch of one directory. Which file changed is not told: the caller looks.
"""

from __future__ import annotations

import ctypes
import os

from corten_shim.linux.libc import check, prototype

_IN_MODIFY = 0x2
_IN_MOVED_FROM = 0x40
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_DELETE_SELF = 0x400
_IN_ONLYDIR = 0x1000000
_EVENTS = _IN_MODIFY | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE_SELF | _IN_ONLYDIR

_inotify_init1 = prototype("inotify_init1", ctypes.c_int)
_inotify_add_watch = prototype("inotify_add_watch", ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class DirectoryWatch:
    """Readable when a file in `path` was written, made or renamed since the last `drain`. Close it."""

    def __init__(self, path: str) -> None:
        self._descriptor = check(_inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1", path)
        try:
            check(_inotify_add_watch(self._descriptor, os.fsencode(path), _EVENTS), "inotify_add_watch", path)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self._descriptor

    def drain(self) -> bool:
        """Take what was told; whether anything was."""
        told = False
        while True:
            try:
                told = bool(os.read(self._descriptor, 65536)) or told
            except BlockingIOError:
                return told

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
