"""What goes wrong below a container, with the data that a user needs to see.

Owns the one exception of the native runtime. `code` is a google.rpc.Code, so that the ttrpc side can pass it on.
"""

from __future__ import annotations

import errno
import os

INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
ALREADY_EXISTS = 6
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
UNIMPLEMENTED = 12
INTERNAL = 13

_CODES = {
    errno.ENOENT: NOT_FOUND,
    errno.ENOTDIR: INVALID_ARGUMENT,
    errno.EINVAL: INVALID_ARGUMENT,
    errno.ELOOP: INVALID_ARGUMENT,
    errno.ENAMETOOLONG: INVALID_ARGUMENT,
    errno.EACCES: PERMISSION_DENIED,
    errno.EPERM: PERMISSION_DENIED,
    errno.EROFS: PERMISSION_DENIED,
    errno.ENOSPC: RESOURCE_EXHAUSTED,
    errno.EMFILE: RESOURCE_EXHAUSTED,
    errno.ENFILE: RESOURCE_EXHAUSTED,
    errno.EAGAIN: RESOURCE_EXHAUSTED,
    errno.ENOMEM: RESOURCE_EXHAUSTED,
    errno.EBUSY: FAILED_PRECONDITION,
}


class RuntimeFault(Exception):
    """`kind` is the noun that was wrong, `name` its value, `detail` what is wrong with it."""

    def __init__(self, code: int, kind: str, name: str, detail: str) -> None:
        super().__init__(code, kind, name, detail)
        self.code = code
        self.kind = kind
        self.name = name
        self.detail = detail

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}": {self.detail}'


def from_oserror(kind: str, name: str, error: OSError) -> RuntimeFault:
    """A fault for a failed system call; the call's name, where `linux` put it there, is part of the detail."""
    number = error.errno or 0
    call = f"{error.filename2}: " if isinstance(error.filename2, str) else ""
    return RuntimeFault(_CODES.get(number, INTERNAL), kind, name, f"{call}{os.strerror(number)}")
