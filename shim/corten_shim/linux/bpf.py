"""Device rules of a cgroup v2, as a BPF program: the last rule that fits decides.

Owns assembling and attaching it. Source: linux/bpf.h (struct bpf_cgroup_dev_ctx, union bpf_attr) and
Documentation/bpf/instruction-set.rst.
"""

from __future__ import annotations

import os
import struct

from corten_shim.linux import const
from corten_shim.linux.libc import pointer_to, system_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_EVERYTHING = 7

# Opcodes: class | source | operation.
_LOAD_WORD = 0x61
_AND_32 = 0x54
_SHIFT_RIGHT_32 = 0x74
_MOVE_REGISTER_32 = 0xBC
_MOVE_64 = 0xB7
_JUMP_UNEQUAL = 0x55
_JUMP_UNEQUAL_REGISTER = 0x5D
_EXIT = 0x95

# r1 is the context; these hold its fields once the prologue has run.
_SCRATCH, _TYPE, _WANTED, _MAJOR, _MINOR = 1, 2, 3, 4, 5


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, target | source << 4, offset, value)


def _prologue() -> list[bytes]:
    return [
        _instruction(_LOAD_WORD, _TYPE, 1, 0),
        _instruction(_AND_32, _TYPE, value=0xFFFF),
        _instruction(_LOAD_WORD, _WANTED, 1, 0),
        _instruction(_SHIFT_RIGHT_32, _WANTED, value=16),
        _instruction(_LOAD_WORD, _MAJOR, 1, 4),
        _instruction(_LOAD_WORD, _MINOR, 1, 8),
    ]


def _verdict(allow: bool) -> list[bytes]:
    return [_instruction(_MOVE_64, 0, value=int(allow)), _instruction(_EXIT)]


def _block(rule: dict[str, Any]) -> list[bytes]:
    """Tests that jump past the block where the rule does not fit, then its verdict."""
    tests: list[tuple[bytes, ...]] = []
    kind = _TYPES.get(rule.get("type", "a"))
    if kind is not None:
        tests.append((struct.pack("<BBhi", _JUMP_UNEQUAL, _TYPE, 0, kind),))
    access = sum(_ACCESS[letter] for letter in set(rule.get("access") or "rwm"))
    if access != _EVERYTHING:
        tests.append(
            (
                _instruction(_MOVE_REGISTER_32, _SCRATCH, _WANTED),
                _instruction(_AND_32, _SCRATCH, value=access),
                _instruction(_JUMP_UNEQUAL_REGISTER, _SCRATCH, _WANTED),
            )
        )
    for register, name in ((_MAJOR, "major"), (_MINOR, "minor")):
        number = rule.get(name)
        if number is not None and number >= 0:
            tests.append((_instruction(_JUMP_UNEQUAL, register, value=number),))
    body = [instruction for test in tests for instruction in test] + _verdict(bool(rule["allow"]))
    for index, instruction in enumerate(body):
        if instruction[0] in (_JUMP_UNEQUAL, _JUMP_UNEQUAL_REGISTER):
            code, registers, _, value = struct.unpack("<BBhi", instruction)
            body[index] = struct.pack("<BBhi", code, registers, len(body) - index - 1, value)
    return body


def device_program(rules: list[dict[str, Any]]) -> bytes:
    """The program for OCI `linux.resources.devices`: later rules win, and what none fits is denied."""
    instructions = _prologue()
    for rule in reversed(rules):
        block = _block(rule)
        instructions += block
        if len(block) == len(_verdict(False)):
            return b"".join(instructions)  # it fits everything; the verifier refuses what can never be reached
    return b"".join((*instructions, *_verdict(False)))


def attach_device_program(cgroup: int, program: bytes) -> None:
    """Load `program` and attach it to the cgroup directory `cgroup` (a descriptor); it lives as long as the cgroup."""
    code, code_address = pointer_to(program)
    license_text, license_address = pointer_to(b"Apache-2.0\0")
    attributes = struct.pack(
        "<IIQQIIQII", const.BPF_PROG_TYPE_CGROUP_DEVICE, len(program) // 8, code_address, license_address, 0, 0, 0, 0, 0
    )
    buffer, address = pointer_to(attributes.ljust(128, b"\0"))
    loaded = system_call("bpf", const.BPF_PROG_LOAD, buffer, 128, about="BPF_PROG_LOAD")
    del code, license_text, address
    try:
        request = struct.pack("<IIII", cgroup, loaded, const.BPF_CGROUP_DEVICE, const.BPF_F_ALLOW_MULTI)
        buffer, _ = pointer_to(request.ljust(128, b"\0"))
        system_call("bpf", const.BPF_PROG_ATTACH, buffer, 128, about="BPF_PROG_ATTACH")
    finally:
        os.close(loaded)
