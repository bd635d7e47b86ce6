"""What the host has: architecture, kernel, capabilities, security modules, devices.

Owns the reading of these facts from /proc, /sys and /dev. Decides nothing: `cortend.oci.runtime_spec` does.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from corten_api.errors import InvalidArgument, NotFound

from cortend.domain.containers import Security
from cortend.oci import capabilities
from cortend.oci.runtime_spec import Device, HostFacts

GOARCH = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}
APPARMOR_PROFILE = "corten-default"
# Nodes that every container has of its own, or that must stay the host's.
_OWN_NODES = frozenset({"console", "core", "fd", "mqueue", "ptmx", "pts", "shm", "stderr", "stdin", "stdout"})


def read_facts(*, apparmor_profile: str = "") -> HostFacts:
    """The facts as they are now. `apparmor_profile` is what the caller loaded, empty where there is no AppArmor."""
    uname = os.uname()
    return HostFacts(
        architecture=GOARCH.get(uname.machine, uname.machine),
        kernel=kernel_version(uname.release),
        capabilities=_held_capabilities(Path("/proc/self/status").read_text()),
        apparmor_profile=apparmor_profile,
        selinux=Path("/sys/fs/selinux/enforce").exists(),
        cpus=len(os.sched_getaffinity(0)),
    )


def kernel_version(release: str) -> tuple[int, int]:
    """(major, minor) of a release string such as "6.1.0-18-cloud-amd64"; (0, 0) if it is none."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)


def apparmor_enabled() -> bool:
    """Whether the kernel enforces AppArmor profiles."""
    try:
        return Path("/sys/module/apparmor/parameters/enabled").read_text().startswith("Y")
    except OSError:
        return False


def _held_capabilities(status: str) -> frozenset[str]:
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            return frozenset(name for number, name in enumerate(capabilities.ALL) if mask >> number & 1)
    return frozenset()


def devices(security: Security) -> tuple[Device, ...]:
    """The nodes of `--device`, or all of the host's for a privileged container.

    A directory gives every node below it. Raises NotFound for a path that is not there, InvalidArgument for one that
    is no device or an access that is not made of r, w and m.
    """
    if security.privileged:
        return tuple(_below(Path("/dev"), "/dev", "rwm"))
    found: list[Device] = []
    for text in security.devices:
        found += _parse(text)
    return tuple(found)


def _parse(text: str) -> list[Device]:
    source, target, access = _split(text)
    try:
        status = os.stat(source)
    except OSError as error:
        raise NotFound("device", source, error.strerror or "cannot be looked at") from error
    if stat.S_ISDIR(status.st_mode):
        if not os.path.realpath(source).startswith("/dev/"):
            raise InvalidArgument("device", source, "of directories only those below /dev are taken")
        return list(_below(Path(source), target, access))
    device = _node(status, target, access)
    if device is None:
        raise InvalidArgument("device", source, "it is neither a character nor a block device")
    return [device]


def _split(text: str) -> tuple[str, str, str]:
    parts = text.split(":")
    if len(parts) == 2 and not parts[1].startswith("/"):
        parts = [parts[0], parts[0], parts[1]]
    source = parts[0]
    target = parts[1] if len(parts) > 1 else source
    access = parts[2] if len(parts) > 2 else "rwm"
    if len(parts) > 3 or not source.startswith("/") or not target.startswith("/"):
        raise InvalidArgument("device", text, 'written "/dev/x[:/dev/y][:rwm]"')
    if not access or set(access) - set("rwm"):
        raise InvalidArgument("device access", access, "made of r, w and m")
    return source, target, access


def _below(directory: Path, target: str, access: str) -> Iterator[Device]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name in _OWN_NODES or entry.is_symlink():
                continue
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                yield from _below(Path(entry.path), f"{target}/{entry.name}", access)
                continue
            device = _node(status, f"{target}/{entry.name}", access)
            if device is not None:
                yield device


def _node(status: os.stat_result, path: str, access: str) -> Device | None:
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
    if not kind:
        return None
    return Device(
        path=path,
        kind=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        access=access,
    )


def selinux_labels(security: Security, facts: HostFacts) -> tuple[str, str]:
    """(process, mount) labels with two categories of their own; empty where SELinux is off or disabled by the user.

    Source: lxc_contexts(5) of the host's policy.
    """
    if not facts.selinux or security.privileged or "disable" in security.selinux:
        return "", ""
    contexts = _lxc_contexts()
    process, mount = contexts.get("process", ""), contexts.get("file", "")
    if not process or not mount:
        return "", ""
    first, second = sorted(secrets.SystemRandom().sample(range(1024), 2))
    level = f"s0:c{first},c{second}"
    fields = dict(option.partition(":")[::2] for option in security.selinux)
    process_parts = process.split(":", 3)
    mount_parts = mount.split(":", 3)
    process_parts[2] = fields.get("type", process_parts[2])
    process_parts[0] = fields.get("user", process_parts[0])
    process_parts[1] = fields.get("role", process_parts[1])
    level = fields.get("level", level)
    return ":".join((*process_parts[:3], level)), ":".join((*mount_parts[:3], level))


def _lxc_contexts() -> dict[str, str]:
    try:
        policy = "targeted"
        for line in Path("/etc/selinux/config").read_text().splitlines():
            if line.startswith("SELINUXTYPE="):
                policy = line.partition("=")[2].strip()
        text = Path(f"/etc/selinux/{policy}/contexts/lxc_contexts").read_text()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip('"') for name, _, value in pairs}
