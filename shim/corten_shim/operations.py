"""What is done to make a container's world, one small operation each, as data with a `perform`.

Owns the steps inside the new mount namespace. `plan` decides which and in what order; `init` runs them. Nothing here
may import anything when performed.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct

from corten_shim.linux import const, fd, libc, sockets
from corten_shim.linux import mount as mounts
from corten_shim.linux.errors import INVALID_ARGUMENT, PERMISSION_DENIED, RuntimeFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NO_LINKS = const.RESOLVE_IN_ROOT | const.RESOLVE_NO_MAGICLINKS | const.RESOLVE_NO_SYMLINKS
# Where a symlink of the image's would make later steps act on something else (CVE-2019-19921, CVE-2023-27561).
_REAL_DIRECTORIES = ("proc", "sysfs")


class World:
    """What operations share while they run in the child."""

    __slots__ = ("empty", "host_proc", "proc", "root", "root_tree", "send_terminal", "terminal", "trees", "warn")

    def __init__(self, *, root_tree: int, trees: list[int], host_proc: int) -> None:
        self.root_tree = root_tree
        self.trees = trees
        self.host_proc = host_proc  # the host's /proc, for what "self" means to the host
        self.root = -1  # "/" once it is the container's
        self.proc = -1  # the container's procfs, whatever is mounted over it later
        self.empty = -1  # a directory with nothing in it, to hide others behind
        self.terminal = -1
        self.warn: Callable[[str], None] = lambda text: None
        self.send_terminal: Callable[[int], None] = os.close


class Operation:
    """Equal when type and fields are. `subject` names what was wrong when `perform` fails with an OSError."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, *values: object) -> None:
        for name, value in zip(self.__slots__, values, strict=True):
            setattr(self, name, value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    def __hash__(self) -> int:
        return hash((type(self), *(str(getattr(self, name)) for name in self.__slots__)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(repr(getattr(self, name)) for name in self.__slots__)})"

    def subject(self) -> tuple[str, str]:
        first = str(getattr(self, self.__slots__[0])) if self.__slots__ else ""
        return type(self).__name__.lower(), first

    def perform(self, world: World) -> None:
        raise AssertionError(self)


class Loopback(Operation):
    """Bring `lo` of this network namespace up (netdevice(7))."""

    __slots__ = ()

    def perform(self, world: World | None) -> None:
        control = sockets.Socket(sockets.AF_INET, sockets.SOCK_DGRAM | sockets.SOCK_CLOEXEC)
        try:
            request = struct.pack("16sH14x", b"lo", 0)
            (flags,) = struct.unpack_from("H", fcntl.ioctl(control, const.SIOCGIFFLAGS, request), 16)
            fcntl.ioctl(control, const.SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | const.IFF_UP))
        finally:
            control.close()


class Hostname(Operation):
    __slots__ = ("name",)
    name: str

    def perform(self, world: World) -> None:
        sockets.sethostname(self.name)


class Domainname(Operation):
    __slots__ = ("name",)
    name: str

    def perform(self, world: World) -> None:
        libc.setdomainname(self.name)


