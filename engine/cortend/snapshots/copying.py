"""The copying snapshotter: each snapshot is a whole tree, for filesystems that overlayfs cannot stand on.

Owns the layout `<number>/fs`. Costs the size of the image for every container; that is the price of needing nothing.
"""

from __future__ import annotations

import os

from cortend.domain.mounts import Mount
from cortend.snapshots import tree
from cortend.snapshots.directories import DirectorySnapshotter
from cortend.snapshots.snapshotter import Kind, UnpackTarget, Whiteouts


class CopyingSnapshotter(DirectorySnapshotter):
    """`snapshots/<number>/fs` is the whole tree."""

    def _populate(self, number: int, chain: tuple[int, ...], kind: Kind) -> None:
        os.mkdir(f"{number}/fs", 0o755, dir_fd=self._directory)
        os.chmod(f"{number}/fs", 0o755, dir_fd=self._directory)
        if chain:
            tree.copy_tree(self._path(chain[0]) / "fs", self._path(number) / "fs")

    def _mounts(self, number: int, chain: tuple[int, ...], kind: Kind) -> tuple[Mount, ...]:
        if kind is Kind.VIEW and chain:
            return (Mount("bind", str(self._path(chain[0]) / "fs"), ("rbind", "ro")),)
        access = "ro" if kind is Kind.VIEW else "rw"
        return (Mount("bind", str(self._path(number) / "fs"), ("rbind", access)),)

    def _target(self, number: int, chain: tuple[int, ...]) -> UnpackTarget:
        return UnpackTarget(directory=self._path(number) / "fs", lower=(), whiteouts=Whiteouts.REMOVE)
