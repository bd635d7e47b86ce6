"""OCI seccomp sections become BPF programs; the programs are run here as an x86-64 kernel would."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import Any

import pytest
from corten_shim import seccomp
from corten_shim.linux.errors import RuntimeFault
from cortend.oci import seccomp_profile

X86_64, I386 = 0xC000003E, 0x40000003
ALLOW, ERRNO, KILL, LOG = 0x7FFF0000, 0x00050000, 0x00000000, 0x7FFC0000
NUMBERS = {"read": 0, "getpid": 39, "personality": 135, "clone": 56, "unshare": 272, "clone3": 435, "mount": 165}
NUMBERS["a call of the future"] = 1000


def run_filter(program: bytes, name: str, *arguments: int, architecture: int = X86_64) -> int:
    """What the filter returns for one call: classic BPF over struct seccomp_data (seccomp(2))."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", NUMBERS[name], architecture, 0, *padded)
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        match code:
            case 0x20:  # load a word
                accumulator = struct.unpack_from("<I", data, value)[0]
            case 0x54:  # and
                accumulator &= value
            case 0x05:  # jump
                at += value
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x25:
                at += if_true if accumulator > value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")


def compiled(section: dict[str, Any]) -> bytes:
    found = seccomp.prepare(section, "")
    assert found is not None
    return found.program


def section(*rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **fields}


def allow(*names: str, **fields: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **fields}


def argument(index: int, op: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": second}


def test_what_no_rule_names_gets_the_default() -> None:
    program = compiled(section(allow("read")))
    assert run_filter(program, "read") == ALLOW
    assert run_filter(program, "getpid") == ERRNO | errno.EPERM


def test_errors_carry_the_number_that_was_asked_for() -> None:
    rule = {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS}
    program = compiled(section(allow("read"), rule, defaultErrnoRet=errno.EACCES))
    assert run_filter(program, "getpid") == ERRNO | errno.ENOSYS
    assert run_filter(program, "mount") == ERRNO | errno.EACCES


def test_arguments_are_compared() -> None:
    program = compiled(section(allow("clone", args=[argument(0, "MASKED_EQ", 0x7E020000, 0)])))
    assert run_filter(program, "clone", 0x11) == ALLOW
    assert run_filter(program, "clone", 0x10000011) == ERRNO | errno.EPERM


def test_comparisons_of_one_argument_are_alternatives() -> None:
    program = compiled(section(allow("personality", args=[argument(0, "EQ", 0), argument(0, "EQ", 8)])))
    assert [run_filter(program, "personality", value) for value in (0, 8)] == [ALLOW, ALLOW]
    assert run_filter(program, "personality", 9) == ERRNO | errno.EPERM


def test_calls_of_an_architecture_that_is_not_listed_are_killed() -> None:
    program = compiled(section(allow("read"), architectures=["SCMP_ARCH_X86_64"]))
    assert run_filter(program, "read", architecture=I386) == KILL


def test_other_architectures_of_the_machine_have_their_own_numbers() -> None:
    program = compiled(section(allow("getpid"), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]))
    assert run_filter(program, "getpid") == ALLOW
    assert run_filter(program, "getpid", architecture=I386) == ERRNO | errno.EPERM  # 39 is mkdir there


def test_calls_that_the_library_does_not_know_are_left_out() -> None:
    program = compiled(section(allow("read", "call_of_the_future")))
    assert run_filter(program, "read") == ALLOW


def test_calls_too_new_to_be_named_do_not_exist() -> None:
    program = compiled(section(allow("read"), defaultErrnoRet=errno.EPERM))
    assert run_filter(program, "a call of the future") == ERRNO | errno.ENOSYS
    assert run_filter(program, "clone3") == ERRNO | errno.EPERM
    logged = compiled({**section(allow("read")), "defaultAction": "SCMP_ACT_LOG"})
    assert run_filter(logged, "a call of the future") == LOG


def test_the_default_profile_compiles_and_keeps_namespaces_closed() -> None:
    program = compiled(seccomp_profile.default([], "amd64"))
    assert len(program) < seccomp.MAX_PROGRAM
    assert run_filter(program, "read") == ALLOW
    assert run_filter(program, "unshare", 0x10000000) == ERRNO | errno.EPERM
    assert run_filter(program, "clone3") == ERRNO | errno.ENOSYS


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (section(defaultAction="SCMP_ACT_MAYBE"), "SCMP_ACT_MAYBE"),
        (section(architectures=["SCMP_ARCH_PDP11"]), "SCMP_ARCH_PDP11"),
        (section(allow("read", args=[argument(0, "LIKE", 1)])), "SCMP_CMP_LIKE"),
        (section(allow("read"), defaultErrnoRet=70000), "70000"),
        (section(allow("read"), flags=["SECCOMP_FILTER_FLAG_LOUD"]), "SECCOMP_FILTER_FLAG_LOUD"),
    ],
)
def test_what_is_wrong_with_a_section_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        seccomp.prepare(wrong, "")
    assert caught.value.name == named


def test_a_filter_is_kept_and_a_damaged_one_is_made_anew(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    first = seccomp.prepare(section(allow("read")), cache)
    (kept,) = Path(cache).iterdir()
    assert first is not None
    assert kept.read_bytes() == first.program
    assert Path(cache).stat().st_mode & 0o777 == 0o700
    for damage in (b"", first.program[:-3], b"\0" * (seccomp.MAX_PROGRAM + 8)):
        kept.write_bytes(damage)
        again = seccomp.prepare(section(allow("read")), cache)
        assert again is not None
        assert again.program == first.program
        assert kept.read_bytes() == first.program


def test_no_section_is_no_filter() -> None:
    assert seccomp.prepare(None, "") is None
