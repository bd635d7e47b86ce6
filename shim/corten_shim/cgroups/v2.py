"""cgroup v2: one hierarchy, controllers handed down from parent to child.

Owns the names of v2's files. Source: kernel Documentation/admin-guide/cgroup-v2.rst. A cgroup that hands controllers
down holds no processes itself, so containers and shims are leaves.
"""

from __future__ import annotations

import errno
import os
import time

from corten_shim.cgroups import files
from corten_shim.linux import bpf
from corten_shim.linux.errors import DEADLINE_EXCEEDED, RuntimeFault, from_oserror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROOT = "/sys/fs/cgroup"
FREEZE_SECONDS = 2.0
WANTED = ("cpu", "cpuset", "io", "memory", "pids")


class CgroupV2:
    """One container's directory."""

    __slots__ = ("_place", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._place = ROOT + path

    def create(self, resources: dict[str, Any]) -> None:
        """Make the directory and set the limits of OCI `linux.resources`. Raises RuntimeFault with nothing left."""
        try:
            delegate(os.path.dirname(self._place))
            files.make(self._place)
        except OSError as error:
            raise from_oserror("cgroup", self.path, error) from error
        try:
            self._limit(resources)
            self._allow_devices(resources.get("devices") or [])
        except (OSError, RuntimeFault) as error:
            self.remove()
            if isinstance(error, OSError):
                raise from_oserror("cgroup", self.path, error) from error
            raise

    def _limit(self, resources: dict[str, Any]) -> None:
        memory = resources.get("memory") or {}
        limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
        if limit:
            files.check_memory(limit)
            self._set("memory.max", _maximum(limit))
        if swap and os.path.exists(f"{self._place}/memory.swap.max"):
            # OCI counts memory and swap together, v2 swap alone.
            self._set("memory.swap.max", _maximum(swap if swap < 0 else max(0, swap - max(0, limit))))
        if memory.get("reservation"):
            self._set("memory.low", _maximum(memory["reservation"]))
        cpu = resources.get("cpu") or {}
        if cpu.get("shares"):
            self._set("cpu.weight", str(weight_of_shares(cpu["shares"])))
        if cpu.get("quota") or cpu.get("period"):
            self._set("cpu.max", f"{_maximum(cpu.get('quota') or -1)} {cpu.get('period') or 100_000}")
        for key in ("cpus", "mems"):
            if cpu.get(key):
                self._set(f"cpuset.{key}", str(cpu[key]))
        pids = (resources.get("pids") or {}).get("limit") or 0
        if pids:
            self._set("pids.max", _maximum(pids))
        for name, value in (resources.get("unified") or {}).items():
            self._set(name, str(value))

    def _set(self, name: str, text: str) -> None:
        files.write_limit(f"{self._place}/{os.path.basename(name)}", text, name)

    def _allow_devices(self, rules: list[dict[str, Any]]) -> None:
        if not rules:
            return
        fd = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            bpf.attach_device_program(fd, bpf.device_program(rules))
        finally:
            os.close(fd)

    def add(self, pid: int) -> None:
        """Move process `pid` (all its threads) in."""
        files.write(f"{self._place}/cgroup.procs", str(pid))

    def join(self, *, beside: int = 0) -> None:
        """Move the calling process, which must have one thread, in.

        A container that handed controllers down itself (systemd in it does) holds processes only further down: then to
        where process `beside` is.
        """
        try:
            files.write(f"{self._place}/cgroup.procs", "0")
        except OSError as error:
            if error.errno != errno.EBUSY or not beside:
                raise
            path = files.read(f"/proc/{beside}/cgroup").strip().removeprefix("0::")
            files.write(f"{ROOT}{path}/cgroup.procs", "0")

    def pids(self) -> list[int]:
        return files.descendants(self._place)

    def freeze(self) -> None:
        """Stop every process, and return when all stand still. Raises RuntimeFault (DEADLINE_EXCEEDED)."""
        files.write(f"{self._place}/cgroup.freeze", "1")
        deadline = time.monotonic() + FREEZE_SECONDS
        while not files.counter(files.read(f"{self._place}/cgroup.events"), "frozen"):
            if time.monotonic() > deadline:
                self.thaw()
                raise RuntimeFault(DEADLINE_EXCEEDED, "cgroup", self.path, "some process does not freeze")
            time.sleep(0.001)

    def thaw(self) -> None:
        files.write(f"{self._place}/cgroup.freeze", "0")

    def kill(self) -> None:
        """SIGKILL every process, in one step where the kernel has cgroup.kill (5.14)."""
        try:
            files.write(f"{self._place}/cgroup.kill", "1")
        except FileNotFoundError:
            files.kill_each(self._place)

    def remove(self) -> None:
        """Remove the directory and all below it; fine when it is gone."""
        files.remove_tree(self._place)

    def oom_kills(self) -> int:
        """How many processes the kernel killed for want of memory; readable until `remove`."""
        return files.counter(files.read(f"{self._place}/memory.events"), "oom_kill")


def delegate(place: str) -> None:
    """Make `place` and hand every controller we want down to its children, from the root on."""
    current = ROOT
    for part in ("", *place.removeprefix(ROOT).strip("/").split("/")):
        if part:
            current = f"{current}/{part}"
            if not os.path.isdir(current):
                os.makedirs(current, 0o755, exist_ok=True)
        available = set(files.read(f"{current}/cgroup.controllers").split())
        enabled = set(files.read(f"{current}/cgroup.subtree_control").split())
        missing = [name for name in WANTED if name in available - enabled]
        if missing:
            files.write(f"{current}/cgroup.subtree_control", " ".join(f"+{name}" for name in missing))


def weight_of_shares(shares: int) -> int:
    """cpu.weight (1..10000) for v1's cpu.shares (2..262144), as the OCI runtimes convert it."""
    bounded = min(max(shares, 2), 262_144)
    return 1 + (bounded - 2) * 9999 // 262_142


def _maximum(value: int) -> str:
    return "max" if value < 0 else str(value)
