"""The C library: prototypes, set once, and the one place where a failed call becomes an OSError.

Owns ctypes. An error carries errno, the path or name it was about (`filename`) and the call (`filename2`).
EINTR is retried here and nowhere else.
"""

from __future__ import annotations

import ctypes
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

# Calls newer than 2019 have one number everywhere; older ones are looked up by machine (asm/unistd.h).
_NUMBERS = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}
_OLDER = {
    "x86_64": {
        "capset": 126,
        "personality": 135,
        "pivot_root": 155,
        "set_mempolicy": 238,
        "keyctl": 250,
        "ioprio_set": 251,
        "sched_setattr": 314,
        "seccomp": 317,
        "bpf": 321,
    },
    "aarch64": {
        "ioprio_set": 30,
        "pivot_root": 41,
        "capset": 91,
        "personality": 92,
        "keyctl": 219,
        "set_mempolicy": 237,
        "sched_setattr": 274,
        "seccomp": 277,
        "bpf": 280,
    },
}
_OLDER["riscv64"] = _OLDER["aarch64"]  # both have the numbers of asm-generic
_NUMBERS.update(_OLDER.get(os.uname().machine, {}))

_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def prototype(name: str, *arguments: Any) -> Callable[..., int]:
    """The function `name` of the C library, returning int."""
    function = getattr(_libc, name)
    function.argtypes = arguments
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


def check(result: int, call: str, name: str | bytes | int | None = None) -> int:
    """`result`, or an OSError for -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name if isinstance(name, str | bytes) else call, None, call)
    return result


def retried(function: Callable[..., int], *arguments: Any) -> int:
    """The result of `function`, called again while a signal interrupts it."""
    while True:
        result = function(*arguments)
        if result != -1 or ctypes.get_errno() != errno.EINTR:
            return result


def system_call(call: str, *arguments: Any, about: str | bytes | None = None) -> int:
    """Make `call` with integers, bytes or pointers. Raises OSError; ENOSYS where this machine has no such call."""
    number = _NUMBERS.get(call)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), about or call, None, call)
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return check(retried(_syscall, ctypes.c_long(number), *wide), call, about)


class OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class CapabilityData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class SocketFilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.c_char_p))


class _Statfs(ctypes.Structure):
    # struct statfs of statfs(2) on 64-bit machines; only the type is read.
    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_long * 31))


_fstatfs = prototype("fstatfs", ctypes.c_int, ctypes.POINTER(_Statfs))
_mount = prototype("mount", ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_umount2 = prototype("umount2", ctypes.c_char_p, ctypes.c_int)
_unshare = prototype("unshare", ctypes.c_int)
_setns = prototype("setns", ctypes.c_int, ctypes.c_int)
_prctl = prototype("prctl", ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_syncfs = prototype("syncfs", ctypes.c_int)
_plain_prctl = _libc["prctl"]  # an object of its own, with no prototype
_setdomainname = prototype("setdomainname", ctypes.c_char_p, ctypes.c_size_t)


def fstatfs_type(fd: int) -> int:
    """The magic number of the filesystem that `fd` is on (statfs(2))."""
    buffer = _Statfs()
    check(retried(_fstatfs, fd, ctypes.byref(buffer)), "fstatfs")
    return int(buffer.f_type) & 0xFFFFFFFF


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    arguments = (os.fsencode(source), os.fsencode(target), os.fsencode(kind), flags, os.fsencode(data) or None)
    check(_mount(*arguments), "mount", target)


def umount2(path: str, flags: int = 0) -> None:
    """Detach the mount at `path` (umount2(2)). Raises OSError: EINVAL if it is not a mount point."""
    check(_umount2(os.fsencode(path), flags), "umount2", path)


def unshare(flags: int) -> None:
    """Leave the namespaces of `flags` for new ones (unshare(2))."""
    check(_unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Join the namespaces of `fd`: a namespace file, or a pidfd and several CLONE_NEW* (setns(2))."""
    check(_setns(fd, flags), "setns")


def prctl(option: int, first: int = 0, second: int = 0, third: int = 0, fourth: int = 0) -> int:
    """prctl(2) with numbers."""
    return check(_prctl(option, first, second, third, fourth), "prctl")


def become_subreaper() -> None:
    """Adopt the orphans among one's descendants (prctl(2), PR_SET_CHILD_SUBREAPER).

    Not through `prctl`: each shim does this, and what the conversion of arguments writes to would be its own memory.
    """
    check(_plain_prctl(36, 1, 0, 0, 0), "prctl")


def die_with_parent(number: int) -> None:
    """Be sent signal `number` when the parent dies; 0: do not (prctl(2), PR_SET_PDEATHSIG). As above."""
    check(_plain_prctl(1, number, 0, 0, 0), "prctl")


def syncfs(fd: int) -> None:
    """Have everything written to the filesystem that `fd` is on reach its disk (syncfs(2))."""
    check(retried(_syncfs, fd), "syncfs")


def setdomainname(name: str) -> None:
    """The NIS domain of this UTS namespace (setdomainname(2))."""
    encoded = os.fsencode(name)
    check(_setdomainname(encoded, len(encoded)), "setdomainname", name)


def by_reference(structure: ctypes.Structure) -> Any:
    """A pointer to `structure`, for `system_call`."""
    return ctypes.byref(structure)


def size_of(structure: ctypes.Structure) -> int:
    return ctypes.sizeof(structure)


def bytes_buffer(data: bytes) -> Any:
    """A copy of `data` in memory, for `system_call`."""
    return ctypes.create_string_buffer(data, len(data))


def pointer_to(data: bytes) -> tuple[Any, int]:
    """(buffer, address) of a copy of `data`; the address holds as long as the buffer is referenced."""
    buffer = ctypes.create_string_buffer(data, len(data))
    return buffer, ctypes.addressof(buffer)
