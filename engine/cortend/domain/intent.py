"""What a container's intent must satisfy before a record is made of it.

Owns the checks of single values; each failure names the value and says what would be right. Pure. Capabilities, devices
and seccomp profiles are checked by deriving the spec, mount sources by `cortend.tasks.bundle`, users by the runtime.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
import resource
from collections.abc import Mapping

from corten_api.errors import InvalidArgument

from cortend.domain import signals
from cortend.domain.containers import ContainerConfig, MountPoint, MountType, Resources, Ulimit

MIN_MEMORY = 6 << 20
_NETWORKS = ("", "none", "host")
_PROPAGATIONS = ("", "rprivate", "private", "rslave", "slave", "rshared", "shared")
_LABEL = re.compile(r"[0-9A-Za-z.]([0-9A-Za-z.-]{0,61}[0-9A-Za-z])?")
_USER = re.compile(r"[^\s:/][^\s:]*(:[^\s:]+)?")
_CPUS = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*")
_TMPFS_FLAGS = frozenset(
    "ro rw exec noexec suid nosuid dev nodev sync async atime noatime diratime nodiratime relatime norelatime "
    "strictatime nostrictatime noswap".split()
)
_TMPFS_VALUES = {
    "size": re.compile(r"\d+[kKmMgG%]?"),
    "mode": re.compile(r"[0-7]{3,4}"),
    "uid": re.compile(r"\d+"),
    "gid": re.compile(r"\d+"),
    "nr_inodes": re.compile(r"\d+[kKmMgG]?"),
    "nr_blocks": re.compile(r"\d+[kKmMgG]?"),
    "huge": re.compile(r"never|always|within_size|advise"),
}
RLIMITS = frozenset(name[7:].lower() for name in dir(resource) if name.startswith("RLIMIT_")) - {"ofile"} | {
    *("locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"),
}
_MAX_STRING = 128 << 10  # MAX_ARG_STRLEN of the kernel
_MAX_LABELS = 4096
_MAX_TEXT = 1 << 20  # of everything together: a message with it has to fit, and the kernel takes no more of arguments


def check(config: ContainerConfig, *, host_cpus: int) -> None:
    """Raises InvalidArgument for the first value that cannot be."""
    _check_strings(config)
    _check_identity(config)
    if config.stop_signal:
        signals.parse(config.stop_signal)
    for mount in config.mounts:
        _check_mount(mount)
    targets = [posixpath.normpath(mount.target) for mount in config.mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidArgument("mount target", target, "two mounts have this target")
    if config.network not in _NETWORKS:
        detail = 'this version knows "none" (an own network namespace with loopback only) and "host"'
        raise InvalidArgument("network", config.network, detail)
    check_resources(config.resources, host_cpus=host_cpus)
    for limit in config.ulimits:
        _check_ulimit(limit)
    _check_numbers(config)


def _check_mount(mount: MountPoint) -> None:
    target = posixpath.normpath(mount.target)
    if not mount.target.startswith("/") or target in ("/", "//"):
        raise InvalidArgument("mount target", mount.target, "an absolute path below / is needed")
    if mount.type is MountType.TMPFS:
        for option in mount.options:
            _check_tmpfs_option(option)
        return
    if not mount.source.startswith("/"):
        raise InvalidArgument("mount source", mount.source, "an absolute path of the host is needed")
    if mount.propagation not in _PROPAGATIONS:
        detail = f"one of {', '.join(_PROPAGATIONS[1:])} is needed"
        raise InvalidArgument("mount propagation", mount.propagation, detail)


def check_resources(resources: Resources, *, host_cpus: int) -> None:
    memory, swap = resources.memory_bytes, resources.memory_swap_bytes
    if memory and memory < MIN_MEMORY:
        raise InvalidArgument("memory", str(memory), f"at least {MIN_MEMORY} bytes (6 MiB) are needed; 0: no limit")
    if swap not in (0, -1) and (not memory or swap < memory):
        raise InvalidArgument("memory-swap", str(swap), "memory plus swap: at least the memory limit, or -1, or 0")
    reservation = resources.memory_reservation_bytes
    if reservation < 0 or (memory and reservation > memory):
        raise InvalidArgument("memory-reservation", str(reservation), "at most the memory limit is possible")
    if not 0 <= resources.cpu_nanos <= host_cpus * 1_000_000_000:
        value = f"{resources.cpu_nanos / 1e9:g}"
        raise InvalidArgument("cpus", value, f"this host has {host_cpus}: more than 0.01 and at most {host_cpus}")
    if 0 < resources.cpu_nanos < 10_000_000:
        raise InvalidArgument("cpus", f"{resources.cpu_nanos / 1e9:g}", "at least 0.01 is needed; 0: no limit")
    if resources.cpu_shares and not 2 <= resources.cpu_shares <= 262144:
        raise InvalidArgument("cpu-shares", str(resources.cpu_shares), "2 to 262144 is possible; 0: the default")
    if not -1 <= resources.pids_limit <= 4194304:
        raise InvalidArgument("pids-limit", str(resources.pids_limit), "1 to 4194304 is possible; 0 or -1: no limit")
    for kind, text in (("cpuset-cpus", resources.cpuset_cpus), ("cpuset-mems", resources.cpuset_mems)):
        if text and _CPUS.fullmatch(text) is None:
            raise InvalidArgument(kind, text, 'a list such as "0-2,4" is needed')
    _check_cpuset(resources.cpuset_cpus, host_cpus)


def _check_cpuset(text: str, host_cpus: int) -> None:
    if not text:
        return
    for part in text.split(","):
        first, _, last = part.partition("-")
        if int(last or first) >= host_cpus or (last and int(last) < int(first)):
            raise InvalidArgument("cpuset-cpus", text, f"this host has the processors 0-{host_cpus - 1}")


def _check_strings(config: ContainerConfig) -> None:
    for kind, values in (
        ("entrypoint", config.entrypoint),
        ("command", config.command),
        ("environment", config.environment),
    ):
        for value in values:
            if "\0" in value:
                raise InvalidArgument(kind, value.replace("\0", "\\0"), "it holds a NUL character")
            if len(value) > _MAX_STRING:
                raise InvalidArgument(kind, value[:40] + "...", f"it is longer than {_MAX_STRING} bytes")
    texts = (*config.entrypoint, *config.command, *config.environment, *config.extra_hosts)
    pairs = (*config.labels.items(), *config.annotations.items())
    total = sum(len(each.encode()) for each in (*texts, *(part for pair in pairs for part in pair)))
    if total > _MAX_TEXT:
        detail = f"arguments, environment, labels and hosts take {total} bytes together; {_MAX_TEXT} are allowed"
        raise InvalidArgument("container", "", detail)
    for entry in config.environment:
        if not entry or entry.startswith("="):
            raise InvalidArgument("environment", entry, '"NAME=value" is needed')
    for kind, mapping in (("label", config.labels), ("annotation", config.annotations)):
        _check_mapping(kind, mapping)
    for entry in config.extra_hosts:
        name, _, address = entry.partition(":")
        if not name or any(character.isspace() for character in name):
            raise InvalidArgument("extra host", entry, '"name:address" is needed')
        try:
            ipaddress.ip_address(address.strip("[]"))
        except ValueError:
            raise InvalidArgument("extra host", entry, f'"{address}" is no IP address') from None


def _check_mapping(kind: str, mapping: Mapping[str, str]) -> None:
    if len(mapping) > _MAX_LABELS:
        raise InvalidArgument(kind, str(len(mapping)), f"at most {_MAX_LABELS} are possible")
    for key, value in mapping.items():
        if not key or len(key) + len(value) > _MAX_STRING:
            raise InvalidArgument(kind, key[:40], f"a name is needed, and at most {_MAX_STRING} bytes with its value")


def _check_identity(config: ContainerConfig) -> None:
    for kind, text, longest in (("hostname", config.hostname, 64), ("domainname", config.domainname, 64)):
        valid = all(_LABEL.fullmatch(part) for part in text.split(".")) and len(text) <= longest
        if text and not valid:
            raise InvalidArgument(kind, text, f"letters, digits and '-', in parts divided by '.', {longest} at most")
    if config.user and _USER.fullmatch(config.user) is None:
        raise InvalidArgument("user", config.user, '"name", "number", "name:group" or "number:number" is needed')
    for part in config.user.split(":") if config.user else ():
        if part.isdecimal() and int(part) >= 2**32 - 1:
            raise InvalidArgument("user", config.user, "an id is at most 4294967294")
    directory = config.working_directory
    if directory and (not directory.startswith("/") or "\0" in directory):
        raise InvalidArgument("working directory", directory, "an absolute path in the container is needed")


def _check_tmpfs_option(option: str) -> None:
    name, separator, value = option.partition("=")
    pattern = _TMPFS_VALUES.get(name)
    if separator and pattern is not None and pattern.fullmatch(value):
        return
    if not separator and name in _TMPFS_FLAGS:
        return
    known = ", ".join((*sorted(f"{each}=" for each in _TMPFS_VALUES), "and the flags of mount(8)"))
    raise InvalidArgument("tmpfs option", option, f"not one that tmpfs takes: {known}")


def _check_ulimit(limit: Ulimit) -> None:
    if limit.name not in RLIMITS:
        raise InvalidArgument("ulimit", limit.name, f"not one of {', '.join(sorted(RLIMITS))}")
    soft = limit.soft if limit.soft >= 0 else 2**64
    hard = limit.hard if limit.hard >= 0 else 2**64
    if min(limit.soft, limit.hard) < -1 or soft > hard:
        text = f"{limit.name}={limit.soft}:{limit.hard}"
        raise InvalidArgument("ulimit", text, "soft is at most hard, and -1 means unlimited")


def _check_numbers(config: ContainerConfig) -> None:
    if config.oom_score_adj is not None and not -1000 <= config.oom_score_adj <= 1000:
        raise InvalidArgument("oom-score-adj", str(config.oom_score_adj), "-1000 to 1000 is possible")
    if config.umask is not None and not 0 <= config.umask <= 0o777:
        raise InvalidArgument("umask", oct(config.umask), "0 to 0777 is possible")
    if config.shm_size < 0:
        raise InvalidArgument("shm-size", str(config.shm_size), "a number of bytes is needed; 0: 64 MiB")
    if config.stop_timeout_ns is not None and config.stop_timeout_ns < -1_000_000_000:
        raise InvalidArgument("stop-timeout", str(config.stop_timeout_ns // 10**9), "seconds; -1: wait for ever")
    if config.log.max_bytes < 0 or not 0 <= config.log.max_files <= 1000:
        value = f"{config.log.max_bytes}, {config.log.max_files}"
        raise InvalidArgument("log options", value, "bytes of a segment and a number of segments up to 1000")
