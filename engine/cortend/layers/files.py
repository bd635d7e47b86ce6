"""Single files of a layer: their bytes and metadata, by descriptor.

Owns the order in which metadata is applied so that nothing undoes another: owner, mode, xattrs, times. Knows no paths
beyond a name in a directory. Imported by the confined worker: standard library only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from cortend.layers.directory import Metadata

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = b"user.overlay.opaque"
_KEPT = (b"user.", b"security.capability", b"system.posix_acl_")
_OVERLAY = (b"user.overlay.", b"trusted.overlay.")


def is_overlay_xattr(name: bytes) -> bool:
    """True for what overlayfs keeps for itself: a layer must never bring it."""
    return name.startswith(_OVERLAY)


def is_kept_xattr(name: bytes) -> bool:
    """True for attributes that are applied; others (SELinux labels and the like) are the host's to give."""
    return name.startswith(_KEPT)


def write_file(
    directory: int, name: bytes, body: Iterator[memoryview], sparse: list[tuple[int, int]] | None, size: int
) -> int:
    """Make a new file and fill it; returns its descriptor, open for its metadata."""
    file = os.open(name, _CREATE, 0o600, dir_fd=directory)
    try:
        if sparse is None:
            for piece in body:
                while piece:
                    piece = piece[os.write(file, piece) :]
        else:
            os.ftruncate(file, size)
            _write_pieces(file, body, sparse)
    except BaseException:
        os.close(file)
        raise
    return file


def apply_to_descriptor(file: int, metadata: Metadata) -> None:
    """Owner, mode, xattrs and times of an open file or directory."""
    os.fchown(file, metadata.uid, metadata.gid)
    os.fchmod(file, metadata.mode)
    if metadata.xattrs:
        for name, value in metadata.xattrs.items():
            os.setxattr(file, name, value)
    os.utime(file, ns=(metadata.mtime_ns, metadata.mtime_ns))


def apply_to_name(directory: int, name: bytes, metadata: Metadata, *, symlink: bool) -> None:
    """The same for what is not opened: symlinks, device nodes, fifos."""
    os.chown(name, metadata.uid, metadata.gid, dir_fd=directory, follow_symlinks=False)
    if not symlink:
        os.chmod(name, metadata.mode, dir_fd=directory)
    if metadata.xattrs:
        os.fchdir(directory)
        for key, value in metadata.xattrs.items():
            if not key.startswith(b"user."):  # the kernel keeps those to files and directories
                os.setxattr(name, key, value, follow_symlinks=False)
    os.utime(name, ns=(metadata.mtime_ns, metadata.mtime_ns), dir_fd=directory, follow_symlinks=False)


def metadata_of(directory: int) -> Metadata:
    """What a directory has now, so that its copy above looks the same."""
    found = os.fstat(directory)
    xattrs = _read_xattrs(directory)
    return Metadata(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns, xattrs or None)


def set_opaque(directory: int) -> None:
    """Mark a directory so that overlayfs (mounted with userxattr) shows nothing below it."""
    os.setxattr(directory, _OPAQUE, b"y")


def copy_file(source: int, target: int, name: bytes, found: os.stat_result) -> None:
    """Copy what is no directory, with all it has, from one directory to the same name in another."""
    metadata = Metadata(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns, None)
    if stat.S_ISREG(found.st_mode):
        reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        try:
            metadata.xattrs = _read_xattrs(reader)
            writer = os.open(name, _CREATE, 0o600, dir_fd=target)
            try:
                left = found.st_size
                while left > 0 and (sent := os.sendfile(writer, reader, None, left)):
                    left -= sent
                apply_to_descriptor(writer, metadata)
            finally:
                os.close(writer)
        finally:
            os.close(reader)
        return
    symlink = stat.S_ISLNK(found.st_mode)
    if symlink:
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
    apply_to_name(target, name, metadata, symlink=symlink)


def _read_xattrs(file: int) -> dict[bytes, bytes]:
    try:
        names = [os.fsencode(each) for each in os.listxattr(file)]
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    return {name: os.getxattr(file, name) for name in names if is_kept_xattr(name) and not is_overlay_xattr(name)}


def _write_pieces(file: int, body: Iterator[memoryview], sparse: list[tuple[int, int]]) -> None:
    """Spread the body over the pieces of a sparse file; the map was checked against its length."""
    piece = memoryview(b"")
    for offset, length in sparse:
        while length:
            piece = piece or next(body)
            written = os.pwrite(file, piece[:length], offset)
            piece = piece[written:]
            offset += written
            length -= written
