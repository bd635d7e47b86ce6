"""cgroup v1: a hierarchy per controller, the container's directory in each of them.

Owns the names of v1's files. Source: kernel Documentation/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

import os
import time

from corten_shim.cgroups import files
from corten_shim.linux.errors import DEADLINE_EXCEEDED, RuntimeFault, from_oserror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FREEZE_SECONDS = 2.0
_LETTERS = {"a": "a", "c": "c", "b": "b"}
_mounts: dict[str, str] = {}


def hierarchies() -> dict[str, str]:
    """Mount point of each v1 controller, and of the named hierarchy "name=systemd"; read once."""
    if not _mounts:
        with open("/proc/self/mountinfo", "rb") as table:
            _mounts.update(parse_mountinfo(table.read().decode("utf-8", "surrogateescape")))
    return _mounts


def parse_mountinfo(text: str) -> dict[str, str]:
    """{controller: mount point} of the lines whose filesystem is "cgroup" (proc_pid_mountinfo(5))."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields = after.split()
        if len(fields) < 3 or fields[0] != "cgroup":
            continue
        place = before.split()[4]
        for option in fields[2].split(","):
            if option not in ("rw", "ro", "xattr", "clone_children", "noprefix"):
                found.setdefault(option, place)
    return found


class CgroupV1:
    """One container's directories. Two controllers may share a hierarchy."""

    __slots__ = ("_at", "_places", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._at = {name: mount + path for name, mount in hierarchies().items()}
        # cpuset first: no process may enter before its processors are set.
        self._places = sorted(set(self._at.values()), key=lambda place: place != self._at.get("cpuset"))

    def create(self, resources: dict[str, Any]) -> None:
        """Make the directories and set the limits of OCI `linux.resources`. Raises RuntimeFault with nothing left."""
        made: list[str] = []
        try:
            for place in self._places:
                os.makedirs(os.path.dirname(place), 0o755, exist_ok=True)
                files.make(place)
                made.append(place)
            self._inherit_cpuset()
            self._limit(resources)
        except (OSError, RuntimeFault) as error:
            for place in made:
                files.remove_tree(place)
            if isinstance(error, OSError):
                raise from_oserror("cgroup", self.path, error) from error
            raise

    def _inherit_cpuset(self) -> None:
        """A new cpuset is empty, and nobody may enter it: take what the nearest ancestor has."""
        place = self._at.get("cpuset")
        if place is None:
            return
        mount = hierarchies()["cpuset"]
        for name in ("cpuset.cpus", "cpuset.mems"):
            missing = []
            current = place
            while not (value := files.read(f"{current}/{name}").strip()) and current != mount:
                missing.append(current)
                current = os.path.dirname(current)
            for directory in reversed(missing):
                files.write(f"{directory}/{name}", value)

    def _limit(self, resources: dict[str, Any]) -> None:
        for rule in resources.get("devices") or ():
            self._set("devices", "devices.allow" if rule["allow"] else "devices.deny", device_line(rule))
        memory = resources.get("memory") or {}
        limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
        if limit:
            files.check_memory(limit)
            self._set("memory", "memory.limit_in_bytes", str(limit))
        if swap and os.path.exists(self._at.get("memory", "") + "/memory.memsw.limit_in_bytes"):
            self._set("memory", "memory.memsw.limit_in_bytes", str(swap))
        if memory.get("reservation"):
            self._set("memory", "memory.soft_limit_in_bytes", str(memory["reservation"]))
        cpu = resources.get("cpu") or {}
        for key, controller, name in (
            ("shares", "cpu", "cpu.shares"),
            ("period", "cpu", "cpu.cfs_period_us"),
            ("quota", "cpu", "cpu.cfs_quota_us"),
            ("cpus", "cpuset", "cpuset.cpus"),
            ("mems", "cpuset", "cpuset.mems"),
        ):
            if cpu.get(key):
                self._set(controller, name, str(cpu[key]))
        pids = (resources.get("pids") or {}).get("limit") or 0
        if pids:
            self._set("pids", "pids.max", str(pids) if pids > 0 else "max")

    def _set(self, controller: str, name: str, text: str) -> None:
        place = self._at.get(controller)
        files.write_limit(f"{place or '/nonexistent'}/{name}", text, name)

    def add(self, pid: int) -> None:
        """Move process `pid` (all its threads) in."""
        for place in self._places:
            files.write(f"{place}/cgroup.procs", str(pid))

    def join(self, *, beside: int = 0) -> None:
        """Move the calling process, which must have one thread, in; where process `beside` is does not matter here.

        A thread that writes "0" to `tasks` moves without the kernel's lock over all thread groups, whose writers wait
        for an RCU grace period: 0.3 ms for nine hierarchies where `add` takes 16.
        """
        for place in self._places:
            files.write(f"{place}/tasks", "0")

    def pids(self) -> list[int]:
        return files.descendants(self._tasks())

    def _tasks(self) -> str:
        return self._at.get("pids") or self._places[0]

    def freeze(self) -> None:
        """Stop every process, and return when all stand still. Raises RuntimeFault (DEADLINE_EXCEEDED)."""
        place = self._at["freezer"]
        deadline = time.monotonic() + FREEZE_SECONDS
        files.write(f"{place}/freezer.state", "FROZEN")
        while files.read(f"{place}/freezer.state").strip() != "FROZEN":
            if time.monotonic() > deadline:
                files.write(f"{place}/freezer.state", "THAWED")
                raise RuntimeFault(DEADLINE_EXCEEDED, "cgroup", self.path, "some process does not freeze")
            # A fork in the middle of freezing leaves it at FREEZING until it is asked again.
            files.write(f"{place}/freezer.state", "FROZEN")
            time.sleep(0.001)

    def thaw(self) -> None:
        files.write(f"{self._at['freezer']}/freezer.state", "THAWED")

    def kill(self) -> None:
        """SIGKILL every process; a frozen one dies when thawed."""
        victims = self.pids()
        frozen = self._at.get("freezer", "") + "/freezer.state"
        if victims and files.read(frozen).strip() == "FROZEN":
            files.write(frozen, "THAWED")
        for place in self._places if victims else ():
            files.kill_each(place)

    def remove(self) -> None:
        """Remove the directories and all below them; fine when they are gone."""
        for place in self._places:
            files.remove_tree(place)

    def oom_kills(self) -> int:
        """How many processes the kernel killed for want of memory; readable until `remove`."""
        place = self._at.get("memory")
        return files.counter(files.read(f"{place}/memory.oom_control"), "oom_kill") if place else 0


def device_line(rule: dict[str, Any]) -> str:
    """An OCI device rule as devices.allow and devices.deny take it: "c 1:3 rwm"."""
    kind = _LETTERS.get(rule.get("type") or "a", "a")
    access = rule.get("access") or "rwm"
    if kind == "a":
        return f"a *:* {access}"
    numbers = [rule.get(name) for name in ("major", "minor")]
    major, minor = ("*" if number is None or number < 0 else str(number) for number in numbers)
    return f"{kind} {major}:{minor} {access}"
