"""The `mounts` section: the kernel's filesystems, the files the engine provides, and what the user asked for.

Owns the order (a parent before what lies below it) and which default a user's mount replaces.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from corten_api.errors import InvalidArgument

from cortend.domain.containers import ContainerConfig, MountPoint, MountType

DEFAULT_SHM_BYTES = 64 << 20
TMPFS_OPTIONS = ("noexec", "nosuid", "nodev")
# What tmpfs-type mounts take besides the flags of mount(8); tmpfs(5).
_OPPOSITES = {"exec": "noexec", "suid": "nosuid", "dev": "nodev"}


def mount_table(config: ContainerConfig, *, bundle: Path) -> list[dict[str, Any]]:
    """Every mount but the root filesystem. `bundle` holds hosts, hostname and resolv.conf."""
    asked = [_user_mount(mount) for mount in config.mounts]
    taken: set[str] = set()
    for entry in asked:
        target = entry["destination"]
        if target in taken:
            raise InvalidArgument("mount target", target, "two mounts have this target")
        taken.add(target)
    defaults = [entry for entry in _defaults(config, bundle) if entry["destination"] not in taken]
    # Stable: /dev before /dev/pts, and what the user asked for after the engine's own of the same depth.
    return sorted((*defaults, *asked), key=lambda entry: _depth(entry["destination"]))


def _depth(path: str) -> int:
    return path.rstrip("/").count("/")


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _defaults(config: ContainerConfig, bundle: Path) -> list[dict[str, Any]]:
    access = "rw" if config.security.privileged else "ro"
    shm_size = config.shm_size or DEFAULT_SHM_BYTES
    entries = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", access),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", access, "nosuid", "noexec", "nodev"),
    ]
    provided = "ro" if config.read_only else "rw"
    entries += [
        _mount(f"/etc/{name}", "bind", str(bundle / name), "bind", "rprivate", provided)
        for name in ("hosts", "hostname", "resolv.conf")
    ]
    return entries


def _user_mount(mount: MountPoint) -> dict[str, Any]:
    target = posixpath.normpath(mount.target)
    if not target.startswith("/") or target in ("/", "//"):
        raise InvalidArgument("mount target", mount.target, "an absolute path below / is needed")
    if mount.type is MountType.TMPFS:
        return _mount(target, "tmpfs", "tmpfs", *_tmpfs_options(mount))
    options = [
        "bind" if mount.non_recursive else "rbind",
        mount.propagation or "rprivate",
        # Recursively, so that no mount below the source stays writable.
        ("ro" if mount.non_recursive else "rro") if mount.read_only else "rw",
    ]
    return _mount(target, "bind", mount.source, *options)


def _tmpfs_options(mount: MountPoint) -> list[str]:
    asked = list(mount.options)
    undone = {_OPPOSITES[option] for option in asked if option in _OPPOSITES}
    options = [option for option in TMPFS_OPTIONS if option not in undone and option not in asked]
    if mount.read_only:
        options.append("ro")
    return [*options, *(option for option in asked if option not in _OPPOSITES)]
