"""What is done to make a container's process, one small operation each, as data with a `perform`.

Owns their base, what they share while they run, and those that concern the namespaces themselves and the way into the
root. `plan` decides which and in what order; `init` runs them. Nothing here may import anything when performed.
Others are in `mounting`, `nodes`, `scheduling` and `credentials`.
"""

from __future__ import annotations

import fcntl
import os
import struct

from corten_shim import hooks
from corten_shim.linux import const, fd, libc, sockets
from corten_shim.linux import mount as mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class World:
    """What operations share while they run in the process."""

    __slots__ = (
        "empty",
        "host_proc",
        "meet",
        "pid",
        "proc",
        "root",
        "send_terminal",
        "slash",
        "terminal",
        "trees",
        "warn",
    )

    def __init__(self, *, root_tree: int, trees: list[int], host_proc: int) -> None:
        self.trees = trees
        self.host_proc = host_proc  # the host's /proc, for what "self" means to the host
        self.pid = 0  # of this process, as the host has it
        self.root = root_tree  # what is or will be "/" of the container; -1 where that is "/" already
        self.slash = -1  # the host's "/" in this mount namespace, until the root is entered
        self.proc = -1  # the container's procfs, whatever is mounted over it later
        self.empty = -1  # a directory with nothing in it, to hide others behind
        self.terminal = -1
        self.warn: Callable[[str], None] = lambda text: None
        self.send_terminal: Callable[[int], None] = os.close
        self.meet: Callable[[str], None] = lambda stage: None


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


class Meet(Operation):
    """Tell the parent that `stage` is reached, and go on when it says so: it has hooks to run."""

    __slots__ = ("stage",)
    stage: str

    def perform(self, world: World) -> None:
        world.meet(self.stage)


class RunHook(Operation):
    """Run a hook here, in the container's namespaces. `state` is the state document but for the pid."""

    __slots__ = ("stage", "path", "hook", "state")  # noqa: RUF023 - the order of the arguments
    stage: str
    path: str
    hook: dict[str, Any]
    state: dict[str, Any]

    def subject(self) -> tuple[str, str]:
        return "hook", self.path

    def perform(self, world: World) -> None:
        hooks.run(self.stage, self.hook, hooks.encode({**self.state, "pid": world.pid}))


class AttachRoot(Operation):
    """Put the root filesystem over "/" of this mount namespace; the host's is still beneath it, and still "/".

    What happens in it later does not reach the host's mounts, but with `slave` the host's reach it.
    """

    __slots__ = ("slave",)
    slave: bool

    def subject(self) -> tuple[str, str]:
        return "root filesystem", "/"

    def perform(self, world: World) -> None:
        libc.mount("", "/", "", const.MS_REC | (const.MS_SLAVE if self.slave else const.MS_PRIVATE))
        world.slash = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mounts.attach(world.root, world.slash)


class EnterRoot(Operation):
    """Make the root filesystem "/" and let go of the host's (pivot_root(2)); without `pivot` by chroot(2).

    Its `propagation`, where one is asked for, is a MS_* flag.
    """

    __slots__ = ("pivot", "propagation", "recursive")
    pivot: bool
    propagation: int
    recursive: bool

    def subject(self) -> tuple[str, str]:
        return "root filesystem", "/"

    def perform(self, world: World) -> None:
        os.fchdir(world.root)
        if self.pivot:
            mounts.pivot_root(".", ".")
            os.fchdir(world.slash)
            libc.umount2(".", const.MNT_DETACH)  # the old root, which pivot_root put on top
        else:
            os.chroot(".")
        os.chdir("/")
        os.close(world.slash)
        if self.propagation:
            mounts.set_attributes(world.root, propagation=self.propagation, recursive=self.recursive)


class Sysctl(Operation):
    """Write a kernel setting of this container's namespaces, through its own procfs and nothing mounted over it.

    `path` is below /proc/sys.
    """

    __slots__ = ("name", "path", "value")
    name: str
    path: str
    value: str

    def perform(self, world: World) -> None:
        resolve = const.RESOLVE_BENEATH | const.RESOLVE_NO_XDEV | const.RESOLVE_NO_SYMLINKS
        setting = fd.open_in_root(world.proc, f"sys/{self.path}", os.O_WRONLY, resolve=resolve)
        os.write(setting, self.value.encode())
        os.close(setting)
