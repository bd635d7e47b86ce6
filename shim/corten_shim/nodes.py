"""Device nodes, links and the terminal in a container's /dev, as operations.

Owns their making. Which there are is for `plan` to say; who may open them, for the cgroup.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct

from corten_shim.linux import const, fd
from corten_shim.linux import mount as mounts
from corten_shim.operations import Operation, World


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
