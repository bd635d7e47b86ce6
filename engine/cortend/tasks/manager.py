"""Tasks: the use case. Start, wait, stop, kill, pause, resume, and what happens when a container's process ends.

Owns which tasks are live. How a start goes is `tasks.starting`, exec'd processes are `tasks.execs`, streams
`tasks.attach`, what a new engine finds `tasks.reconcile`.
Nothing here waits for a shim without a deadline, and no lock covers two containers.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from enum import Enum

import structlog
from corten_api.errors import CortenError, DeadlineExceeded, FailedPrecondition, NotFound, Unavailable

from cortend.db import containers as rows
from cortend.db.database import Database
from cortend.domain import signals
from cortend.domain.containers import DEFAULT_STOP_TIMEOUT_NS, Container, ExitStatus, Move, Status
from cortend.domain.layout import Layout
from cortend.snapshots.snapshotter import Snapshotter
from cortend.tasks import exits, lost
from cortend.tasks.background import Background
from cortend.tasks.deadlines import CALL, within
from cortend.tasks.live import LiveTask
from cortend.tasks.locks import KeyedLocks
from cortend.tasks.pending import PendingAttachers
from cortend.tasks.records import TaskRecords
from cortend.tasks.waiters import Waiters

log = structlog.get_logger()

SHIM_LOST = "shim-lost"
_KILL_WAIT = 10.0  # from SIGKILL to the exit
Remover = Callable[[Container], Awaitable[None]]


class Condition(Enum):
    NOT_RUNNING = "not-running"
    NEXT_EXIT = "next-exit"
    REMOVED = "removed"


class TaskManager:
    """Live tasks by container id."""

    def __init__(
        self, *, database: Database, records: TaskRecords, snapshotter: Snapshotter, layout: Layout, remover: Remover
    ) -> None:
        self.database = database
        self.records = records
        self.snapshotter = snapshotter
        self.layout = layout
        self.locks = KeyedLocks()
        self.waiters = Waiters()
        self.pending = PendingAttachers()
        self.background = Background()
        self._remover = remover
        self._live: dict[str, LiveTask] = {}

    async def close(self) -> None:
        """Let go of every shim; containers run on."""
        await self.background.close()
        for task in self._live.values():
            task.shim.close()

    def find(self, namespace: str, text: str) -> Container:
        """The container that `text` names. Raises NotFound, InvalidArgument."""
        return self.database.read(lambda tx: rows.find(tx, namespace, text))

    def get(self, container_id: str) -> Container:
        return self.database.read(lambda tx: rows.get(tx, container_id))

    def live(self, container_id: str) -> LiveTask | None:
        return self._live.get(container_id)

    def running(self, container: Container) -> LiveTask:
        """The live task of `container`. Raises FailedPrecondition when it does not run."""
        task = self._live.get(container.id)
        if task is None or not task.init.started or task.init.exited.done():
            state = self.get(container.id).status
            if state in (Status.RUNNING, Status.PAUSED):
                state = Status.EXITED
            raise FailedPrecondition("container", container.name, f"it is {state.value}, not running")
        return task

    def register(self, task: LiveTask) -> None:
        self._live[task.id] = task

    def forget(self, task: LiveTask) -> None:
        if self._live.get(task.id) is task:
            del self._live[task.id]
        task.gone.set()

    def watch(self, task: LiveTask) -> None:
        """Follow `task` to its end, and tidy up after it."""
        self.background.start(self._watch(task), name=f"watch {task.id[:12]}")

    async def wait(self, container: Container, condition: Condition) -> ExitStatus:
        if condition is Condition.REMOVED:
            return await self.waiters.removal(container.id)
        if condition is Condition.NEXT_EXIT:
            return await self.waiters.next_exit(container.id)
        task = self._live.get(container.id)
        if task is not None and task.init.started:
            return await asyncio.shield(task.init.exited)
        return self.get(container.id).state.exit or ExitStatus(exit_code=0)

    async def kill(self, container: Container, *, text: str, exec_id: str = "", everything: bool = False) -> None:
        """Send the signal that `text` names; empty: SIGKILL."""
        number = signals.parse(text) if text else int(signal.SIGKILL)
        task = self.running(container)
        task.running(exec_id)
        await self._signal(task, number, exec_id=exec_id, everything=everything)
        told = {"signal": str(number)} | ({"exec_id": exec_id} if exec_id else {})
        await self.records.happened(task.container, "task.killed", told)

    async def stop(self, container: Container, *, text: str = "", timeout_ns: int | None = None) -> None:
        """The stop signal, then SIGKILL after the timeout (negative: never). Fine when it does not run."""
        task = self._live.get(container.id)
        if task is None or not task.init.started or task.init.exited.done():
            return
        number = await self._stop_signal(container, text)
        if timeout_ns is None:
            timeout_ns = container.config.stop_timeout_ns
        if timeout_ns is None:
            timeout_ns = DEFAULT_STOP_TIMEOUT_NS
        await self._signal(task, number)
        patience = None if timeout_ns < 0 else timeout_ns / 1e9
        if not await _ended(task, patience):
            await self._signal(task, int(signal.SIGKILL))
            await self._await_death(task)

    async def end(self, container: Container) -> None:
        """Kill it if it runs, and return when nothing of its task is left; streams that are still read are cut."""
        task = self._live.get(container.id)
        if task is None:
            return
        if task.init.started and not task.init.exited.done():
            try:
                await self._signal(task, int(signal.SIGKILL), everything=True)
                await self._await_death(task)
            except (DeadlineExceeded, Unavailable) as error:
                # The watch sees that the shim is lost, and kills what it leaves.
                log.warning("shim.killed", container=task.id, shim_pid=task.shim.pid, error=str(error))
                await asyncio.to_thread(lost.kill_shim, task.shim.pid, task.id)
        await self.settle(task)

    async def settle(self, task: LiveTask) -> None:
        """Return when an ended task is gone. Raises DeadlineExceeded when its shim hangs."""
        task.cut.set()
        try:
            await asyncio.wait_for(task.gone.wait(), 3 * CALL)
        except TimeoutError:
            raise DeadlineExceeded("container", task.container.name, "its shim does not end") from None

    async def pause(self, container: Container) -> None:
        async with self.locks.holding(container.id):
            task = self.running(container)
            if self.get(container.id).status is Status.PAUSED:
                raise FailedPrecondition("container", container.name, "it is paused already")
            await within(task.container.name, task.shim.pause())
            await self.records.moved(task.container, Move.PAUSE, "task.paused")

    async def resume(self, container: Container) -> None:
        async with self.locks.holding(container.id):
            task = self.running(container)
            if self.get(container.id).status is not Status.PAUSED:
                raise FailedPrecondition("container", container.name, "it is not paused")
            await within(task.container.name, task.shim.resume())
            await self.records.moved(task.container, Move.RESUME, "task.resumed")

    async def pids(self, container: Container) -> list[tuple[int, str]]:
        """(process id on the host, exec id or "") of every process of the container."""
        task = self.running(container)
        return await within(container.name, task.shim.pids())

    async def resize(self, container: Container, size: tuple[int, int], *, exec_id: str = "") -> None:
        """Fit the terminal of a process. Raises FailedPrecondition for one without."""
        task = self.running(container)
        if not task.running(exec_id).terminal:
            raise FailedPrecondition("container", container.name, "the process has no terminal")
        await within(container.name, task.shim.resize_pty(*size, exec_id=exec_id))

    async def close_stdin(self, container: Container, *, exec_id: str = "") -> None:
        """The end of a process's stdin, whoever is attached."""
        task = self.running(container)
        task.running(exec_id)
        await within(container.name, task.shim.close_io(exec_id=exec_id))

    async def delete(self, container: Container) -> ExitStatus:
        """Forget the ended task. Raises FailedPrecondition while it runs, NotFound when there was none."""
        task = self._live.get(container.id)
        if task is not None:
            if task.init.started and not task.init.exited.done():
                raise FailedPrecondition("container", container.name, "it is running; stop or kill it first")
            await self.settle(task)
        status = self.get(container.id).state.exit
        if status is None:
            raise NotFound("task", container.name, "the container was never started")
        return status

    def removed(self, container: Container) -> None:
        """The container's record is gone: tell those who wait."""
        status = container.state.exit or ExitStatus(exit_code=0)
        self.waiters.removed(container.id, status)
        self.pending.fail(container.id, NotFound("container", container.name, "it was removed"))

    async def remove_automatically(self, container_id: str) -> None:
        """Remove an auto-remove container whose task ended, unless somebody was faster."""
        async with self.locks.holding(container_id):
            try:
                container = self.get(container_id)
                await self._remover(container)
            except NotFound:
                return
            except CortenError as error:
                log.error("container.remove-failed", container=container_id, error=str(error))
                return
            self.removed(container)

    async def _watch(self, task: LiveTask) -> None:
        try:
            await task.shim.wait()
            status = exits.read(self.layout.exit_record(task.id))
        except CortenError as error:
            log.warning("shim.lost", container=task.id, shim_pid=task.shim.pid, error=str(error))
            status = None
        if status is None:
            await asyncio.to_thread(lost.clear, task.id, self.layout)
            status = exits.read(self.layout.exit_record(task.id)) or ExitStatus(
                exit_code=exits.KILLED,
                reason=SHIM_LOST,
                started_at_ns=task.init.started_at_ns,
                exited_at_ns=time.time_ns(),
            )
        await self.finish(task, status)

    async def finish(self, task: LiveTask, status: ExitStatus) -> None:
        """Record how `task` ended, tell those who wait, and leave nothing of it."""
        container = task.container
        # The shim's exit record is on disk already: after a power loss it says the same.
        await self.records.exited(container, status, durable=False)
        task.end(status)
        self.waiters.exited(task.id, status)
        log.info("task.exited", container=task.id, exit_code=status.exit_code, reason=status.reason)
        await task.drained()
        await lost.dismiss(task, self.layout, self.background)
        self.snapshotter.release(task.id)
        self.forget(task)
        if container.config.auto_remove:
            await self.remove_automatically(task.id)
        task.finished.set()

    async def _stop_signal(self, container: Container, text: str) -> int:
        image = self.database.read(lambda tx: rows.image_of(tx, container.id))
        chosen = text or container.config.stop_signal or image.stop_signal
        return signals.parse(chosen) if chosen else int(signal.SIGTERM)

    async def _signal(self, task: LiveTask, number: int, *, exec_id: str = "", everything: bool = False) -> None:
        try:
            await within(task.container.name, task.shim.kill(number, exec_id=exec_id, everything=everything))
        except NotFound:
            return  # it ended by itself just now
        if number == signal.SIGKILL and not exec_id and self.get(task.id).status is Status.PAUSED:
            await self._thaw(task)

    async def _thaw(self, task: LiveTask) -> None:
        try:
            await within(task.container.name, task.shim.resume())
        except (NotFound, FailedPrecondition, Unavailable):
            log.debug("task.gone-before-resume", container=task.id)

    async def _await_death(self, task: LiveTask) -> None:
        if not await _ended(task, _KILL_WAIT):
            detail = f"it did not die within {_KILL_WAIT:g} s of SIGKILL; a process may hang in the kernel"
            raise DeadlineExceeded("container", task.container.name, detail)


async def _ended(task: LiveTask, seconds: float | None) -> bool:
    done, _ = await asyncio.wait((task.init.exited,), timeout=seconds)
    return bool(done)
