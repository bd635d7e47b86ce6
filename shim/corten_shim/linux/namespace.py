"""Namespaces: their names in the OCI spec and their flags; leaving and joining them."""

from __future__ import annotations

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
# What an exec'd process joins; the user namespace is the host's.
EXEC = (
    const.CLONE_NEWNS
    | const.CLONE_NEWCGROUP
    | const.CLONE_NEWUTS
    | const.CLONE_NEWIPC
    | const.CLONE_NEWPID
    | const.CLONE_NEWNET
)

__all__ = ["EXEC", "FLAGS", "setns", "unshare"]
