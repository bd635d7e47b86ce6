"""The root filesystem and the bind sources, as detached mounts made before any namespace changes.

Owns how an overlay of many layers is put together on each kernel. Attaches nothing: the container's own first process
does, so that nothing of a container ever shows in the host's mount table.
"""

from __future__ import annotations

import errno
import os

from corten_shim import usermap
from corten_shim.linux import const, libc, process, sockets
from corten_shim.linux import mount as mounts
from corten_shim.linux.errors import INVALID_ARGUMENT, RuntimeFault, from_oserror
from corten_shim.linux.sockets import Socket
from corten_shim.mountoptions import MountOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VOLATILE = "dev.corten.rootfs.volatile"
_FSCONFIG_STRING = 255  # fsconfig(2) takes 256 bytes with the NUL
_MOUNT_DATA = 4095  # mount(2) takes one page


class Mount:
    """A mount as mount(2) takes it: what snapshots hand out."""

    __slots__ = ("options", "source", "target", "type")

    def __init__(self, type: str, source: str, target: str, options: list[str]) -> None:
        self.type = type
        self.source = source
        self.target = target
        self.options = options


def prepare_root(mounts_: list[Mount], *, spec: dict[str, Any], user_namespace: int = -1) -> int:
    """Descriptor of the detached root filesystem; as long as it is open, the filesystem stays mounted.

    With the option "idmap" its ids are shifted as `user_namespace` says. Raises RuntimeFault naming the mount that
    cannot be made.
    """
    if len(mounts_) != 1 or mounts_[0].target not in ("", "/"):
        raise RuntimeFault(INVALID_ARGUMENT, "root filesystem", str(len(mounts_)), "exactly one mount is needed")
    root = mounts_[0]
    try:
        if root.type == "overlay":
            volatile = (spec.get("annotations") or {}).get(VOLATILE) == "true"
            label = (spec.get("linux") or {}).get("mountLabel")
            options = [*root.options, f"context={label}"] if label else root.options
            return _overlay(options, volatile=volatile, user_namespace=user_namespace)
        bound = MountOptions(root.options)
        if root.type != "bind" and not bound.bind:
            raise RuntimeFault(INVALID_ARGUMENT, "root filesystem", root.type, "overlay or bind")
        if not bound.propagation:
            wish = MountOptions([(spec.get("linux") or {}).get("rootfsPropagation") or "rprivate"])
            if wish.propagation != const.MS_SHARED:  # pivot_root(2) takes none that is shared: it becomes that later
                bound.propagation, bound.propagation_recursive = wish.propagation, wish.propagation_recursive
        return clone_source(root.source, bound, user_namespace)
    except OSError as error:
        raise from_oserror("root filesystem", str(error.filename or root.source), error) from error


def clone_source(source: str, options: MountOptions, user_namespace: int = -1) -> int:
    """A detached copy of `source` with the attributes and the propagation that `options` ask for.

    Where they ask for shifted ids, `user_namespace` says which are which. Raises OSError, RuntimeFault.
    """
    tree = mounts.clone_tree(source, recursive=options.recursive)
    try:
        if options.idmap:
            shift(tree, source, user_namespace, recursive=options.idmap_recursive)
        if options.on or options.off:
            mounts.set_attributes(tree, on=options.on, off=options.off)
        if options.all_on or options.all_off:
            mounts.set_attributes(tree, on=options.all_on, off=options.all_off, recursive=True)
        recursive = options.propagation_recursive or not options.propagation
        mounts.set_attributes(tree, propagation=options.propagation or const.MS_PRIVATE, recursive=recursive)
    except BaseException:
        os.close(tree)
        raise
    return tree


def shift(tree: int, source: str, user_namespace: int, *, recursive: bool) -> None:
    """Have the ids of files in the detached `tree` shifted. Raises RuntimeFault where that cannot be."""
    if user_namespace < 0:
        detail = 'the option "idmap" needs mappings: the mount\'s own, or those of a user namespace'
        raise RuntimeFault(INVALID_ARGUMENT, "mount", source, detail)
    try:
        mounts.set_attributes(tree, on=const.MOUNT_ATTR_IDMAP, user_namespace=user_namespace, recursive=recursive)
    except OSError as error:
        raise usermap.unsupported(source, error) from error


class _Layers:
    """An overlay's directories relative to the one they all lie in, and its other options."""

    def __init__(self, options: list[str]) -> None:
        self.read_only = self.idmap = False
        self.lower: list[str] = []
        self.upper: list[tuple[str, str]] = []
        self.flags: list[tuple[str, str]] = []
        for option in options:
            name, _, value = option.partition("=")
            if name == "lowerdir":
                self.lower = value.split(":")
            elif name in ("upperdir", "workdir"):
                self.upper.append((name, value))
            elif name in ("ro", "rw"):
                self.read_only = name == "ro"
            elif name == "idmap":
                self.idmap = True
            else:
                self.flags.append((name, value))
        everything = [*self.lower, *(path for _, path in self.upper)]
        self.base = os.path.commonpath(everything) if everything else "/"
        if self.base in everything:
            self.base = os.path.dirname(self.base)
        self.lower = [os.path.relpath(path, self.base) for path in self.lower]
        self.upper = [(name, os.path.relpath(path, self.base)) for name, path in self.upper]


