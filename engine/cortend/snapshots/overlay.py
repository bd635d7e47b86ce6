"""The overlay snapshotter: each snapshot holds what differs from its parents, overlayfs stacks them.

Owns the layout `<number>/{fs,work}` and the mount options. Mounts nothing: whoever uses a snapshot performs its mounts.
The options make a layer's files mean the same on every kernel and let an unprivileged worker write opaque markers
(`redirect_dir=off` would say "follow" on most kernels, which `userxattr` forbids: EINVAL).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cortend.domain.mounts import Mount
from cortend.snapshots.directories import DirectorySnapshotter
from cortend.snapshots.snapshotter import Kind, UnpackTarget, Whiteouts

OPTIONS = ("userxattr", "index=off", "metacopy=off", "redirect_dir=nofollow")


class OverlaySnapshotter(DirectorySnapshotter):
    """`snapshots/<number>/fs` is the upper or a lower directory, `work` the overlay's own."""

    def _populate(self, number: int, chain: tuple[int, ...], kind: Kind) -> None:
        base = str(number)
        os.mkdir(f"{base}/fs", 0o755, dir_fd=self._directory)
        if chain:
            self._follow_parent(f"{base}/fs", f"{chain[0]}/fs")
            os.mkdir(f"{base}/work", 0o711, dir_fd=self._directory)
        else:
            os.chmod(f"{base}/fs", 0o755, dir_fd=self._directory)

    def _parts(self, chain: tuple[int, ...]) -> tuple[str, ...]:
        return ("fs", "work") if chain else ("fs",)

    def _mounts(self, number: int, chain: tuple[int, ...], kind: Kind) -> tuple[Mount, ...]:
        own = str(self._fs(number))
        if not chain:
            access = "ro" if kind is Kind.VIEW else "rw"
            return (Mount("bind", own, ("rbind", access)),)
        lower = "lowerdir=" + ":".join(str(self._fs(each)) for each in chain)
        if kind is Kind.VIEW:
            if len(chain) == 1:
                return (Mount("bind", str(self._fs(chain[0])), ("rbind", "ro")),)
            return (Mount("overlay", "overlay", ("ro", *OPTIONS, lower)),)
        work = f"workdir={self._path(number) / 'work'}"
        return (Mount("overlay", "overlay", (*OPTIONS, lower, f"upperdir={own}", work)),)

    def _target(self, number: int, chain: tuple[int, ...]) -> UnpackTarget:
        return UnpackTarget(
            directory=self._fs(number),
            lower=tuple(self._fs(each) for each in chain),
            whiteouts=Whiteouts.OVERLAY,
        )

    def _fs(self, number: int) -> Path:
        return self._path(number) / "fs"

    def _follow_parent(self, own: str, parent: str) -> None:
        """The merged root takes mode and owner from the uppermost directory, so they must be the parent's."""
        found = os.stat(parent, dir_fd=self._directory)
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(own, found.st_uid, found.st_gid, dir_fd=self._directory)
        os.chmod(own, stat.S_IMODE(found.st_mode), dir_fd=self._directory)
