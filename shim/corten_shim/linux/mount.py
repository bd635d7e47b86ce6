"""Mounts by descriptor: make a filesystem or a copy of a tree detached, set its attributes, attach it later.

Owns open_tree(2), fsopen(2), fsconfig(2), fsmount(2), move_mount(2), mount_setattr(2), pivot_root(2). A returned
descriptor is the caller's to close; as long as it is open, what it stands for is mounted, though attached nowhere.
"""

from __future__ import annotations

import os

from corten_shim.linux import const
from corten_shim.linux.libc import MountAttributes, by_reference, size_of, system_call


def clone_tree(path: str, *, dir_fd: int = const.AT_FDCWD, recursive: bool = False) -> int:
    """A detached copy of the mount at `path` (of `dir_fd` itself for ""); with `recursive` of those below it too."""
    flags = const.OPEN_TREE_CLONE | const.OPEN_TREE_CLOEXEC
    flags |= const.AT_RECURSIVE if recursive else 0
    flags |= const.AT_EMPTY_PATH if not path else 0
    return system_call("open_tree", dir_fd, os.fsencode(path), flags, about=path)


def filesystem(kind: str, source: str, options: list[tuple[str, str]], attributes: int = 0) -> int:
    """A new, detached filesystem. `options` are (name, value), a flag has value ""; `attributes` MOUNT_ATTR_* bits.

    Raises OSError naming the option or the filesystem that the kernel refused.
    """
    context = system_call("fsopen", os.fsencode(kind), const.FSOPEN_CLOEXEC, about=kind)
    try:
        if source:
            _configure(context, const.FSCONFIG_SET_STRING, "source", source)
        for name, value in options:
            _configure(context, const.FSCONFIG_SET_STRING if value else const.FSCONFIG_SET_FLAG, name, value)
        system_call("fsconfig", context, const.FSCONFIG_CMD_CREATE, 0, 0, 0, about=kind)
        return system_call("fsmount", context, const.FSMOUNT_CLOEXEC, attributes, about=kind)
    finally:
        os.close(context)


def _configure(context: int, command: int, name: str, value: str) -> None:
    encoded = os.fsencode(value) if value else 0
    system_call("fsconfig", context, command, os.fsencode(name), encoded, 0, about=f"{name}={value}")


def attach(tree: int, target: int) -> None:
    """Put the detached `tree` over the file or directory that descriptor `target` stands for."""
    flags = const.MOVE_MOUNT_F_EMPTY_PATH | const.MOVE_MOUNT_T_EMPTY_PATH
    system_call("move_mount", tree, b"", target, b"", flags)


def set_attributes(
    tree: int, *, on: int = 0, off: int = 0, propagation: int = 0, recursive: bool = False, user_namespace: int = 0
) -> None:
    """Change MOUNT_ATTR_* bits and the propagation of the mount `tree`; with `recursive` of all below it.

    `user_namespace` goes with MOUNT_ATTR_IDMAP: whose map shifts the ids of files.
    """
    attributes = MountAttributes(on, off, propagation, user_namespace)
    flags = const.AT_EMPTY_PATH | (const.AT_RECURSIVE if recursive else 0)
    system_call("mount_setattr", tree, b"", flags, by_reference(attributes), size_of(attributes))


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    system_call("pivot_root", os.fsencode(new_root), os.fsencode(put_old), about=new_root)