def _overlay(options: list[str], *, volatile: bool, force_old: bool = False, user_namespace: int = -1) -> int:
    layers = _Layers(options)
    if volatile and layers.upper:
        layers.flags.append(("volatile", ""))
        _forget_volatile(dict(layers.upper)["workdir"], layers.base)
    attributes = const.MOUNT_ATTR_RDONLY if layers.read_only else 0
    os.chdir(layers.base)  # relative names keep within what fsconfig(2) and mount(2) take
    try:
        if layers.idmap:
            return _overlay_elsewhere(":".join(layers.lower), layers, attributes, user_namespace)
        if not force_old and _may_have_appending():
            try:
                lower = [("lowerdir+", path) for path in layers.lower]
                return mounts.filesystem("overlay", "overlay", [*lower, *layers.upper, *layers.flags], attributes)
            except OSError as error:
                if error.errno != errno.EINVAL:  # 6.5 has the new interface, but not this option yet
                    raise
        joined = ":".join(layers.lower)
        if len(joined) <= _FSCONFIG_STRING:
            named = [("lowerdir", joined), *layers.upper, *layers.flags]
            return mounts.filesystem("overlay", "overlay", named, attributes)
        return _overlay_elsewhere(joined, layers, attributes)
    finally:
        os.chdir("/")


def _forget_volatile(work: str, base: str) -> None:
    """An overlay that was volatile is refused ever after, unless this mark goes: its owner knows what it may have lost.

    Source: kernel Documentation/filesystems/overlayfs.rst, "Volatile mount".
    """
    mark = os.path.join(base, work, "work/incompat/volatile")
    try:
        os.unlink(f"{mark}/dirty")
        os.rmdir(mark)
    except FileNotFoundError:
        return


def _may_have_appending() -> bool:
    """Whether asking for lowerdir+ is worth a try: kernels before 6.5 would complain in their log each time."""
    major, minor, *_ = os.uname().release.split(".")
    return (int(major), int(minor.partition("-")[0])) >= (6, 5)


def _overlay_elsewhere(lower: str, layers: _Layers, attributes: int, user_namespace: int = -1) -> int:
    """Many layers on a kernel without lowerdir+: mount(2) takes more, but only onto a path. Or layers whose ids are
    shifted: an overlay cannot do that itself, it is put together from directories whose mount does.

    So a child does it in a mount namespace of its own, and sends a detached copy.
    """
    words = [f"lowerdir={lower}", *(f"{name}={path}" for name, path in layers.upper)]
    data = ",".join([*words, *(f"{name}={value}" if value else name for name, value in layers.flags)])
    if len(data) > _MOUNT_DATA:
        raise RuntimeFault(INVALID_ARGUMENT, "root filesystem", f"{len(layers.lower)} layers", "too many for one mount")
    ours, theirs = sockets.pair()
    child = os.fork()
    if child == 0:
        _mount_and_send(theirs, data, layers, user_namespace)
    theirs.close()
    try:
        answer, fds, _ = sockets.receive(ours, 256, 1)
        os.waitpid(child, 0)
    finally:
        ours.close()
    if not fds:
        number = int(answer or b"5")
        error = OSError(number, os.strerror(number), "overlay", None, "mount")
        if layers.idmap:
            raise usermap.unsupported(layers.base, error)
        raise error
    tree = fds[0]
    os.set_inheritable(tree, False)
    if attributes:
        mounts.set_attributes(tree, on=attributes)
    return tree


def _mount_and_send(channel: Socket, data: str, layers: _Layers, user_namespace: int) -> None:
    try:
        libc.unshare(const.CLONE_NEWNS)
        libc.mount("", "/", "", const.MS_REC | const.MS_PRIVATE)
        if layers.idmap:
            tree = mounts.clone_tree(layers.base)
            mounts.set_attributes(tree, on=const.MOUNT_ATTR_IDMAP, user_namespace=user_namespace)
            mounts.attach(tree, os.open(".", os.O_PATH))
            os.chdir(layers.base)
            # An overlay writes as who mounted it: that must be somebody whom the shift knows, root of the container.
            process.act_as(os.stat(".").st_uid, os.stat(".").st_gid)
        libc.mount("overlay", ".", "overlay", 0, data)
        tree = mounts.clone_tree(os.getcwd())
        sockets.send(channel, b"ok", tree)
    except OSError as error:
        channel.send(str(error.errno).encode())
    finally:
        os._exit(0)
