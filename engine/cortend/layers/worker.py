"""The unpacking worker: a program of its own that turns one blob into files and sees nothing but where they go.

Owns the run: stdin is the blob, the one argument the request, stdout takes lines of JSON (progress, then one verdict).
It confines itself (`layers.confine`) before it reads the first byte, and imports nothing after that.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from cortend.layers import confine, files
from cortend.layers.directory import MADE, Metadata
from cortend.layers.rootfs import Refused, Rootfs, shown
from cortend.layers.source import Bounds, Source, SourceError
from cortend.layers.tar_header import CHARACTER, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Entry, TarError
from cortend.layers.tar_reader import TarReader

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_META = b".wh..wh."
_BEAT = 256  # entries between signs of life: a slow disk takes its time for small files
_KINDS = {CHARACTER: stat.S_IFCHR, FIFO: stat.S_IFIFO}
_DISK = {errno.ENOSPC: "no space left on its disk", errno.EDQUOT: "the disk quota is used up"}


class Applier:
    """Applies the entries of one archive to one tree, counting what they take."""

    def __init__(
        self, rootfs: Rootfs, reader: TarReader, *, max_bytes: int, max_entries: int, beat: Callable[[], None]
    ) -> None:
        self._beat = beat
        self._rootfs = rootfs
        self._reader = reader
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._bytes = 0
        self.entries = 0
        self.skipped: set[str] = set()

    def run(self) -> None:
        """Apply everything. Raises Refused, TarError, SourceError, EOFError or OSError; the tree is rubbish then."""
        for entry in self._reader.entries():
            self.entries += 1
            if self.entries > self._max_entries:
                raise SourceError("ResourceExhausted", f"has more than {self._max_entries} entries")
            if self.entries % _BEAT == 0:
                self._beat()
            self._apply(entry)
        self._rootfs.finish()

    def _apply(self, entry: Entry) -> None:
        path = entry.name
        name = path.rstrip(b"/").rpartition(b"/")[2]
        if name.startswith(_WHITEOUT):
            if name == _OPAQUE:
                self._rootfs.opaque(path)
            elif not name.startswith(_META):
                self._rootfs.whiteout(path, name[len(_WHITEOUT) :])
            return
        self._count(entry.real_size)
        xattrs = self._xattrs(entry) if entry.xattrs else None
        metadata = Metadata(entry.mode, entry.uid, entry.gid, entry.mtime_ns, xattrs)
        parent, name = self._rootfs.place(path)
        if entry.kind == DIRECTORY:
            self._rootfs.make_directory(parent, name, metadata)
            return
        if not name:
            raise Refused("is the root directory, but its type is another")
        if entry.kind == LINK:
            self._rootfs.link(parent, name, entry.link)
            return
        if name in parent.names or parent.below:
            self._rootfs.clear(parent, name)
        directory = self._rootfs.descriptor(parent)
        if entry.kind == FILE:
            file = files.write_file(directory, name, self._reader.body(), entry.sparse, entry.real_size)
            try:
                files.apply_to_descriptor(file, metadata)
            finally:
                os.close(file)
            parent.names[name] = MADE
        elif entry.kind == SYMLINK:
            self._symlink(directory, name, entry)
            files.apply_to_name(directory, name, metadata, symlink=True)
            parent.names[name] = entry.link
        else:
            self._special(directory, name, entry)
            files.apply_to_name(directory, name, metadata, symlink=False)
            parent.names[name] = MADE

    def _symlink(self, directory: int, name: bytes, entry: Entry) -> None:
        if not entry.link:
            raise Refused("is a symlink to nothing")
        os.symlink(entry.link, name, dir_fd=directory)

    def _special(self, directory: int, name: bytes, entry: Entry) -> None:
        kind = _KINDS.get(entry.kind, stat.S_IFBLK)
        if kind == stat.S_IFCHR and entry.major == entry.minor == 0:
            raise Refused("is the character device 0:0, which overlayfs takes for a deletion")
        if entry.major >= 1 << 12 or entry.minor >= 1 << 20:
            raise Refused(f"is the device {entry.major}:{entry.minor}, which no kernel has")
        device = 0 if kind == stat.S_IFIFO else os.makedev(entry.major, entry.minor)
        os.mknod(name, kind | (entry.mode & 0o777), device, dir_fd=directory)

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._max_bytes:
            raise SourceError("ResourceExhausted", f"unpacks to more than {self._max_bytes} bytes")

    def _xattrs(self, entry: Entry) -> dict[bytes, bytes] | None:
        kept = {}
        for name, value in (entry.xattrs or {}).items():
            if files.is_overlay_xattr(name):
                raise Refused(f"brings the extended attribute {shown(name)}, which is overlayfs's own")
            if files.is_kept_xattr(name):
                kept[name] = value
            elif len(self.skipped) < 100:
                self.skipped.add(shown(name))
        return kept or None


def unpack(file: int, root: int, lower: int, request: dict[str, Any], report: int) -> dict[str, Any]:
    """Unpack the blob `file` into the directory `root`; the verdict. For use inside a confined process only."""
    limits = request["limits"]
    bounds = Bounds(
        size=request["size"],
        max_bytes=limits["max_bytes"],
        ratio_floor=limits["ratio_floor"],
        max_ratio=limits["max_ratio"],
    )
    reader: TarReader | None = None
    try:
        rootfs = Rootfs(root, lower, remove=request["whiteouts"] == "remove")
        source = Source(file, request["compression"], bounds, lambda offset: _say(report, {"offset": offset}))
        reader = TarReader(source)
        applier = Applier(
            rootfs,
            reader,
            max_bytes=limits["max_bytes"],
            max_entries=limits["max_entries"],
            beat=lambda: _say(report, {"offset": source.consumed}),
        )
        applier.run()
        return {
            "diff_id": source.diff_id(),
            "size": source.size,
            "entries": applier.entries,
            "skipped_xattrs": sorted(applier.skipped),
        }
    except Exception as error:
        return _failure(error, reader.current if reader is not None else b"")


def _failure(error: Exception, entry: bytes) -> dict[str, Any]:
    """The error class and detail of what went wrong, with the entry at which it did."""
    kind, text = "InvalidArgument", str(error)
    where = f"entry {shown(entry)} " if entry else "the archive "
    if isinstance(error, SourceError):
        kind = error.kind
        where = f"at entry {shown(entry)}: it " if entry else "it "
    elif isinstance(error, EOFError):
        place = f"in or behind {where.rstrip()}" if entry else "before its first entry"
        kind, where, text = "DataLoss", "", f"the archive breaks off {place}"
    elif isinstance(error, MemoryError):
        kind, text = "ResourceExhausted", "takes more memory than unpacking a layer may"
    elif isinstance(error, OSError):
        kind = "ResourceExhausted" if error.errno in _DISK else "InvalidArgument"
        text = f"cannot be made: {_DISK.get(error.errno or 0, os.strerror(error.errno or 0))}"
    elif not isinstance(error, Refused | TarError):
        kind, text = "Internal", f"made unpacking fail: {type(error).__name__}: {error}"
    return {"error": kind, "detail": (where + text)[:2000]}


def _say(report: int, message: dict[str, Any]) -> None:
    os.write(report, json.dumps(message).encode() + b"\n")


def main() -> NoReturn:
    """Serve the request in the last argument; the exit status is 0 wherever a verdict was given."""
    request = json.loads(sys.argv[-1])
    report = 1
    try:
        root, lower = confine.enter(request)
        verdict = unpack(0, root, lower, request, report)
    except BaseException as error:
        verdict = {
            "error": "Internal",
            "detail": f"the unpacking worker failed: {type(error).__name__}: {error}"[:2000],
        }
    _say(report, verdict)
    os._exit(0)
