"""The `linux.resources` section: limits and the devices a container may touch.

Owns the default device list and how the record's numbers become the OCI's. Checks nothing that the container's
creation has checked already.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from cortend.domain.containers import Resources

CPU_PERIOD_US = 100_000


class DeviceNode(Protocol):
    """What this module needs of a device."""

    @property
    def kind(self) -> str: ...
    @property
    def major(self) -> int: ...
    @property
    def minor(self) -> int: ...
    @property
    def access(self) -> str: ...


def _rule(kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    if major is not None:
        rule["major"] = major
    if minor is not None:
        rule["minor"] = minor
    return rule


# Any node may be made (a layer may hold one), only these may be opened: null, zero, full, random, urandom, tty,
# console, ptmx and the terminals of the container's own devpts.
DEFAULT_DEVICES: tuple[dict[str, Any], ...] = (
    _rule("c", None, None, "m"),
    _rule("b", None, None, "m"),
    _rule("c", 1, 3, "rwm"),
    _rule("c", 1, 5, "rwm"),
    _rule("c", 1, 7, "rwm"),
    _rule("c", 1, 8, "rwm"),
    _rule("c", 1, 9, "rwm"),
    _rule("c", 5, 0, "rwm"),
    _rule("c", 5, 1, "rwm"),
    _rule("c", 5, 2, "rwm"),
    _rule("c", 136, None, "rwm"),
)


def device_rules(devices: Iterable[DeviceNode], *, privileged: bool) -> list[dict[str, Any]]:
    """Rules in the order they apply: first deny all (or, privileged, allow all), then what may be used."""
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    asked = [_rule(device.kind, device.major, device.minor, device.access) for device in devices]
    return [{"allow": False, "access": "rwm"}, *DEFAULT_DEVICES, *asked]


def linux_resources(resources: Resources, devices: Iterable[DeviceNode], *, privileged: bool) -> dict[str, Any]:
    """The section for `resources`; what is not limited is absent."""
    section: dict[str, Any] = {"devices": device_rules(devices, privileged=privileged)}
    memory: dict[str, int] = {}
    if resources.memory_bytes:
        memory["limit"] = resources.memory_bytes
        # As docker: with a limit and nothing said, as much swap as memory.
        memory["swap"] = resources.memory_swap_bytes or 2 * resources.memory_bytes
    if resources.memory_reservation_bytes:
        memory["reservation"] = resources.memory_reservation_bytes
    if memory:
        section["memory"] = memory
    cpu: dict[str, Any] = {}
    if resources.cpu_shares:
        cpu["shares"] = resources.cpu_shares
    if resources.cpu_nanos:
        cpu["period"] = CPU_PERIOD_US
        cpu["quota"] = max(1000, resources.cpu_nanos * CPU_PERIOD_US // 1_000_000_000)
    if resources.cpuset_cpus:
        cpu["cpus"] = resources.cpuset_cpus
    if resources.cpuset_mems:
        cpu["mems"] = resources.cpuset_mems
    if cpu:
        section["cpu"] = cpu
    if resources.pids_limit > 0:
        section["pids"] = {"limit": resources.pids_limit}
    return section
