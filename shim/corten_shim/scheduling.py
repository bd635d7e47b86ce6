"""How a process is scheduled: processors, policy, I/O class, memory policy, personality.

Owns these operations and the names that OCI has for their numbers.
Source: runtime-spec config.md "Scheduler", "I/O Priority"; config-linux.md "Personality", "Memory policy"; sched(7),
ioprio_set(2), set_mempolicy(2), personality(2).
"""

from __future__ import annotations

import os
import struct

from corten_shim.linux.errors import INVALID_ARGUMENT, RuntimeFault
from corten_shim.linux.libc import bytes_buffer, system_call
from corten_shim.operations import Operation, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
_SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # struct sched_attr, version 0
_IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_IO_CLASS_SHIFT = 13
_DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}
_MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
_MEMORY_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}
_MOST = 8192  # processors and nodes


class Affinity(Operation):
    """Run on `processors` only."""

    __slots__ = ("processors",)
    processors: tuple[int, ...]

    def subject(self) -> tuple[str, str]:
        return "execCPUAffinity", ",".join(map(str, self.processors))

    def perform(self, world: World) -> None:
        os.sched_setaffinity(0, self.processors)


class Scheduler(Operation):
    """`attributes` is a struct sched_attr."""

    __slots__ = ("policy", "attributes")  # noqa: RUF023 - the order of the arguments
    policy: str
    attributes: bytes

    def subject(self) -> tuple[str, str]:
        return "scheduler", self.policy

    def perform(self, world: World) -> None:
        system_call("sched_setattr", 0, bytes_buffer(self.attributes), 0, about=self.policy)


class IoPriority(Operation):
    __slots__ = ("name", "value")
    name: str
    value: int

    def subject(self) -> tuple[str, str]:
        return "ioPriority", self.name

    def perform(self, world: World) -> None:
        system_call("ioprio_set", 1, 0, self.value, about=self.name)  # IOPRIO_WHO_PROCESS


class Personality(Operation):
    __slots__ = ("domain", "value")
    domain: str
    value: int

    def subject(self) -> tuple[str, str]:
        return "personality", self.domain

    def perform(self, world: World) -> None:
        system_call("personality", self.value, about=self.domain)


class MemoryPolicy(Operation):
    """`mask` has a bit for each node."""

    __slots__ = ("mode", "value", "mask")  # noqa: RUF023 - the order of the arguments
    mode: str
    value: int
    mask: bytes

    def subject(self) -> tuple[str, str]:
        return "memoryPolicy", self.mode

    def perform(self, world: World) -> None:
        mask = bytes_buffer(self.mask) if self.mask else 0
        system_call("set_mempolicy", self.value, mask, 8 * len(self.mask) + 1 if self.mask else 0, about=self.mode)


def plan(spec: dict[str, Any], process: dict[str, Any], *, is_exec: bool) -> tuple[Operation, ...]:
    """The operations that the spec and its process ask for. Raises RuntimeFault."""
    found: list[Operation] = []
    linux = spec.get("linux") or {}
    if linux.get("memoryPolicy"):
        found.append(_memory_policy(linux["memoryPolicy"]))
    if linux.get("personality"):
        found.append(_personality(linux["personality"]))
    if process.get("scheduler"):
        found.append(_scheduler(process["scheduler"]))
    if process.get("ioPriority"):
        found.append(_io_priority(process["ioPriority"]))
    final = (process.get("execCPUAffinity") or {}).get("final")
    if is_exec and final:
        found.append(Affinity(numbers("execCPUAffinity.final", final)))
    return tuple(found)


def initial_affinity(process: dict[str, Any]) -> tuple[int, ...]:
    """The processors an exec'd process begins on, before it joins its cgroup; none where nothing is said."""
    text = (process.get("execCPUAffinity") or {}).get("initial")
    return numbers("execCPUAffinity.initial", text) if text else ()


def numbers(kind: str, text: str) -> tuple[int, ...]:
    """ "0-2,7" as numbers. Raises RuntimeFault."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise RuntimeFault(INVALID_ARGUMENT, kind, text[:80], 'a list such as "0-2,7" is needed')
        low, high = int(first), int(last or first)
        if high < low or high >= _MOST:
            raise RuntimeFault(INVALID_ARGUMENT, kind, text[:80], f"numbers go up, and to {_MOST - 1} at most")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def _scheduler(wish: dict[str, Any]) -> Operation:
    name = wish["policy"]
    policy = _known(_POLICIES, name, "scheduler.policy")
    nice, priority = wish.get("nice") or 0, wish.get("priority") or 0
    runtime, deadline, period = (wish.get(each) or 0 for each in ("runtime", "deadline", "period"))
    if not -20 <= nice <= 19:
        raise RuntimeFault(INVALID_ARGUMENT, "scheduler.nice", str(nice), "-20 to 19 is possible")
    if name not in ("SCHED_OTHER", "SCHED_BATCH") and nice:
        raise RuntimeFault(INVALID_ARGUMENT, "scheduler.nice", str(nice), f"{name} has none")
    if name in ("SCHED_FIFO", "SCHED_RR"):
        if not 1 <= priority <= 99:
            raise RuntimeFault(INVALID_ARGUMENT, "scheduler.priority", str(priority), "1 to 99 is possible")
    elif priority:
        raise RuntimeFault(INVALID_ARGUMENT, "scheduler.priority", str(priority), f"{name} has none")
    if name != "SCHED_DEADLINE" and (runtime or deadline or period):
        raise RuntimeFault(INVALID_ARGUMENT, "scheduler.runtime", str(runtime), f"{name} has no deadlines")
    flags = sum(_known(_SCHEDULER_FLAGS, flag, "scheduler.flags") for flag in set(wish.get("flags") or ()))
    packed = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, flags, nice, priority, runtime, deadline, period)
    return Scheduler(name, packed)


def _io_priority(wish: dict[str, Any]) -> Operation:
    kind = _known(_IO_CLASSES, wish["class"], "ioPriority.class")
    priority = wish.get("priority") or 0
    if not 0 <= priority <= 7:
        raise RuntimeFault(INVALID_ARGUMENT, "ioPriority.priority", str(priority), "0 to 7 is possible")
    return IoPriority(wish["class"], kind << _IO_CLASS_SHIFT | priority)


def _personality(wish: dict[str, Any]) -> Operation:
    if wish.get("flags"):
        raise RuntimeFault(INVALID_ARGUMENT, "personality.flags", str(wish["flags"])[:80], "no flags are known")
    return Personality(wish["domain"], _known(_DOMAINS, wish["domain"], "personality.domain"))


def _memory_policy(wish: dict[str, Any]) -> Operation:
    mode = _known(_MEMORY_MODES, wish["mode"], "memoryPolicy.mode")
    for flag in set(wish.get("flags") or ()):
        mode |= _known(_MEMORY_FLAGS, flag, "memoryPolicy.flags")
    nodes = numbers("memoryPolicy.nodes", wish["nodes"]) if wish.get("nodes") else ()
    mask = sum(1 << node for node in nodes)
    length = (max(nodes) // 64 + 1) * 8 if nodes else 0
    return MemoryPolicy(wish["mode"], mode, mask.to_bytes(length, "little"))


def _known(table: dict[str, int], name: str, kind: str) -> int:
    value = table.get(name)
    if value is None:
        raise RuntimeFault(INVALID_ARGUMENT, kind, str(name)[:80], f"one of {', '.join(table)}")
    return value
