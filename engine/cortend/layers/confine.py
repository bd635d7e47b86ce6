"""Confining the unpacking worker: after `enter` the process sees the target tree, and can do little even there.

Owns namespaces, root, capabilities and limits of that process, in the order in which they have to come. Namespaces:
mount, network, ipc. Root: the target alone (pivot_root, the old one detached). The lower layers are one detached
read-only mount, known by its descriptor.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Any

from corten_shim.linux import const, libc, mount, process

from cortend.layers.directory import OPEN

_PR_SET_PDEATHSIG = 1
_READ_ONLY = const.MS_RDONLY | const.MS_NOSUID | const.MS_NODEV | const.MS_NOEXEC
# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP
_KEPT = (0, 1, 3, 4, 27, 31)
_FILES = 16384
_RECURSION = 12_000  # trees are walked by recursion, and are at most a thousand directories deep


def enter(request: dict[str, Any]) -> tuple[int, int]:
    """Confine this process; descriptors of the target's root and of the lower tree (-1 where there is none)."""
    os.closerange(3, 1 << 16)
    os.umask(0)
    os.setsid()
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    process.set_dumpable(False)
    sys.setrecursionlimit(_RECURSION)
    libc.unshare(const.CLONE_NEWNS | const.CLONE_NEWNET | const.CLONE_NEWIPC)
    libc.mount("none", "/", "", const.MS_REC | const.MS_PRIVATE)
    _seal_imports()
    lower = _lower_tree(request["directory"], request["lower"])
    root = _change_root(request["directory"])
    _limit(request["limits"])
    _drop_capabilities()
    return root, lower


def _lower_tree(directory: str, lower: list[str]) -> int:
    if not lower:
        return -1
    place = lower[0]
    if len(lower) > 1:
        base = os.path.dirname(os.path.dirname(directory))  # relative paths: mount(2) takes one page of options
        place = os.path.join(os.path.dirname(directory), "work")
        os.chdir(base)
        layers = ":".join(os.path.relpath(each, base) for each in lower)
        options = f"lowerdir={layers},userxattr,index=off,metacopy=off,redirect_dir=nofollow"
        libc.mount("overlay", place, "overlay", _READ_ONLY, options)
    tree = mount.clone_tree(place)
    try:
        mount.set_attributes(tree, on=const.MOUNT_ATTR_RDONLY | const.MOUNT_ATTR_NODEV)
        return os.open(".", OPEN, dir_fd=tree)
    finally:
        os.close(tree)


def _change_root(directory: str) -> int:
    libc.mount(directory, directory, "", const.MS_BIND)
    os.chdir(directory)
    mount.pivot_root(".", ".")
    libc.umount2(".", const.MNT_DETACH)
    os.chdir("/")
    return os.open("/", OPEN)


def _seal_imports() -> None:
    """From here on no file of the image can become code of ours."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()


def _limit(limits: dict[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits["memory"], limits["memory"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits["max_bytes"], limits["max_bytes"]))


def _drop_capabilities() -> None:
    for capability in range(64):
        if capability not in _KEPT:
            try:
                libc.prctl(const.PR_CAPBSET_DROP, capability)
            except OSError:
                break  # EINVAL: one beyond the last that this kernel has
    kept = sum(1 << each for each in _KEPT)
    process.set_capabilities(effective=kept, permitted=kept, inheritable=0)
    libc.prctl(const.PR_SET_NO_NEW_PRIVS, 1)
