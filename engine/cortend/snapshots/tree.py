"""Whole directory trees: measuring, copying and deleting them.

Owns the walking. Symlinks are never followed; every step is relative to an open directory where that matters.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from corten_shim.linux import libc


def disk_usage(root: Path) -> tuple[int, int]:
    """Bytes and inodes below `root` as `du -s` counts them: allocated blocks, hard links once, `root` included."""
    size, inodes = 0, 0
    linked: set[tuple[int, int]] = set()
    for found in _walk(root):
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            identity = (found.st_dev, found.st_ino)
            if identity in linked:
                continue
            linked.add(identity)
        size += found.st_blocks * 512
        inodes += 1
    return size, inodes


def copy_tree(source: Path, target: Path) -> None:
    """Make the existing directory `target` a copy of `source` with its hard links, xattrs, owners and times."""
    linked: dict[tuple[int, int], Path] = {}
    _copy_into(source, target, linked)


def remove_tree(path: Path) -> None:
    """Delete a tree; one that is gone already is fine."""
    shutil.rmtree(path, onerror=_only_gone)


def sync_filesystem(path: Path) -> None:
    """Have everything written so far to the filesystem that holds `path` on its disk."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc.syncfs(directory)
    finally:
        os.close(directory)


def copy_metadata(source: Path, target: Path, found: os.stat_result) -> None:
    """Owner, mode, xattrs and times of `source`, in the order in which none undoes another."""
    os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(target, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)


def _walk(root: Path) -> Iterator[os.stat_result]:
    pending = [os.fspath(root)]
    yield os.lstat(root)
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                try:
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                except FileNotFoundError:
                    continue  # a running container may delete what we walk over


def _copy_into(source: Path, target: Path, linked: dict[tuple[int, int], Path]) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            _copy_one(Path(entry.path), target / entry.name, entry.stat(follow_symlinks=False), linked)
    copy_metadata(source, target, source.lstat())


def _copy_one(source: Path, target: Path, found: os.stat_result, linked: dict[tuple[int, int], Path]) -> None:
    identity = (found.st_dev, found.st_ino)
    if stat.S_ISDIR(found.st_mode):
        target.mkdir(mode=0o700)
        _copy_into(source, target, linked)
        return
    if identity in linked:
        os.link(linked[identity], target, follow_symlinks=False)
        return
    if stat.S_ISREG(found.st_mode):
        _copy_bytes(source, target, found.st_size)
    elif stat.S_ISLNK(found.st_mode):
        target.symlink_to(os.readlink(source))
    else:
        os.mknod(target, found.st_mode, found.st_rdev)
    copy_metadata(source, target, found)
    if found.st_nlink > 1:
        linked[identity] = target


def _copy_bytes(source: Path, target: Path, size: int) -> None:
    """Copy what is not a hole."""
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(writer, size)
        offset = 0
        while offset < size:
            try:
                start = os.lseek(reader, offset, os.SEEK_DATA)
                offset = os.lseek(reader, start, os.SEEK_HOLE)
            except OSError:
                break  # ENXIO: the rest is a hole
            os.lseek(reader, start, os.SEEK_SET)
            os.lseek(writer, start, os.SEEK_SET)
            left = offset - start
            while left > 0 and (sent := os.sendfile(writer, reader, None, left)):
                left -= sent
    finally:
        os.close(reader)
        os.close(writer)


def _only_gone(function: object, path: str, info: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
