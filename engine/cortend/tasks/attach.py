"""One client's streams to a process: stdin in, stdout and stderr out, the exit status last.

Owns the order of a session: waiting for a start that has not come, connecting, old log first, output, exit.
Back-pressure comes for free: nothing is read from the shim before the caller took what was read last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from enum import Enum

from corten_api.errors import CortenError, FailedPrecondition, NotFound, Unavailable

from cortend.domain.containers import Container, ExitStatus, Status
from cortend.tasks.deadlines import CALL, within
from cortend.tasks.execs import Execs
from cortend.tasks.live import LiveTask, Process
from cortend.tasks.logs import LogFilter, LogReader
from cortend.tasks.manager import TaskManager
from cortend.tasks.pending import Waiting
from cortend.tasks.stream import Channel, Stream

Output = tuple[Channel, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Direct:
    """Where the client reads the output itself: the bundle's directory and a token for its stream socket."""

    directory: str
    token: bytes


_LOST_SHIM = 15.0  # until a lost shim's container is cleared away and recorded


class DirectEnd(Enum):
    """How the client fared with it."""

    WHOLE = "whole"
    CUT = "cut"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachOptions:
    exec_id: str = ""
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    size: tuple[int, int] | None = None
    logs: bool = False
    direct: bool = False


class Attachment:
    """A session. Open it (`async with`), then use `outputs` and the inputs at the same time."""

    def __init__(self, manager: TaskManager, execs: Execs, container: Container, options: AttachOptions) -> None:
        self._manager = manager
        self._execs = execs
        self._container = container
        self._options = options
        self._stack = AsyncExitStack()
        self._waiting: Waiting | None = None
        self._task: LiveTask | None = None
        self._process: Process | None = None
        self._stream: Stream | None = None
        self._direct: Direct | None = None
        self._direct_end: asyncio.Future[DirectEnd] = asyncio.get_running_loop().create_future()
        self._since = 0
        self.terminal = container.config.terminal

    async def __aenter__(self) -> Attachment:
        """Connected, or put on the list of those who wait for the start. Raises what makes it impossible."""
        await self._manager.pending.turn(self._container.id)
        task = self._manager.live(self._container.id)
        if self._options.exec_id:
            if task is None:
                raise FailedPrecondition("container", self._container.name, "it is not running")
            self.terminal = task.process(self._options.exec_id).terminal
            await self._connect(task)
        elif task is not None and not task.init.exited.done():
            await self._connect(task)
        else:
            self._wait_for_start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._waiting is not None:
            self._manager.pending.discard(self._container.id, self._waiting)
        await self._stack.aclose()

    async def outputs(self) -> AsyncGenerator[Output | Direct | ExitStatus, None]:
        """What the process writes, then how it ended. Raises Unavailable when the shim dropped this attacher."""
        task = await self._started()
        process, direct = self._process, self._direct
        if process is None or (self._stream is None and direct is None):
            raise Unavailable("container", self._container.name, "its streams are gone")
        if self._options.logs:
            async for output in self._logged():
                yield output
        if direct is not None:
            yield direct
        if self._options.exec_id:
            await self._execs.start(task, process)
            if self._options.size is not None:
                await self.resize(*self._options.size)
        whole = direct is not None and await self._direct_end is DirectEnd.WHOLE
        stream = await self._relay(task) if direct is not None else self._stream
        while stream is not None and not whole:
            try:
                channel, data = await stream.read()
            except Unavailable:
                break
            whole = channel is Channel.END
            if not whole:
                yield channel, data
        await self._stack.aclose()  # from here on nobody waits for this reader
        yield await self._exit(task, process, whole=whole)

    def direct_ended(self, end: DirectEnd) -> None:
        """What the client says of reading the output itself."""
        if not self._direct_end.done():
            self._direct_end.set_result(end)

    async def _relay(self, task: LiveTask) -> Stream | None:
        """The client's own stream, where it could not open it; its token is as good here."""
        if self._direct is None or self._direct_end.result() is not DirectEnd.UNREACHABLE:
            return None
        opening = task.shim.open(self._direct.token, name=self._options.exec_id or self._container.id)
        stream = await within(self._container.name, opening, CALL)
        self._stack.callback(stream.close)
        return stream

    async def write(self, data: bytes) -> None:
        """Feed stdin; waits while the process does not read. Ignored once nobody reads it."""
        stream = await self._input()
        if stream is None or not self._options.stdin:
            return
        try:
            await stream.write(data)
        except (CortenError, OSError):
            self._options = _without_stdin(self._options)

    async def close_stdin(self) -> None:
        stream = await self._input()
        if stream is not None and self._options.stdin:
            self._options = _without_stdin(self._options)
            await stream.close_stdin()

    async def resize(self, width: int, height: int) -> None:
        """Fit the terminal; without effect on a process that has none or has ended."""
        task = await self._started()
        if self.terminal and width > 0 and height > 0:
            call = task.shim.resize_pty(width, height, exec_id=self._options.exec_id)
            try:
                await within(self._container.name, call, CALL)
            except (NotFound, FailedPrecondition, Unavailable):
                return  # it ended; the exit status says so

    def _wait_for_start(self) -> None:
        if self._manager.get(self._container.id).status is Status.REMOVING:
            raise FailedPrecondition("container", self._container.name, "it is being removed")
        self._waiting = Waiting(self._connect, self._options.size)
        self._manager.pending.add(self._container.id, self._waiting)

    async def _connect(self, task: LiveTask) -> None:
        options = self._options
        process = task.process(options.exec_id)
        if process.exited.done():
            process.exited.result()  # raises why it never ran
            raise FailedPrecondition("exec", options.exec_id, "it has ended")
        await self._stack.enter_async_context(process.streaming())
        try:
            await self._open(task)
        except BaseException:
            await self._stack.aclose()
            raise
        self._since = time.time_ns()
        self._task, self._process = task, process
        if options.size is not None and process.started:
            await self.resize(*options.size)

    async def _open(self, task: LiveTask) -> None:
        """The stream, or for a client that reads the output itself its token, and a stream for stdin alone."""
        options, ours = self._options, not self._options.direct
        if options.direct:
            reserving = task.shim.reserve(exec_id=options.exec_id, stdout=options.stdout, stderr=options.stderr)
            token = await within(self._container.name, reserving, CALL)
            self._direct = Direct(directory=str(task.shim.bundle), token=token)
        if ours or options.stdin:
            opening = task.shim.attach(
                exec_id=options.exec_id,
                stdin=options.stdin,
                stdout=options.stdout and ours,
                stderr=options.stderr and ours,
            )
            stream = self._stream = await within(self._container.name, opening, CALL)
            self._stack.callback(stream.close)

    async def _started(self) -> LiveTask:
        """The task, once there is one."""
        if self._task is None and self._waiting is not None:
            return await asyncio.shield(self._waiting.connected)
        if self._task is None:
            raise Unavailable("container", self._container.name, "its streams are gone")
        return self._task

    async def _input(self) -> Stream | None:
        await self._started()
        return self._stream

    async def _logged(self) -> AsyncGenerator[Output, None]:
        reader = LogReader(self._manager.layout.log_directory(self._container.id))
        wanted = LogFilter(stdout=self._options.stdout, stderr=self._options.stderr, until_ns=self._since)
        async for entries in reader.read(wanted):
            for entry in entries:
                yield (Channel.STDOUT if entry.stdout else Channel.STDERR), entry.data

    async def _exit(self, task: LiveTask, process: Process, *, whole: bool) -> ExitStatus:
        if not whole:
            # The shim let go: either it is lost, and the exit will say so, or it dropped this attacher.
            await asyncio.wait((process.exited,), timeout=_LOST_SHIM)
            if not process.exited.done():
                detail = "this attacher took nothing for too long and was dropped; the container runs on"
                raise Unavailable("container", self._container.name, detail)
        status = await asyncio.shield(process.exited)
        if not self._options.exec_id and self._container.config.auto_remove:
            await task.finished.wait()
        return status


def _without_stdin(options: AttachOptions) -> AttachOptions:
    return replace(options, stdin=False)
