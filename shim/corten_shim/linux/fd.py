"""Descriptors: opening below a root that nobody can leave, closing what is left over, checking what one stands for."""

from __future__ import annotations

import errno
import os
import stat

from corten_shim.linux import const
from corten_shim.linux.libc import OpenHow, by_reference, fstatfs_type, size_of, system_call

_MAX_LINKS = 40  # as the kernel
_IN_ROOT = const.RESOLVE_IN_ROOT | const.RESOLVE_NO_MAGICLINKS


def open_in_root(root: int, path: str, flags: int, *, mode: int = 0, resolve: int = _IN_ROOT) -> int:
    """Open `path` as if `root` were "/": neither "..", nor an absolute or a magic link leads out (openat2(2))."""
    relative = path.lstrip("/") or "."
    how = OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        try:
            return system_call("openat2", root, os.fsencode(relative), by_reference(how), size_of(how), about=path)
        except OSError as error:
            # A rename anywhere made the walk uncertain (openat2(2), EAGAIN): walk again.
            if error.errno != errno.EAGAIN:
                raise


def make_directories(root: int, path: str, mode: int = 0o755) -> int:
    """Descriptor (O_PATH) of directory `path` below `root`; what is missing of it is made, one step at a time.

    Symlinks are followed inside `root`; where one dangles, what it names is made.
    """
    try:
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        pass  # the rest is for that
    current = os.dup(root)
    walked = ""
    links = 0
    parts = _parts(path)
    try:
        while parts:
            part = parts.pop(0)
            try:
                following = open_in_root(root, f"{walked}/{part}", os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:
                link = _link(part, current)
                if link is None:
                    os.mkdir(part, mode, dir_fd=current)
                    following = open_in_root(root, f"{walked}/{part}", os.O_PATH | os.O_DIRECTORY)
                else:
                    links = _count_link(links, path)
                    parts[:0] = _parts(link)
                    if not link.startswith("/"):
                        continue
                    walked, part, following = "", "", os.dup(root)
            os.close(current)
            current = following
            walked = f"{walked}/{part}" if part else ""
    except BaseException:
        os.close(current)
        raise
    return current


def make_file(root: int, path: str) -> int:
    """Descriptor (O_PATH) of file `path` below `root`; made empty where there is none. Symlinks as above."""
    links = 0
    while True:
        try:
            return open_in_root(root, path, os.O_PATH)
        except FileNotFoundError:
            parent, _, name = path.rstrip("/").rpartition("/")
        directory = make_directories(root, parent)
        try:
            link = _link(name, directory)
            if link is None:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=directory))
        finally:
            os.close(directory)
        if link is not None:
            links = _count_link(links, path)
            path = link if link.startswith("/") else f"{parent}/{link}"


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _link(name: str, directory: int) -> str | None:
    """Where symlink `name` leads; None for what is none, or nothing."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def _count_link(links: int, path: str) -> int:
    if links >= _MAX_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return links + 1


def read_regular(root: int, path: str, limit: int) -> bytes:
    """The content of regular file `path` below `root`. A missing one raises; a device or a FIFO is refused unopened.

    Raises OSError: EFBIG past `limit` bytes, EINVAL for what is no regular file.
    """
    place = open_in_root(root, path, os.O_PATH)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(place)
    try:
        pieces = []
        left = limit + 1
        while left > 0 and (piece := os.read(fd, min(left, 1 << 20))):
            pieces.append(piece)
            left -= len(piece)
    finally:
        os.close(fd)
    if left <= 0:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", path)
    return b"".join(pieces)


def require_filesystem(fd: int, magic: int, name: str) -> None:
    """Raises OSError (EXDEV) unless `fd` lies on a filesystem with that magic number."""
    if fstatfs_type(fd) != magic:
        raise OSError(errno.EXDEV, "not the filesystem that belongs there", name)


def close_all_but(kept: tuple[int, ...]) -> None:
    """Close every descriptor from 3 on that is not among `kept` (close_range(2))."""
    first = 3
    for descriptor in (*sorted(each for each in set(kept) if each >= first), 0xFFFFFFFF):
        if descriptor > first:
            system_call("close_range", first, descriptor - 1, 0)
        first = descriptor + 1


def close_on_exec_from(first: int) -> None:
    """Every descriptor from `first` on is closed by the next exec (close_range(2))."""
    system_call("close_range", first, 0xFFFFFFFF, const.CLOSE_RANGE_CLOEXEC)
