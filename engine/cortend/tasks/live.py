"""A live task: the container's process as this engine knows it, through its shim.

Owns what is in memory only: the connection, the exec'd processes, the open streams. All of it can be made anew from the
shim (see `cortend.tasks.reconcile`).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from corten_api.errors import CortenError, FailedPrecondition, NotFound

from cortend.domain.containers import Container, ExitStatus
from cortend.tasks import bundle
from cortend.tasks.shim import Shim

_REMEMBERED_EXECS = 1024


class Process:
    """One process with streams: the container's own (`exec_id` "") or one exec'd beside it."""

    def __init__(self, exec_id: str, *, terminal: bool) -> None:
        self.exec_id = exec_id
        self.terminal = terminal
        self.pid = 0
        self.started_at_ns = 0
        self.starting = asyncio.Lock()
        self.exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self._streams = 0
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def started(self) -> bool:
        return self.pid != 0

    @property
    def quiet(self) -> bool:
        """Whether no stream of it is open."""
        return self._drained.is_set()

    def begin(self, pid: int, *, started_at_ns: int = 0) -> None:
        self.pid = pid
        self.started_at_ns = started_at_ns or time.time_ns()

    def end(self, status: ExitStatus) -> None:
        if not self.exited.done():
            self.exited.set_result(status)

    @asynccontextmanager
    async def streaming(self) -> AsyncIterator[None]:
        """While a stream is open the shim keeps the process, so that a slow reader loses nothing."""
        self._streams += 1
        self._drained.clear()
        try:
            yield
        finally:
            self._streams -= 1
            if not self._streams:
                self._drained.set()

    async def drained(self) -> None:
        """Return when no stream of it is open (any more)."""
        await self._drained.wait()

    def fail(self, error: CortenError) -> None:
        """It will never run."""
        if not self.exited.done():
            self.exited.set_exception(error)
            self.exited.exception()  # whether somebody waits or not


class LiveTask:
    """One container's processes and the shim that owns them."""

    def __init__(self, container: Container, shim: Shim, *, spec: dict[str, Any] | None = None) -> None:
        self.container = container
        self.shim = shim
        self.init = Process("", terminal=container.config.terminal)
        self.gone = asyncio.Event()  # the shim ended, nothing of the task is left
        self.finished = asyncio.Event()  # as `gone`, and an auto-remove container is removed
        self.cut = asyncio.Event()  # streams that are still open need not be waited for
        self._spec = spec
        self._execs: OrderedDict[str, Process] = OrderedDict()

    @property
    def id(self) -> str:
        return self.container.id

    async def spec(self, path: Any) -> dict[str, Any]:
        """The runtime spec it was started with; read from the bundle when this engine did not start it."""
        if self._spec is None:
            self._spec = await asyncio.to_thread(bundle.load_spec, path)
        return self._spec

    def add(self, process: Process) -> None:
        """Know an exec'd process; of ended ones only the newest are remembered."""
        self._execs[process.exec_id] = process
        if len(self._execs) > _REMEMBERED_EXECS:
            ended = [key for key, value in self._execs.items() if value.exited.done()]
            for key in ended[: len(self._execs) - _REMEMBERED_EXECS]:
                del self._execs[key]

    def process(self, exec_id: str) -> Process:
        """The init for "", else the exec'd process. Raises NotFound."""
        if not exec_id:
            return self.init
        found = self._execs.get(exec_id)
        if found is None:
            raise NotFound("exec", exec_id, "the container has no such process")
        return found

    def running(self, exec_id: str) -> Process:
        """As `process`, of one that runs. Raises FailedPrecondition otherwise."""
        process = self.process(exec_id)
        if not process.started or process.exited.done():
            kind, name = ("exec", exec_id) if exec_id else ("container", self.container.name)
            raise FailedPrecondition(kind, name, "it is not running")
        return process

    async def drained(self) -> None:
        """Return when no stream is open any more, or nobody may wait for them (`cut`)."""
        processes = (self.init, *self._execs.values())
        if self.cut.is_set() or all(process.quiet for process in processes):
            return
        draining = asyncio.gather(*(process.drained() for process in processes))
        waiting: list[asyncio.Future[Any]] = [draining, asyncio.ensure_future(self.cut.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in waiting:
                future.cancel()

    def end(self, status: ExitStatus) -> None:
        """The container's process ended, and with it whatever ran beside it."""
        self.init.end(status)
        for process in self._execs.values():
            if process.started:
                process.end(ExitStatus(exit_code=137, reason=status.reason, exited_at_ns=status.exited_at_ns))
            else:
                process.fail(FailedPrecondition("container", self.container.name, "it is not running"))

    def fail(self, error: CortenError) -> None:
        self.init.fail(error)
