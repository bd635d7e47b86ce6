"""The end of a shim, willing or not, and what it might leave: cgroup, bundle, processes.

Owns making sure that nothing is left. Every step is bounded in time and may be repeated.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import suppress

import structlog
from corten_api.errors import CortenError
from corten_shim.cgroups.select import open_cgroup
from corten_shim.linux.errors import RuntimeFault

from cortend.domain.layout import Layout
from cortend.tasks import bundle
from cortend.tasks.background import Background
from cortend.tasks.deadlines import CALL, ENDING, within
from cortend.tasks.live import LiveTask
from cortend.tasks.shim import Shim

log = structlog.get_logger()


def clear(container_id: str, layout: Layout) -> None:
    """Kill what still runs in the container's cgroup and remove the cgroup. Blocks; fine when there is none."""
    try:
        cgroup = open_cgroup(layout.cgroup(container_id))
        cgroup.kill()
        cgroup.remove()
    except FileNotFoundError:
        return
    except (OSError, RuntimeFault) as error:
        log.error("cgroup.remove-failed", container=container_id, error=str(error))


async def dismiss(task: LiveTask, layout: Layout, background: Background) -> None:
    """Have the shim of an ended task end, and remove the bundle. A shim that will not end is killed.

    Once the shim agreed to end, nobody waits for its process to be gone.
    """
    shim = task.shim
    try:
        await _farewell(shim, task.id)
    except CortenError:
        await end_shim(shim, task.id, layout)
    else:
        background.start(end_shim(shim, task.id, layout, agreed=True), name=f"end shim {task.id[:12]}")
    await asyncio.to_thread(bundle.remove, layout.bundle(task.id))


async def end_shim(shim: Shim, container_id: str, layout: Layout, *, agreed: bool = False) -> None:
    """Have it delete its container and end; one that does not do so in time is killed, and its cgroup cleared."""
    try:
        if not agreed:
            await _farewell(shim, container_id)
        await asyncio.wait_for(shim.closed.wait(), ENDING)
        shim.close()
        return
    except (CortenError, TimeoutError) as error:
        if not shim.closed.is_set():
            log.warning("shim.killed", container=container_id, shim_pid=shim.pid, error=str(error))
    shim.close()
    await asyncio.to_thread(kill_shim, shim.pid, container_id)
    await asyncio.to_thread(clear, container_id, layout)


async def _farewell(shim: Shim, container_id: str) -> None:
    """Nothing of the container is left once it answered."""
    await within(container_id, shim.shutdown(now=True), CALL)


def kill_shim(pid: int, container_id: str) -> None:
    """Kill the shim, if that process still is one: a pid may have been given anew."""
    if pid <= 1:
        return
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _is_shim(pid, container_id):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except OSError:
        return
    finally:
        os.close(descriptor)


def _is_shim(pid: int, container_id: str) -> bool:
    """Whether the process holds the container's bundle open, as its shim does."""
    descriptors = f"/proc/{pid}/fd"
    for name in os.listdir(descriptors):
        with suppress(OSError):
            if os.readlink(f"{descriptors}/{name}").endswith(f"/shims/{container_id}"):
                return True
    return False


def remove_directory(container_id: str, layout: Layout) -> None:
    """The container's logs and exit record."""
    shutil.rmtree(layout.log_directory(container_id), ignore_errors=True)
