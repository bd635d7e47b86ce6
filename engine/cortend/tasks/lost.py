"""The end of a shim, willing or not, and what it might leave: cgroup, bundle, processes.

Owns making sure that nothing is left. Every step is bounded in time and may be repeated.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal

import structlog
from corten_api.errors import CortenError
from corten_shim.cgroups.select import open_cgroup
from corten_shim.linux.errors import RuntimeFault

from cortend.domain.layout import Layout
from cortend.tasks import bundle
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


async def dismiss(task: LiveTask, layout: Layout) -> None:
    """Have the shim of an ended task end, then remove the bundle. A shim that will not end is killed."""
    await end_shim(task.shim, task.id, layout)
    await asyncio.to_thread(bundle.remove, layout.bundle(task.id))


async def end_shim(shim: Shim, container_id: str, layout: Layout) -> None:
    """Delete and Shutdown; one that does not do so in time is killed, and its cgroup cleared."""
    try:
        if not shim.closed.is_set():
            await within(container_id, shim.delete(), CALL)
            await within(container_id, shim.shutdown(now=True), CALL)
            await asyncio.wait_for(shim.closed.wait(), ENDING)
            shim.close()
            return
    except (CortenError, TimeoutError) as error:
        if not shim.closed.is_set():
            log.warning("shim.killed", container=container_id, shim_pid=shim.pid, error=str(error))
    shim.close()
    await asyncio.to_thread(_kill, shim.pid, container_id)
    await asyncio.to_thread(clear, container_id, layout)


def _kill(pid: int, container_id: str) -> None:
    """Kill the shim, if that process still is one: a pid may have been given anew."""
    if pid <= 1:
        return
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if container_id.encode() in file.read():
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except OSError:
        return
    finally:
        os.close(descriptor)


def remove_directory(container_id: str, layout: Layout) -> None:
    """The container's logs and exit record."""
    shutil.rmtree(layout.log_directory(container_id), ignore_errors=True)
