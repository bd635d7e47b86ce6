"""Processes: handles that cannot be mistaken, capabilities, keyrings, filters."""

from __future__ import annotations

import os
import signal

from corten_shim.linux import const
from corten_shim.linux.libc import (
    CapabilityData,
    CapabilityHeader,
    SocketFilterProgram,
    by_reference,
    prctl,
    system_call,
)

_CAPABILITY_VERSION_3 = 0x20080522
EVERY_CAPABILITY = (1 << 64) - 1


def pidfd_open(pid: int) -> int:
    """A handle for process `pid`; ready to read when it has ended (pidfd_open(2))."""
    return os.pidfd_open(pid, 0)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Send a signal to the process of `pidfd`. Raises ProcessLookupError once it was reaped."""
    signal.pidfd_send_signal(pidfd, number)


def set_dumpable(value: bool) -> None:
    """Whether others of the same user may trace this process and open what its /proc links lead to."""
    prctl(const.PR_SET_DUMPABLE, int(value))


def set_name(name: str) -> None:
    """What ps shows as the command, up to 15 bytes (proc_pid_comm(5))."""
    fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, name.encode())
    os.close(fd)


def become_subreaper() -> None:
    """Orphans below this process become its children (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    prctl(const.PR_SET_CHILD_SUBREAPER, 1)


def set_capabilities(*, effective: int, permitted: int, inheritable: int) -> None:
    """The three sets of this thread as bit masks (capset(2))."""
    header = CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = (CapabilityData * 2)()
    for word in (0, 1):
        shift = 32 * word
        data[word].effective = effective >> shift & 0xFFFFFFFF
        data[word].permitted = permitted >> shift & 0xFFFFFFFF
        data[word].inheritable = inheritable >> shift & 0xFFFFFFFF
    system_call("capset", by_reference(header), by_reference(data))  # type: ignore[arg-type]


def permitted_capabilities(proc: int, name: str = "self/status") -> int:
    """What this process may have as bits; `name` is its status below descriptor `proc` (proc_pid_status(5), CapPrm)."""
    status = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        text = os.read(status, 8192)
    finally:
        os.close(status)
    _, _, rest = text.partition(b"CapPrm:")
    return int(rest.split(None, 1)[0], 16)


def bound_capabilities(mask: int, last: int) -> None:
    """Drop from the bounding set every capability up to `last` that `mask` lacks."""
    for number in range(last + 1):
        if not mask >> number & 1:
            prctl(const.PR_CAPBSET_DROP, number)


def set_ambient(mask: int, last: int) -> None:
    """The ambient set; each must be permitted and inheritable already."""
    prctl(const.PR_CAP_AMBIENT, const.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(last + 1):
        if mask >> number & 1:
            prctl(const.PR_CAP_AMBIENT, const.PR_CAP_AMBIENT_RAISE, number)


def act_as(uid: int, gid: int) -> None:
    """Become `uid` and `gid`, with all capabilities that were permitted before, and no way back."""
    permitted = permitted_capabilities(const.AT_FDCWD, "/proc/self/status")
    prctl(const.PR_SET_KEEPCAPS, 1)
    os.setgroups(())
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    set_capabilities(effective=permitted, permitted=permitted, inheritable=0)


def join_session_keyring(name: str) -> None:
    """A new, empty session keyring, so that the keys of who started us are out of reach (keyctl(2))."""
    system_call("keyctl", const.KEYCTL_JOIN_SESSION_KEYRING, os.fsencode(name), about=name)


def load_seccomp(program: bytes, flags: int) -> None:
    """Install a compiled filter: `program` is an array of struct sock_filter, 8 bytes each (seccomp(2))."""
    compiled = SocketFilterProgram(len(program) // 8, program)
    system_call("seccomp", const.SECCOMP_SET_MODE_FILTER, flags, by_reference(compiled))
