"""Directories of the tree that a layer is unpacked into, and what is known of each.

Owns one node per directory: its place in the upper tree, its counterpart below, the names that this layer made, and
the metadata it gets in the end. Descriptors are opened when needed and closed again, the least used first.

Imported by the confined worker: standard library only, plain classes.
"""

from __future__ import annotations

import os
from collections import OrderedDict

OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_OPEN = 2500


class Metadata:
    """What a file is given once it exists."""

    __slots__ = ("gid", "mode", "mtime_ns", "uid", "xattrs")

    def __init__(self, mode: int, uid: int, gid: int, mtime_ns: int, xattrs: dict[bytes, bytes] | None) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs


class Other:
    """What this layer made that is neither directory nor symlink, or the mark of a deletion."""

    __slots__ = ("whiteout",)

    def __init__(self, *, whiteout: bool) -> None:
        self.whiteout = whiteout


MADE = Other(whiteout=False)
WHITEOUT = Other(whiteout=True)


class Directory:
    """One directory. `made`: it is in the upper tree. `below`: lower layers show through it.

    `names` holds what this layer made in it (a symlink by its target), and directories of lower layers that were
    walked through (with `made` False).
    """

    __slots__ = ("below", "depth", "made", "metadata", "name", "names", "parent")

    def __init__(self, parent: Directory | None, name: bytes, *, made: bool, below: bool) -> None:
        self.parent = parent
        self.name = name
        self.depth: int = parent.depth + 1 if parent is not None else 0
        self.made = made
        self.below = below
        self.metadata: Metadata | None = None
        self.names: dict[bytes, Directory | bytes | Other] = {}

    def path(self) -> bytes:
        """Relative to the root, for messages."""
        parts = []
        node: Directory | None = self
        while node is not None and node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return b"/".join(reversed(parts))


class Descriptors:
    """Open descriptors of directories in one tree whose root is `root`; at most MAX_OPEN at once."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: OrderedDict[Directory, int] = OrderedDict()

    def of(self, directory: Directory) -> int:
        """A descriptor of `directory`, valid until a few hundred others were asked for."""
        if directory.parent is None:
            return self._root
        found = self._open.get(directory)
        if found is not None:
            self._open.move_to_end(directory)
            return found
        opened = os.open(directory.name, OPEN, dir_fd=self.of(directory.parent))
        self._open[directory] = opened
        if len(self._open) > MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return opened
