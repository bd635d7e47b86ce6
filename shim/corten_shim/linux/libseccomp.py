"""libseccomp: names of system calls in, BPF out.

Owns its prototypes. Loaded only by the short-lived process that compiles a profile, never by a shim itself.
Source: seccomp.h of libseccomp 2.5, seccomp_rule_add(3), seccomp_export_bpf(3).
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALREADY_THERE = 17  # EEXIST, from seccomp_arch_add
BINARY_TREE = 2
_NATIVE = 0  # SCMP_ARCH_NATIVE
_NUMBERS = 1024  # no kernel is near it


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (("argument", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class Library:
    """The calls this project makes; a failure is an OSError with the library's errno."""

    _OPTIMIZE = 8  # SCMP_FLTATR_CTL_OPTIMIZE
    _UNKNOWN_CALL = -1  # __NR_SCMP_ERROR

    def __init__(self) -> None:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._init = library.seccomp_init
        self._init.restype = ctypes.c_void_p
        self._init.argtypes = (ctypes.c_uint32,)
        self._release = library.seccomp_release
        self._release.argtypes = (ctypes.c_void_p,)
        self._release.restype = None
        self._architecture_add = library.seccomp_arch_add
        self._architecture_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        self._resolve = library.seccomp_syscall_resolve_name
        self._resolve.argtypes = (ctypes.c_char_p,)
        self._name = library.seccomp_syscall_resolve_num_arch
        self._name.argtypes = (ctypes.c_uint32, ctypes.c_int)
        self._name.restype = ctypes.c_char_p
        self._attribute = library.seccomp_attr_set
        self._attribute.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
        self._rule_add = library.seccomp_rule_add_array
        self._rule_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
        self._export = library.seccomp_export_bpf
        self._export.argtypes = (ctypes.c_void_p, ctypes.c_int)

    def start(self, default_action: int) -> Any:
        """A filter for the native architecture; end it with `release`."""
        handle = self._init(default_action)
        if not handle:
            raise OSError(22, "libseccomp refuses the default action", hex(default_action))
        self._attribute(handle, self._OPTIMIZE, BINARY_TREE)
        return handle

    def release(self, handle: Any) -> None:
        self._release(handle)

    def add_architecture(self, handle: Any, token: int) -> None:
        _check(self._architecture_add(handle, token), hex(token), ALREADY_THERE)

    def number(self, name: str) -> int | None:
        """The number of a system call (negative for one of another architecture), None for an unknown name."""
        number = int(self._resolve(os.fsencode(name)))
        return None if number == self._UNKNOWN_CALL else number

    def newest(self) -> int:
        """The highest number of a system call that the library has a name for, on the native architecture."""
        return max(number for number in range(_NUMBERS) if self._name(_NATIVE, number))

    def add_rule(self, handle: Any, action: int, number: int, comparisons: list[tuple[int, int, int, int]]) -> None:
        array = (Comparison * len(comparisons))(*(Comparison(*values) for values in comparisons))
        _check(self._rule_add(handle, action, number, len(comparisons), array if comparisons else None), str(number))

    def export(self, handle: Any, fd: int) -> None:
        """Write the filter's BPF program to `fd`."""
        _check(self._export(handle, fd), "export")


def _check(result: int, about: str, *fine: int) -> None:
    if result < 0 and -result not in fine:
        raise OSError(-result, os.strerror(-result), about, None, "libseccomp")
