"""Seccomp filters: an OCI `linux.seccomp` section in, a BPF program out.

Owns the translation and the cache of compiled programs. Compiling is done by a child that ends right after, so that
libseccomp never weighs on a shim; the cache is a directory that only root can write.
"""

from __future__ import annotations

import errno
import marshal
import os
import struct

try:  # hashlib would load OpenSSL into every shim
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:
    from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12 and later

from corten_shim.linux.errors import INTERNAL, INVALID_ARGUMENT, RuntimeFault, from_oserror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CACHE_VERSION = "3"
MAX_PROGRAM = 4096 * 8  # BPF_MAXINSNS
_ERRNO_MASK = 0xFFFF

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
ARCHITECTURES = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_PPC64LE": 0xC0000015,
    "SCMP_ARCH_S390": 0x00000016,
    "SCMP_ARCH_S390X": 0x80000016,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
}
# AUDIT_ARCH_* of linux/audit.h, which are libseccomp's numbers too.
_NATIVE = {
    "x86_64": ARCHITECTURES["SCMP_ARCH_X86_64"],
    "aarch64": ARCHITECTURES["SCMP_ARCH_AARCH64"],
    "riscv64": ARCHITECTURES["SCMP_ARCH_RISCV64"],
}
_X32_BIT = 0x40000000
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}


class Filter:
    """A compiled program and the flags to load it with."""

    __slots__ = ("flags", "program")

    def __init__(self, program: bytes, flags: int) -> None:
        self.program = program
        self.flags = flags


def prepare(section: dict[str, Any] | None, cache: str) -> Filter | None:
    """The filter of an OCI section, from the cache directory or compiled into it. None for no section.

    `cache` "" means not to keep it. Raises RuntimeFault naming what the section gets wrong.
    """
    if not section:
        return None
    flags = sum(_known(FLAGS, name, "seccomp flag") for name in set(section.get("flags") or ()))
    key = _key(section)
    path = f"{cache}/{key}.bpf" if cache else ""
    if path:
        try:
            with open(path, "rb") as kept:
                program = kept.read(MAX_PROGRAM + 1)
            if _is_whole(program):  # a crash may have left an empty file, and no filter must not pass for one
                return Filter(program, flags)
        except FileNotFoundError:
            os.makedirs(cache, 0o700, exist_ok=True)
    program = _compile_in_child(section)
    if path:
        _keep(path, program)
    return Filter(program, flags)


def _key(section: dict[str, Any]) -> str:
    # marshal's version 2 writes no references: the same section is the same bytes, ten times faster than JSON.
    text = marshal.dumps([CACHE_VERSION, os.uname().machine, section], 2)
    return str(sha256(text).hexdigest())


def _is_whole(program: bytes) -> bool:
    return 0 < len(program) <= MAX_PROGRAM and len(program) % 8 == 0


def _keep(path: str, program: bytes) -> None:
    scratch = f"{path}.{os.getpid()}"
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, program)
    finally:
        os.close(fd)
    os.rename(scratch, path)


def _compile_in_child(section: dict[str, Any]) -> bytes:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _compile_and_exit(section, writer)
    os.close(writer)
    pieces = []
    with open(reader, "rb", buffering=0) as answer:
        while piece := answer.read(65536):
            pieces.append(piece)
    _, status = os.waitpid(child, 0)
    text = b"".join(pieces)
    if os.waitstatus_to_exitcode(status) != 0:
        kind, name, detail = [*text.decode("utf-8", "replace").split("\0"), "", "", ""][:3]
        raise RuntimeFault(INVALID_ARGUMENT if kind else INTERNAL, kind or "seccomp", name, detail or "no filter")
    if not _is_whole(text):
        raise RuntimeFault(INVALID_ARGUMENT, "seccomp", "", f"the filter has {len(text) // 8} instructions; 4096 fit")
    return text


def _compile_and_exit(section: dict[str, Any], fd: int) -> None:
    status = 1
    try:
        compile_to(section, fd)
        status = 0
    except RuntimeFault as fault:
        os.write(fd, f"{fault.kind}\0{fault.name}\0{fault.detail}".encode("utf-8", "replace"))
    except BaseException as error:
        os.write(fd, f"seccomp\0\0{error}".encode("utf-8", "replace"))
    finally:
        os._exit(status)


def compile_to(section: dict[str, Any], fd: int) -> None:
    """Write the BPF program of `section` to `fd`. System calls that this libseccomp does not know are left out."""
    from corten_shim.linux.libseccomp import Library

    library = Library()
    default = _action(section, section.get("defaultAction"), section.get("defaultErrnoRet"))
    handle = library.start(default)
    try:
        for name in section.get("architectures") or ():
            library.add_architecture(handle, _known(ARCHITECTURES, name, "seccomp architecture"))
        for rule in section.get("syscalls") or ():
            action = _action(rule, rule.get("action"), rule.get("errnoRet"))
            if action == default:
                continue  # libseccomp refuses what changes nothing
            sets = _comparison_sets(rule.get("args") or [])
            for name in rule.get("names") or ():
                number = library.number(name)
                for comparisons in sets if number is not None else ():
                    library.add_rule(handle, action, number or 0, comparisons)
        if default & ~_ERRNO_MASK == ACTIONS["SCMP_ACT_ERRNO"]:
            os.write(fd, unknown_calls(os.uname().machine, library.newest()))
        library.export(handle, fd)
    except OSError as error:
        raise from_oserror("seccomp", str(error.filename or ""), error) from error
    finally:
        library.release(handle)


def unknown_calls(machine: str, newest: int) -> bytes:
    """Instructions to go before a filter: calls above `newest`, which no profile could name, fail with ENOSYS.

    A C library that tries a new call first falls back on ENOSYS only; EPERM it would hand on (a chmod that fails on a
    new kernel). To a filter that cannot name a call, it does not exist.
    """
    native = _NATIVE.get(machine)
    if native is None:
        return b""
    program = (
        (0x20, 0, 0, 4),  # A = arch
        (0x15, 0, 4, native),  # another one: leave it to the filter
        (0x20, 0, 0, 0),  # A = number of the call
        (0x25, 0, 2, newest),
        (0x35, 1, 0, _X32_BIT),
        (0x06, 0, 0, ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS),
    )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _known(table: dict[str, int], name: object, kind: str) -> int:
    value = table.get(name) if isinstance(name, str) else None
    if value is None:
        raise RuntimeFault(INVALID_ARGUMENT, kind, str(name), f"one of {', '.join(table)}")
    return value


def _action(rule: dict[str, Any], name: object, errno_value: object) -> int:
    value = _known(ACTIONS, name, "seccomp action")
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        number = 1 if errno_value is None else errno_value  # EPERM, as the OCI runtimes take it
        if not isinstance(number, int) or not 0 <= number <= _ERRNO_MASK:
            raise RuntimeFault(INVALID_ARGUMENT, "seccomp errno", str(errno_value), "0 to 65535")
        value |= number
    return value


def _comparison_sets(arguments: list[dict[str, Any]]) -> list[list[tuple[int, int, int, int]]]:
    """All comparisons of a rule hold together, but several on one argument are alternatives, as in runc."""
    comparisons = [
        (
            int(argument["index"]),
            _known(OPERATORS, argument.get("op"), "seccomp operator"),
            int(argument.get("value") or 0),
            int(argument.get("valueTwo") or 0),
        )
        for argument in arguments
    ]
    indexes = [comparison[0] for comparison in comparisons]
    if len(set(indexes)) < len(indexes):
        return [[comparison] for comparison in comparisons]
    return [comparisons]
