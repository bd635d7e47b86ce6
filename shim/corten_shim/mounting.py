"""The mounts of a container's root, as operations: filesystems, bind mounts, what is hidden or made read-only.

Owns how each is attached so that no symlink of an image leads it elsewhere. What is mounted where is for `plan` to say,
the words of a mount's options are `mountoptions`'.
"""

from __future__ import annotations

import os
import stat

from corten_shim import copyup
from corten_shim.linux import const, fd, libc
from corten_shim.linux import mount as mounts
from corten_shim.linux.errors import INVALID_ARGUMENT, PERMISSION_DENIED, RuntimeFault
from corten_shim.operations import Operation, World

_NO_LINKS = const.RESOLVE_IN_ROOT | const.RESOLVE_NO_MAGICLINKS | const.RESOLVE_NO_SYMLINKS
# Where a symlink of the image's would make later steps act on something else (CVE-2019-19921, CVE-2023-27561).
_REAL_DIRECTORIES = ("proc", "sysfs")


class Propagation:
    """MS_* flag and whether it goes for what is mounted below too; 0 leaves it."""

    __slots__ = ("flag", "recursive")

    def __init__(self, flag: int = 0, *, recursive: bool = False) -> None:
        self.flag = flag
        self.recursive = recursive

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Propagation) and (self.flag, self.recursive) == (other.flag, other.recursive)

    def __hash__(self) -> int:
        return hash((self.flag, self.recursive))

    def __repr__(self) -> str:
        return f"Propagation({self.flag}, recursive={self.recursive})"

    def set(self, tree: int) -> None:
        if self.flag:
            mounts.set_attributes(tree, propagation=self.flag, recursive=self.recursive)


def refuse_procfs(target: int, path: str) -> None:
    """Raises RuntimeFault where a symlink of the image's leads the mount over procfs (CVE-2023-28642).

    What may be mounted below /proc by that name is for the planner to judge.
    """
    if libc.fstatfs_type(target) == const.PROC_SUPER_MAGIC and not path.startswith("/proc/"):
        raise RuntimeFault(INVALID_ARGUMENT, "mount", path, "in this image it leads into procfs")


class Filesystem(Operation):
    """A new filesystem at `target`. `options` are (name, value) pairs, `attributes` MOUNT_ATTR_* bits.

    With `copy_up` it begins with what the directory held that it covers.
    """

    __slots__ = ("kind", "target", "source", "options", "attributes", "propagation", "copy_up")  # noqa: RUF023
    kind: str
    target: str
    source: str
    options: tuple[tuple[str, str], ...]
    attributes: int
    propagation: Propagation
    copy_up: bool

    def __init__(
        self,
        kind: str,
        target: str,
        source: str,
        options: tuple[tuple[str, str], ...],
        attributes: int,
        propagation: Propagation | None = None,
        copy_up: bool = False,
    ) -> None:
        super().__init__(kind, target, source, options, attributes, propagation or Propagation(), copy_up)

    def subject(self) -> tuple[str, str]:
        return "mount", self.target

    def perform(self, world: World) -> None:
        read_only = self.attributes & const.MOUNT_ATTR_RDONLY if self.copy_up else 0
        tree = mounts.filesystem(self.kind, self.source, list(self.options), self.attributes & ~read_only)
        target = fd.make_directories(world.root, self.target)
        if self.kind in _REAL_DIRECTORIES:
            os.close(target)
            target = fd.open_in_root(world.root, self.target, os.O_PATH | os.O_DIRECTORY, resolve=_NO_LINKS)
        refuse_procfs(target, self.target)
        if self.copy_up:
            copyup.copy(target, tree)
            mounts.set_attributes(tree, on=read_only)
        mounts.attach(tree, target)
        self.propagation.set(tree)
        os.close(target)
        if self.kind == "proc":
            world.proc = tree
        else:
            os.close(tree)


class Bind(Operation):
    """Attach detached tree number `tree` at `target`, which is made as what the source is."""

    __slots__ = ("tree", "target")  # noqa: RUF023 - the order of the arguments
    tree: int
    target: str

    def subject(self) -> tuple[str, str]:
        return "mount", self.target

    def perform(self, world: World) -> None:
        tree = world.trees[self.tree]
        is_directory = stat.S_ISDIR(os.fstat(tree).st_mode)
        target = (fd.make_directories if is_directory else fd.make_file)(world.root, self.target)
        refuse_procfs(target, self.target)
        mounts.attach(tree, target)
        os.close(target)


class Mask(Operation):
    """Hide what is at `path`: a directory behind an empty one, a file behind /dev/null. Absent is hidden enough."""

    __slots__ = ("path",)
    path: str

    def perform(self, world: World) -> None:
        try:
            target = fd.open_in_root(world.root, self.path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        tree = _empty_directory(world) if stat.S_ISDIR(os.fstat(target).st_mode) else _null_device(world)
        mounts.attach(tree, target)
        os.close(tree)
        os.close(target)


def _empty_directory(world: World) -> int:
    """A detached mount of one; they all are copies of the first, which is attached already."""
    if world.empty >= 0:
        return mounts.clone_tree("", dir_fd=world.empty)
    options = [("size", "0"), ("nr_inodes", "1"), ("mode", "555")]
    tree = mounts.filesystem("tmpfs", "tmpfs", options, const.MOUNT_ATTR_RDONLY)
    world.empty = os.dup(tree)
    return tree


def _null_device(world: World) -> int:
    """A detached copy of /dev/null, having looked that it is the real one (CVE-2025-31133)."""
    place = fd.open_in_root(world.root, "/dev/null", os.O_PATH | os.O_NOFOLLOW)
    status = os.fstat(place)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        raise RuntimeFault(PERMISSION_DENIED, "device", "/dev/null", "it is not the null device")
    tree = mounts.clone_tree("", dir_fd=place)
    os.close(place)
    return tree


class ReadOnlyPath(Operation):
    """Make what is at `path`, and everything below it, read-only. Absent is fine."""

    __slots__ = ("path",)
    path: str

    def perform(self, world: World) -> None:
        try:
            target = fd.open_in_root(world.root, self.path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        tree = mounts.clone_tree("", dir_fd=target, recursive=True)
        mounts.set_attributes(tree, on=const.MOUNT_ATTR_RDONLY, recursive=True)
        mounts.attach(tree, target)
        os.close(tree)
        os.close(target)


class ReadOnlyMount(Operation):
    """Make the mount at `target` read-only; those below it stay as they are."""

    __slots__ = ("target",)
    target: str

    def subject(self) -> tuple[str, str]:
        return "mount", self.target

    def perform(self, world: World) -> None:
        place = fd.open_in_root(world.root, self.target, os.O_PATH)
        mounts.set_attributes(place, on=const.MOUNT_ATTR_RDONLY)
        os.close(place)
