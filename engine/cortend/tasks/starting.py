"""How a container starts: bundle, shim, create, attachers, start; and how a start that fails is undone.

Owns the order of these steps. The steps themselves belong to `bundle`, the zygote and the shim.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import structlog
from corten_api.errors import CortenError, Internal
from corten_api.shim import corten_pb2, task_pb2

from cortend.db import containers as rows
from cortend.domain.containers import Container, LogOptions, Move, Resources, moved
from cortend.domain.layout import Layout
from cortend.domain.mounts import Mount
from cortend.oci.runtime_spec import HostFacts
from cortend.tasks import bundle, lost
from cortend.tasks.deadlines import CALL, CREATE, START, within
from cortend.tasks.live import LiveTask
from cortend.tasks.manager import TaskManager
from cortend.tasks.shim import Shim
from cortend.tasks.zygote import Zygote

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What the engine's configuration says for every container."""

    log: LogOptions
    attach_stall_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    pid: int
    warnings: tuple[str, ...] = ()


class Starter:
    def __init__(self, manager: TaskManager, zygote: Zygote, facts: HostFacts, defaults: Defaults) -> None:
        self._manager = manager
        self._zygote = zygote
        self._facts = facts
        self._defaults = defaults

    async def start(self, container_id: str) -> Started:
        """Returns once the container's process runs. A failure leaves nothing but its reason in the record."""
        manager = self._manager
        async with manager.locks.holding(container_id):
            container = manager.get(container_id)
            moved(container.status, Move.START, name=container.name)
            earlier = manager.live(container_id)
            if earlier is not None:
                await manager.settle(earlier)
            work = asyncio.ensure_future(self._start(container))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                # The caller gave up, not the start: half a start is never left behind.
                await asyncio.wait((work,))
                raise

    async def _start(self, container: Container) -> Started:
        began = time.monotonic()
        try:
            return await self._perform(container, began)
        except CortenError as error:
            await self._failed(container, error)
            raise
        except Exception as error:
            log.exception("task.start-broke", container=container.id)
            wrapped = Internal("container", container.name, f"its start failed: {error}")
            await self._failed(container, wrapped)
            raise wrapped from error

    async def _perform(self, container: Container, began: float) -> Started:
        manager, layout = self._manager, self._manager.layout
        made, mounts = await asyncio.to_thread(self._prepare, container)
        task: LiveTask | None = None
        shim: Shim | None = None
        try:
            with manager.pending.hurry(container.id) as hurried:
                calls = _FirstCalls(container, mounts, self._options(container), layout, hurried=hurried)
                shim, pid = await self._zygote.spawn(container.id, made.path, calls.make)
                task = LiveTask(container, shim, spec=made.spec)
                manager.register(task)
                if not hurried:
                    await manager.pending.connect(task)
                    pid = await within(container.name, shim.start(), START)
                task.init.begin(pid)
        except BaseException as error:
            if task is not None:
                task.fail(error if isinstance(error, CortenError) else Internal("container", container.name, "failed"))
                manager.forget(task)
            if shim is not None:
                await lost.end_shim(shim, container.id, layout)
            await asyncio.to_thread(self._undo, container)
            raise
        await manager.records.started(container, pid=pid, shim_pid=shim.pid, started_at_ns=task.init.started_at_ns)
        manager.watch(task)
        warnings = await _warnings(container, shim)
        log.info(
            "task.started", container=container.id, pid=pid, duration_ms=round(1000 * (time.monotonic() - began), 1)
        )
        return Started(pid=pid, warnings=warnings)

    def _prepare(self, container: Container) -> tuple[bundle.Bundle, tuple[Mount, ...]]:
        """In a worker thread: everything that touches the disk."""
        manager = self._manager
        image = manager.database.read(lambda tx: rows.image_of(tx, container.id))
        manager.snapshotter.acquire(container.id, "a container runs on it")
        try:
            mounts = manager.snapshotter.mounts(container.id)
            made = bundle.make(container, image, layout=manager.layout, facts=self._facts)
        except BaseException:
            manager.snapshotter.release(container.id)
            raise
        return made, mounts

    def _undo(self, container: Container) -> None:
        bundle.remove(self._manager.layout.bundle(container.id))
        lost.clear(container.id, self._manager.layout)
        self._manager.snapshotter.release(container.id)

    async def _failed(self, container: Container, error: CortenError) -> None:
        manager = self._manager
        log.info("task.start-failed", container=container.id, error=str(error))
        manager.pending.fail(container.id, error)
        await manager.records.failed(container, error, at_ns=time.time_ns())
        if container.config.auto_remove:
            # This start holds the container's lock: the removal takes its turn after it.
            removal = manager.remove_automatically(container.id)
            manager.background.start(removal, name=f"remove {container.id[:12]}")

    def _options(self, container: Container) -> corten_pb2.CreateOptions:
        config, layout, defaults = container.config, self._manager.layout, self._defaults
        width, height = self._manager.pending.size(container.id) or (0, 0)
        return corten_pb2.CreateOptions(
            log_directory=str(layout.log_directory(container.id)),
            log_max_bytes=config.log.max_bytes or defaults.log.max_bytes,
            log_max_files=config.log.max_files or defaults.log.max_files,
            exit_record=str(layout.exit_record(container.id)),
            durable=not config.auto_remove,
            open_stdin=config.open_stdin,
            stdin_once=config.stdin_once,
            attach_stall_ms=defaults.attach_stall_ms,
            seccomp_cache=str(layout.seccomp_cache),
            width=width,
            height=height,
        )


class _FirstCalls:
    """What a new shim is asked: Create, and Start at once behind it where nobody has to be attached in between."""

    def __init__(
        self,
        container: Container,
        mounts: Sequence[Mount],
        options: corten_pb2.CreateOptions,
        layout: Layout,
        *,
        hurried: bool,
    ) -> None:
        self._container = container
        self._mounts = mounts
        self._options = options
        self._layout = layout
        self._hurried = hurried

    async def make(self, shim: Shim) -> int:
        """The pid of the container's process. The shim ends when this raises."""
        try:
            return await self._make(shim)
        except BaseException:
            if not shim.closed.is_set():
                await lost.end_shim(shim, self._container.id, self._layout)
            raise

    async def _make(self, shim: Shim) -> int:
        name, terminal = self._container.name, self._container.config.terminal
        create = within(name, shim.create(_rootfs(self._mounts), terminal=terminal, options=self._options), CREATE)
        if not self._hurried:
            return await create
        pids = await asyncio.gather(create, within(name, shim.start(), CREATE + START), return_exceptions=True)
        for each in pids:
            if isinstance(each, BaseException):
                raise each
        return int(cast("int", pids[1]))


async def _warnings(container: Container, shim: Shim) -> tuple[str, ...]:
    """What the runtime had to do differently with the limits that were asked for; none where the shim does not say."""
    if not container.config.ulimits and container.config.resources == Resources():
        return ()
    try:
        return tuple((await shim.describe(timeout=CALL)).warnings)
    except CortenError:
        return ()


def _rootfs(mounts: Sequence[Mount]) -> list[task_pb2.Mount]:
    return [task_pb2.Mount(type=each.type, source=each.source, options=each.options) for each in mounts]
