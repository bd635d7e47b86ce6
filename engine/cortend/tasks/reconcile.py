"""What a starting engine finds: shims that ran on, shims that are gone, what was left half-made.

Owns making records and reality agree, once, before the doors open. Reality wins: a shim that answers is adopted,
anything else is cleared away and recorded. Every container is looked at by itself; one that is stuck delays nobody
else for longer than a deadline.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

import structlog
from corten_api.errors import CortenError, NotFound
from corten_api.shim import corten_pb2, task_pb2

from cortend.db import containers as rows
from cortend.domain import ids
from cortend.domain.containers import Container, ExitStatus, State, Status
from cortend.snapshots.snapshotter import Kind
from cortend.tasks import bundle, exits, lost
from cortend.tasks.deadlines import CALL, within
from cortend.tasks.execs import Execs
from cortend.tasks.live import LiveTask, Process
from cortend.tasks.manager import SHIM_LOST, Remover, TaskManager
from cortend.tasks.shim import Shim

log = structlog.get_logger()

HOST_RESTART = "host-restart"
_AT_ONCE = 8


class Reconciler:
    def __init__(self, manager: TaskManager, execs: Execs, remover: Remover) -> None:
        self._manager = manager
        self._execs = execs
        self._remover = remover
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Bring everything in order. Never raises for a single container: it logs and goes on."""
        manager = self._manager
        containers = {each.id: each for each in manager.database.read(rows.everything)}
        bundles = await asyncio.to_thread(_directories, manager.layout.shims)
        async with asyncio.TaskGroup() as group:
            for container_id in bundles | set(containers):
                container = containers.get(container_id)
                group.create_task(self._one(container_id, container, found=container_id in bundles))
        kept = {each.id for each in manager.database.read(rows.everything)}
        await asyncio.to_thread(self._sweep, kept)

    async def _one(self, container_id: str, container: Container | None, *, found: bool) -> None:
        async with self._turn:
            try:
                if found:
                    await self._bundle(container_id, container)
                elif container is not None and container.status in (Status.RUNNING, Status.PAUSED):
                    await self._ended(container, HOST_RESTART)
                elif container is not None:
                    await self._at_rest(container)
            except (CortenError, OSError) as error:
                log.error("container.reconcile-failed", container=container_id, error=str(error))

    async def _bundle(self, container_id: str, container: Container | None) -> None:
        """A bundle is there: its shim lives, or it is lost."""
        shim, description = await self._connect(container_id)
        if shim is not None and description is not None:
            init = next((each for each in description.processes if not each.exec_id), None)
            status = task_pb2.UNKNOWN if init is None else init.status
            if container is not None and container.status is not Status.REMOVING and init is not None:
                if status in (task_pb2.RUNNING, task_pb2.PAUSED, task_pb2.PAUSING):
                    await self._adopt(container, shim, description)
                    return
                if status is task_pb2.STOPPED:
                    await self._adopt_ended(container, shim)
                    return
            await lost.end_shim(shim, container_id, self._manager.layout)
        await asyncio.to_thread(lost.clear, container_id, self._manager.layout)
        await asyncio.to_thread(bundle.remove, self._manager.layout.bundle(container_id))
        if container is None:
            log.info("container.half-made-removed", container=container_id)
        elif container.status in (Status.RUNNING, Status.PAUSED):
            await self._ended(container, SHIM_LOST)
        else:
            await self._at_rest(container)

    async def _connect(self, container_id: str) -> tuple[Shim | None, corten_pb2.DescribeResponse | None]:
        path = self._manager.layout.bundle(container_id)
        shim: Shim | None = None
        try:
            shim = await within(container_id, Shim.connect(path), CALL)
            return shim, await within(container_id, shim.describe(), CALL)
        except (CortenError, OSError) as error:
            log.warning("shim.lost", container=container_id, error=str(error))
            if shim is not None:
                await lost.end_shim(shim, container_id, self._manager.layout)
            return None, None

    async def _adopt(self, container: Container, shim: Shim, description: corten_pb2.DescribeResponse) -> None:
        manager = self._manager
        task = LiveTask(container, shim)
        for each in description.processes:
            process = task.init
            if each.exec_id:
                process = Process(each.exec_id, terminal=each.terminal)
                task.add(process)
            if each.pid:
                process.begin(each.pid, started_at_ns=each.started_at_ns)
        await asyncio.to_thread(_acquire, manager, container.id)
        manager.register(task)
        paused = any(not each.exec_id and each.status is not task_pb2.RUNNING for each in description.processes)
        state = State(
            status=Status.PAUSED if paused else Status.RUNNING,
            pid=task.init.pid,
            shim_pid=description.shim_pid,
            started_at_ns=task.init.started_at_ns,
        )
        await manager.records.adopted(container, state)
        manager.watch(task)
        for each in description.processes:
            if each.exec_id and each.pid:
                self._execs.watch(task, task.process(each.exec_id))
        log.info("task.adopted", container=container.id, pid=task.init.pid, shim_pid=description.shim_pid)

    async def _adopt_ended(self, container: Container, shim: Shim) -> None:
        """It ended while no engine was there: the watch sees that at once."""
        task = LiveTask(container, shim)
        task.init.begin(1, started_at_ns=container.state.started_at_ns)
        await asyncio.to_thread(_acquire, self._manager, container.id)
        self._manager.register(task)
        self._manager.watch(task)

    async def _ended(self, container: Container, reason: str) -> None:
        """Recorded as running, but nothing runs."""
        manager = self._manager
        await asyncio.to_thread(lost.clear, container.id, manager.layout)
        status = exits.read(manager.layout.exit_record(container.id)) or ExitStatus(
            exit_code=exits.KILLED,
            reason=reason,
            started_at_ns=container.state.started_at_ns,
            exited_at_ns=time.time_ns(),
        )
        await manager.records.exited(container, status, durable=True)
        log.info("task.exited", container=container.id, exit_code=status.exit_code, reason=status.reason)
        if container.config.auto_remove:
            await manager.remove_automatically(container.id)

    async def _at_rest(self, container: Container) -> None:
        """Created, exited or half-removed: complete a removal, and a removal of itself that never came."""
        left_over = container.config.auto_remove and container.status is Status.EXITED
        half_made = not await asyncio.to_thread(self._has_snapshot, container)
        if container.status is Status.REMOVING or left_over or half_made:
            await self._remover(container)
            log.info("container.removal-completed", container=container.id)

    def _has_snapshot(self, container: Container) -> bool:
        try:
            self._manager.snapshotter.stat(container.snapshot_key)
        except NotFound:
            return False
        return True

    def _sweep(self, kept: set[str]) -> None:
        """Remove snapshots and directories that belong to no container. Blocks."""
        manager = self._manager
        for container_id in _directories(manager.layout.containers) - kept:
            lost.remove_directory(container_id, manager.layout)
            log.info("container.directory-removed", container=container_id)
        for key in _active_keys(manager):
            if key not in kept:
                try:
                    manager.snapshotter.remove(key)
                    log.info("container.snapshot-removed", container=key)
                except CortenError as error:
                    log.error("container.snapshot-remove-failed", container=key, error=str(error))


def _acquire(manager: TaskManager, container_id: str) -> None:
    manager.snapshotter.acquire(container_id, "a container runs on it")


def _active_keys(manager: TaskManager) -> Iterable[str]:
    """Keys of active snapshots that are named like a container."""
    after = ""
    keys: list[str] = []
    while page := manager.snapshotter.list(after=after):
        keys += [each.name for each in page if each.kind is Kind.ACTIVE and ids.is_id(each.name)]
        after = page[-1].name
    return keys


def _directories(parent: Path) -> set[str]:
    try:
        return {name for name in os.listdir(parent) if ids.is_id(name)}
    except FileNotFoundError:
        return set()
