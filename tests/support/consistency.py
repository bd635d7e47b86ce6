"""Whether an engine's records and the kernel agree: every container is whole, and nothing is there without its owner.

Owns the comparison. Who killed what before is the caller's business.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from corten_api.v1 import containers_pb2, snapshots_pb2

from tests.support import leftovers
from tests.support.daemon import Daemon

HELPERS = ("corten-zygote", "corten-spare", "corten-builder")  # an engine has one of each
_LIVE = (containers_pb2.CONTAINER_STATUS_RUNNING, containers_pb2.CONTAINER_STATUS_PAUSED)


def disagreements(daemon: Daemon, *, seconds: float = 8) -> list[str]:
    """What still does not fit after at most `seconds`, described."""
    return leftovers.gone(lambda: _look(daemon), seconds=seconds)


def descriptors(daemon: Daemon) -> int:
    """Open files of the engine's process."""
    assert daemon.process is not None
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def resident(daemon: Daemon) -> int:
    """Bytes of memory that the engine's process has in use."""
    assert daemon.process is not None
    pages = Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def named(daemon: Daemon, command: str) -> set[int]:
    """Processes of the engine's zygote and shims that ps shows as `command`."""
    found = set()
    for pid in leftovers.processes_in(f"{daemon.cgroup}/shims"):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == command:
                found.add(pid)
    return found


def _look(daemon: Daemon) -> list[str]:
    request = containers_pb2.ListContainersRequest(all=True)
    containers = daemon.api.containers.List(request, timeout=30).containers
    every = {each.id for each in containers}
    live = {each.id: each.state for each in containers if each.state.status in _LIVE}
    found = [f"container without its process: {each}" for each, at in live.items() if not _alive(at.pid)]
    found += [f"container without its shim: {each}" for each, at in live.items() if not _alive(at.shim_pid)]
    found += _differ("bundle", _names(daemon.state / "shims"), set(live))
    found += [f"log of no container: {name}" for name in _names(daemon.root / "containers") - every]
    found += _differ("container's snapshot", _active(daemon), every)
    found += _differ("cgroup", {path.name for path in leftovers.cgroups(daemon.cgroup)} & _ids(daemon), set(live))
    found += [f"shim of nothing: {leftovers.describe(pid)}" for pid in named(daemon, "corten-shim") - _shims(live)]
    for helper in HELPERS:
        if len(named(daemon, helper)) != 1:
            found.append(f"{helper}: {len(named(daemon, helper))} of them")
    found += [f"snapshot to be deleted: {path}" for path in (daemon.root / "snapshots").glob("trash-*")]
    return found + leftovers.mounts(str(daemon.root)) + leftovers.mounts(f"{daemon.state}/shims")


def _shims(live: dict[str, containers_pb2.ContainerState]) -> set[int]:
    return {state.shim_pid for state in live.values()}


def _differ(what: str, found: set[str], wanted: set[str]) -> list[str]:
    return [f"{what}, not wanted: {each}" for each in found - wanted] + [
        f"{what}, missing: {each}" for each in wanted - found
    ]


def _active(daemon: Daemon) -> set[str]:
    answer = daemon.api.snapshots.List(snapshots_pb2.ListSnapshotsRequest(), timeout=30)
    return {each.name for each in answer.snapshots if each.kind != snapshots_pb2.SNAPSHOT_KIND_COMMITTED}


def _ids(daemon: Daemon) -> set[str]:
    """Cgroups that are named like a container."""
    return {path.name for path in leftovers.cgroups(daemon.cgroup) if len(path.name) == 64}


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*")}


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
