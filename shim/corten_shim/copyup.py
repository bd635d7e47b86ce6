"""Copying what a directory of an image holds into the tmpfs that will cover it (the mount option "tmpcopyup").

Owns the copy: by descriptors, so that no link leads out of either side; with modes, owners, times, extended attributes
and hard links; devices, pipes and sockets included. What does not fit is an error of the mount.
"""

from __future__ import annotations

import errno
import os
import stat

from corten_shim.linux import fd

_CHUNK = 1 << 20


def copy(source: int, target: int) -> None:
    """Copy the content of directory `source` into directory `target` (descriptors, O_PATH will do). Raises OSError."""
    from_, to = _reopen(source), _reopen(target)
    try:
        _Copy(to).directory(from_, to, "")
        _attributes(from_, to)
    finally:
        os.close(from_)
        os.close(to)


def _reopen(directory: int) -> int:
    return fd.open_in_root(directory, ".", os.O_RDONLY | os.O_DIRECTORY)


class _Copy:
    """One copy, into what nobody else sees yet: `_linked` has the first name below it of each file with several."""

    __slots__ = ("_linked", "_top")

    def __init__(self, top: int) -> None:
        self._top = top
        self._linked: dict[tuple[int, int], str] = {}

    def directory(self, source: int, target: int, path: str) -> None:
        for name in os.listdir(source):
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(name, 0o700, dir_fd=target)
                below = _open(name, source, os.O_DIRECTORY), _open(name, target, os.O_DIRECTORY)
                try:
                    self.directory(*below, f"{path}{name}/")
                    _attributes(*below)
                finally:
                    os.close(below[0])
                    os.close(below[1])
                continue
            first = self._linked.get((status.st_dev, status.st_ino))
            if first is not None:
                os.link(first, name, src_dir_fd=self._top, dst_dir_fd=target, follow_symlinks=False)
                continue
            _copy_one(name, status, source, target)
            if status.st_nlink > 1:
                self._linked[status.st_dev, status.st_ino] = path + name


def _copy_one(name: str, status: os.stat_result, source: int, target: int) -> None:
    if stat.S_ISREG(status.st_mode):
        _file(name, source, target)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)


def _open(name: str, directory: int, flags: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, dir_fd=directory)


def _file(name: str, source: int, target: int) -> None:
    reading = _open(name, source, 0)
    try:
        writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            while data := os.read(reading, _CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(writing, view) :]
            _attributes(reading, writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _attributes(source: int, target: int) -> None:
    """Owner before mode: changing it clears the setuid bit."""
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno != errno.ENOTSUP:  # tmpfs does not hold all that others do
                raise
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
