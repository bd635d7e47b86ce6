"""Namespaces: their names in the OCI spec and their flags; leaving and joining them."""

from __future__ import annotations

import fcntl
import os

from corten_shim.linux import const
from corten_shim.linux.libc import setns, unshare

FLAGS = {
    "mount": const.CLONE_NEWNS,
    "cgroup": const.CLONE_NEWCGROUP,
    "uts": const.CLONE_NEWUTS,
    "ipc": const.CLONE_NEWIPC,
    "user": const.CLONE_NEWUSER,
    "pid": const.CLONE_NEWPID,
    "network": const.CLONE_NEWNET,
    "time": const.CLONE_NEWTIME,
}
_FILES = {"mount": "mnt", "network": "net"}  # in /proc/PID/ns, where they differ
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)

__all__ = ["FLAGS", "differs", "kind_of", "setns", "unshare"]


def kind_of(descriptor: int) -> int:
    """CLONE_NEW* of the namespace that `descriptor` is open on. Raises OSError (ENOTTY) for what is none."""
    return int(fcntl.ioctl(descriptor, _NS_GET_NSTYPE))


def differs(descriptor: int, kind: str) -> bool:
    """Whether `descriptor` is open on another namespace than this process's own of that kind (OCI's word)."""
    own = os.stat(f"/proc/self/ns/{_FILES.get(kind, kind)}")
    other = os.fstat(descriptor)
    return (own.st_dev, own.st_ino) != (other.st_dev, other.st_ino)
