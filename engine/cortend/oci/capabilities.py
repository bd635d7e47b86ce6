"""Linux capabilities as users name them, and the set a container gets.

Owns the names, the default set and how `--cap-add`, `--cap-drop` and `--privileged` change it.
Source: capabilities(7) for the names; the default set is the one Docker documents.
"""

from __future__ import annotations

from collections.abc import Iterable

from corten_api.errors import InvalidArgument

# In the order of their numbers, CAP_CHOWN is 0.
_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
_DEFAULT_NAMES = """
CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
AUDIT_WRITE
"""
ALL: tuple[str, ...] = tuple(f"CAP_{name}" for name in _NAMES.split())
DEFAULT: frozenset[str] = frozenset(f"CAP_{name}" for name in _DEFAULT_NAMES.split())

EVERYTHING = "ALL"


def normalize(name: str) -> str:
    """`net_admin`, `NET_ADMIN` and `CAP_NET_ADMIN` are one; `ALL` stays. Raises InvalidArgument for an unknown name."""
    upper = name.upper()
    if upper in (EVERYTHING, "CAP_ALL"):
        return EVERYTHING
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in ALL:
        raise InvalidArgument("capability", name, "no such capability; capabilities(7) lists them, ALL means every one")
    return full


def effective(
    *, add: Iterable[str], drop: Iterable[str], privileged: bool, available: frozenset[str] = frozenset(ALL)
) -> tuple[str, ...]:
    """The capabilities of a container's first process, in kernel order.

    `available` are those the engine itself holds: one it lacks cannot be given. A drop of a single capability beats
    an add of ALL, and the other way round, as in docker. Raises InvalidArgument for unknown names and for an add of
    one that the engine lacks.
    """
    added = {normalize(name) for name in add}
    dropped = {normalize(name) for name in drop}
    if privileged:
        return tuple(name for name in ALL if name in available)
    chosen = set(available) if EVERYTHING in added else set(DEFAULT & available)
    if EVERYTHING in dropped:
        chosen = set(available) if EVERYTHING in added else set()
    for name in sorted(added - {EVERYTHING}):
        if name not in available:
            raise InvalidArgument("capability", name, "the engine does not hold it, so it cannot give it")
        chosen.add(name)
    chosen -= dropped - added
    return tuple(name for name in ALL if name in chosen)