class EnterRoot(Operation):
    """Attach the root filesystem over directory `place`, make it "/" and let go of the host's (pivot_root(2))."""

    __slots__ = ("place",)
    place: str

    def subject(self) -> tuple[str, str]:
        return "root filesystem", self.place

    def perform(self, world: World) -> None:
        libc.mount("", "/", "", const.MS_REC | const.MS_PRIVATE)
        place = os.open(self.place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mounts.attach(world.root_tree, place)
        os.close(place)
        os.fchdir(world.root_tree)
        mounts.pivot_root(".", ".")
        libc.umount2(".", const.MNT_DETACH)  # the old root, which pivot_root put on top
        os.chdir("/")
        world.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def refuse_procfs(target: int, path: str) -> None:
    """Raises RuntimeFault where a symlink of the image's leads the mount over procfs (CVE-2023-28642).

    What may be mounted below /proc by that name is for the planner to judge.
    """
    if libc.fstatfs_type(target) == const.PROC_SUPER_MAGIC and not path.startswith("/proc/"):
        raise RuntimeFault(INVALID_ARGUMENT, "mount", path, "in this image it leads into procfs")


class Filesystem(Operation):
    """A new filesystem at `target`. `options` are (name, value) pairs, `attributes` MOUNT_ATTR_* bits."""

    __slots__ = ("kind", "target", "source", "options", "attributes")  # noqa: RUF023 - the order of the arguments
    kind: str
    target: str
    source: str
    options: tuple[tuple[str, str], ...]
    attributes: int

    def subject(self) -> tuple[str, str]:
        return "mount", self.target

    def perform(self, world: World) -> None:
        tree = mounts.filesystem(self.kind, self.source, list(self.options), self.attributes)
        target = fd.make_directories(world.root, self.target)
        if self.kind in _REAL_DIRECTORIES:
            os.close(target)
            target = fd.open_in_root(world.root, self.target, os.O_PATH | os.O_DIRECTORY, resolve=_NO_LINKS)
        refuse_procfs(target, self.target)
        mounts.attach(tree, target)
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


class Node(Operation):
    """A device node; one that is there already is replaced."""

    __slots__ = ("path", "kind", "major", "minor", "mode", "uid", "gid")  # noqa: RUF023 - the order of the arguments
    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int

    def subject(self) -> tuple[str, str]:
        return "device", self.path

    def perform(self, world: World) -> None:
        parent, _, name = self.path.rpartition("/")
        directory = fd.make_directories(world.root, parent)
        kind = stat.S_IFBLK if self.kind == "b" else stat.S_IFIFO if self.kind == "p" else stat.S_IFCHR
        try:
            os.mknod(name, kind | self.mode, os.makedev(self.major, self.minor), dir_fd=directory)
        except FileExistsError:
            os.unlink(name, dir_fd=directory)
            os.mknod(name, kind | self.mode, os.makedev(self.major, self.minor), dir_fd=directory)
        os.chmod(name, self.mode, dir_fd=directory)
        if self.uid or self.gid:
            os.chown(name, self.uid, self.gid, dir_fd=directory, follow_symlinks=False)
        os.close(directory)


class Symlink(Operation):
    __slots__ = ("path", "to")
    path: str
    to: str

    def perform(self, world: World) -> None:
        parent, _, name = self.path.rpartition("/")
        directory = fd.make_directories(world.root, parent)
        try:
            os.symlink(self.to, name, dir_fd=directory)
        except FileExistsError:
            pass
        finally:
            os.close(directory)


class Sysctl(Operation):
    """Write a kernel setting of this container's namespaces, through its own procfs and nothing mounted over it."""

    __slots__ = ("name", "value")
    name: str
    value: str

    def perform(self, world: World) -> None:
        resolve = const.RESOLVE_BENEATH | const.RESOLVE_NO_XDEV | const.RESOLVE_NO_SYMLINKS
        path = "sys/" + self.name.replace(".", "/")
        setting = fd.open_in_root(world.proc, path, os.O_WRONLY, resolve=resolve)
        os.write(setting, self.value.encode())
        os.close(setting)


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


class Terminal(Operation):
    """A pseudo-terminal of the container's own devpts; its other end goes to the shim.

    With `console`, /dev/console is it too.
    """

    __slots__ = ("width", "height", "console")  # noqa: RUF023 - the order of the arguments
    width: int
    height: int
    console: bool

    def subject(self) -> tuple[str, str]:
        return "terminal", "/dev/pts/ptmx"

    def perform(self, world: World) -> None:
        multiplexer = fd.open_in_root(world.root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        fd.require_filesystem(multiplexer, const.DEVPTS_SUPER_MAGIC, "/dev/pts/ptmx")
        fcntl.ioctl(multiplexer, const.TIOCSPTLCK, struct.pack("i", 0))
        (number,) = struct.unpack("i", fcntl.ioctl(multiplexer, const.TIOCGPTN, bytes(4)))
        world.terminal = fcntl.ioctl(multiplexer, const.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if self.width and self.height:
            size = struct.pack("HHHH", self.height, self.width, 0, 0)
            fcntl.ioctl(multiplexer, const.TIOCSWINSZ, size)
        world.send_terminal(multiplexer)
        os.close(multiplexer)
        if self.console:
            target = fd.make_file(world.root, "/dev/console")
            source = fd.open_in_root(world.root, f"/dev/pts/{number}", os.O_PATH)
            fd.require_filesystem(source, const.DEVPTS_SUPER_MAGIC, f"/dev/pts/{number}")
            tree = mounts.clone_tree("", dir_fd=source)
            mounts.attach(tree, target)
            for used in (target, source, tree):
                os.close(used)
