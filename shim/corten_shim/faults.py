"""The faults that the process half raises, one function per sentence that recurs.

Owns wording and codes (google.rpc.Code). The class is the kernel half's `RuntimeFault`, so that a caller sees one kind.
"""

from __future__ import annotations

from corten_shim.linux.errors import RuntimeFault

INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION = 3, 5, 6, 9
UNIMPLEMENTED, INTERNAL, DATA_LOSS = 12, 13, 15


def invalid(kind: str, name: str, detail: str) -> RuntimeFault:
    return RuntimeFault(INVALID_ARGUMENT, kind, name, detail)


def not_found(kind: str, name: str, detail: str) -> RuntimeFault:
    return RuntimeFault(NOT_FOUND, kind, name, detail)


def already_exists(kind: str, name: str, detail: str) -> RuntimeFault:
    return RuntimeFault(ALREADY_EXISTS, kind, name, detail)


def precondition(kind: str, name: str, detail: str) -> RuntimeFault:
    return RuntimeFault(FAILED_PRECONDITION, kind, name, detail)


def unimplemented(kind: str, name: str, detail: str) -> RuntimeFault:
    return RuntimeFault(UNIMPLEMENTED, kind, name, detail)


def internal(kind: str, name: str, error: BaseException) -> RuntimeFault:
    """What nobody expected, with the kernel's words where it has any."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
    return RuntimeFault(INTERNAL, kind, name, text)
