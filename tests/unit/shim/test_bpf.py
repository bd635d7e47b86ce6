"""Device rules as a BPF program, run here by a small interpreter of the instructions that the assembler uses."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from corten_shim.linux.bpf import device_program
from cortend.oci.linux_resources import device_rules
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BLOCK, CHARACTER = 1, 2
MAKE, READ, WRITE = 1, 2, 4


def decide(program: bytes, kind: int, access: int, major: int, minor: int) -> tuple[bool, set[int]]:
    """The verdict, and which instructions were reached."""
    registers = {1: 0}
    context = {0: kind | access << 16, 4: major, 8: minor}
    reached: set[int] = set()
    at = 0
    while True:
        reached.add(at)
        code, named, offset, value = struct.unpack_from("<BBhi", program, at * 8)
        target, source = named & 15, named >> 4
        at += 1
        match code:
            case 0x61:
                registers[target] = context[offset]
            case 0x54:
                registers[target] &= value
            case 0x74:
                registers[target] >>= value
            case 0xBC:
                registers[target] = registers[source]
            case 0xB7:
                registers[target] = value
            case 0x55:
                at += offset if registers[target] != value else 0
            case 0x5D:
                at += offset if registers[target] != registers[source] else 0
            case 0x95:
                return bool(registers[0]), reached
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")


def fits(rule: dict[str, Any], kind: int, access: int, major: int, minor: int) -> bool:
    letters = {"m": MAKE, "r": READ, "w": WRITE}
    allowed = sum(letters[letter] for letter in rule.get("access") or "rwm")
    return (
        rule.get("type", "a") in ("a", {BLOCK: "b", CHARACTER: "c"}[kind])
        and access & ~allowed == 0
        and rule.get("major", -1) in (-1, major)
        and rule.get("minor", -1) in (-1, minor)
    )


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": draw(st.booleans())}
    rule |= draw(st.sampled_from([{}, {"type": "a"}, {"type": "b"}, {"type": "c"}]))
    rule |= draw(st.sampled_from([{}, *({"access": access} for access in ("r", "w", "m", "rw", "rwm"))]))
    rule |= draw(st.sampled_from([{}, {"major": -1}, {"major": 1}, {"major": 8}]))
    return rule | draw(st.sampled_from([{}, {"minor": -1}, {"minor": 3}]))


REQUESTS = [
    (kind, access, major, minor)
    for kind in (BLOCK, CHARACTER)
    for access in (READ, WRITE, MAKE, READ | WRITE)
    for major in (1, 8)
    for minor in (3, 5)
]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # it runs under emulation too
@given(st.lists(rules(), max_size=6))
def test_the_last_rule_that_fits_decides_and_nothing_is_unreachable(listed: list[dict[str, Any]]) -> None:
    program = device_program(listed)
    for request in REQUESTS:
        wanted = next((rule["allow"] for rule in reversed(listed) if fits(rule, *request)), False)
        assert decide(program, *request)[0] == wanted
    assert not after_unconditional_exit(program)


def after_unconditional_exit(program: bytes) -> set[int]:
    """Instructions no path leads to: the kernel's verifier refuses a program that has any."""
    count = len(program) // 8
    reached, todo = set[int](), [0]
    while todo:
        at = todo.pop()
        if at in reached or at >= count:
            continue
        reached.add(at)
        code, _, offset, _ = struct.unpack_from("<BBhi", program, at * 8)
        if code != 0x95:
            todo.append(at + 1)
        if code in (0x55, 0x5D):
            todo.append(at + 1 + offset)
    return set(range(count)) - reached


@pytest.mark.parametrize(
    ("request_", "allowed"),
    [
        ((CHARACTER, READ | WRITE, 1, 3), True),
        ((CHARACTER, READ, 136, 7), True),
        ((BLOCK, MAKE, 8, 0), True),
        ((BLOCK, READ, 8, 0), False),
        ((CHARACTER, WRITE, 1, 1), False),
    ],
)
def test_the_default_rules_allow_nodes_to_be_made_but_only_the_usual_ones_to_be_opened(
    request_: tuple[int, int, int, int], allowed: bool
) -> None:
    assert decide(device_program(device_rules([], privileged=False)), *request_)[0] is allowed
