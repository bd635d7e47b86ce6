"""Tasks: the running process of a container, its streams, and the processes exec'd beside it."""

from __future__ import annotations

from corten_api.v1 import tasks_pb2

from corten import _calls, _messages, streams
from corten._blocks import Face, blocking, iterating, wrapping
from corten._value import Value
from corten.exits import ExitStatus, exit_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Any


class Started(Value):
    """`pid` is on the host."""

    pid: int
    warnings: tuple[str, ...]


class Exec(Value):
    """`pid` is on the host; 0 while it waits for its attacher."""

    exec_id: str
    pid: int


class Process(Value):
    """A process of a container, by its pid on the host."""

    pid: int
    exec_id: str


class LogEntry(Value):
    """One line with its newline, or a part of one without. `stream` is "stdout" or "stderr"."""

    stream: str
    time_ns: int
    data: bytes


class AsyncTasks:
    """Tasks, as coroutines. `container` is an id, a name, or a unique prefix of an id."""

    def __init__(self, calls: _calls.Calls) -> None:
        self._calls = calls

    async def start(self, container: str) -> Started:
        """Returns when the program runs. Raises the error of kind "executable" where it cannot be executed."""
        request = tasks_pb2.StartTaskRequest(container=container)
        answer = await self._calls.unary("Tasks/Start", request, tasks_pb2.StartTaskResponse)
        return Started(pid=answer.pid, warnings=tuple(answer.warnings))

    async def wait(
        self, container: str, *, exec_id: str = "", condition: str = "not-running", timeout: float | None = None
    ) -> ExitStatus:
        """`condition` is "not-running", "next-exit" or "removed"; with `exec_id` it is that process's end."""
        request = tasks_pb2.WaitTaskRequest(
            container=container, exec_id=exec_id, condition=f"CONDITION_{condition.replace('-', '_').upper()}"
        )
        answer = await self._calls.patient("Tasks/Wait", request, tasks_pb2.WaitTaskResponse, timeout=timeout)
        return exit_status(answer.status)

    async def kill(self, container: str, *, signal: str = "SIGKILL", exec_id: str = "", all: bool = False) -> None:
        """Send a signal by name or number; to every process with `all`."""
        request = tasks_pb2.KillTaskRequest(container=container, exec_id=exec_id, signal=signal, all=all)
        await self._calls.unary("Tasks/Kill", request, tasks_pb2.KillTaskResponse)

    async def stop(
        self, container: str, *, grace: float | None = None, signal: str = "", timeout: float | None = None
    ) -> None:
        """The stop signal, then SIGKILL after `grace` seconds (None: the container's, negative: never).

        Fine when not running. Empty `signal` is the container's.
        """
        request = tasks_pb2.StopTaskRequest(container=container, timeout=_messages.duration(grace), signal=signal)
        await self._calls.patient("Tasks/Stop", request, tasks_pb2.StopTaskResponse, timeout=timeout)

    async def pause(self, container: str) -> None:
        """Freeze every process."""
        request = tasks_pb2.PauseTaskRequest(container=container)
        await self._calls.unary("Tasks/Pause", request, tasks_pb2.PauseTaskResponse)

    async def resume(self, container: str) -> None:
        """Thaw."""
        request = tasks_pb2.ResumeTaskRequest(container=container)
        await self._calls.unary("Tasks/Resume", request, tasks_pb2.ResumeTaskResponse)

    async def exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        environment: Sequence[str] = (),
        working_directory: str = "",
        user: str = "",
        terminal: bool = False,
        open_stdin: bool = False,
        privileged: bool = False,
        attach_first: bool = False,
    ) -> Exec:
        """Start a process in a running container. Its streams are attached by its `exec_id`.

        Empty arguments take the container's; with `attach_first` it starts when its first attacher is there.
        """
        request = tasks_pb2.ExecTaskRequest(
            container=container,
            argv=argv,
            environment=environment,
            working_directory=working_directory,
            user=user,
            terminal=terminal,
            open_stdin=open_stdin,
            privileged=privileged,
            attach_first=attach_first,
        )
        answer = await self._calls.unary("Tasks/Exec", request, tasks_pb2.ExecTaskResponse)
        return Exec(exec_id=answer.exec_id, pid=answer.pid)

    async def attach(
        self,
        container: str,
        *,
        exec_id: str = "",
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        size: tuple[int, int] | None = None,
        logs: bool = False,
        timeout: float | None = None,
    ) -> streams.AsyncAttachment:
        """The streams of a task or of an exec; of one that is not started yet, from its first byte.

        `size` is columns and rows, given to the terminal when the process starts; with `logs` what the log holds
        comes first.
        """
        opening = tasks_pb2.AttachRequest.Open(
            container=container, exec_id=exec_id, stdin=stdin, stdout=stdout, stderr=stderr, logs=logs
        )
        opening.direct = self._calls.transport.reads_files and (stdout or stderr)
        if size is not None:
            opening.size.CopyFrom(tasks_pb2.TerminalSize(width=size[0], height=size[1]))
        exchange = await self._calls.open("Tasks/Attach", streams.Reply, timeout=timeout)
        return await streams.attached(exchange, opening)

    async def resize(self, container: str, *, width: int, height: int, exec_id: str = "") -> None:
        """The size of a terminal, in characters."""
        size = tasks_pb2.TerminalSize(width=width, height=height)
        request = tasks_pb2.ResizePtyRequest(container=container, exec_id=exec_id, size=size)
        await self._calls.unary("Tasks/ResizePty", request, tasks_pb2.ResizePtyResponse)

    async def close_stdin(self, container: str, *, exec_id: str = "") -> None:
        """Whoever is attached."""
        request = tasks_pb2.CloseIORequest(container=container, exec_id=exec_id)
        await self._calls.unary("Tasks/CloseIO", request, tasks_pb2.CloseIOResponse)

    async def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        since_ns: int | None = None,
        until_ns: int | None = None,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
        timeout: float | None = None,
    ) -> AsyncIterator[tuple[LogEntry, ...]]:
        """What it wrote, in order, in batches as they come; `tail` lines from the end; with `follow` until it ends."""
        request = tasks_pb2.LogsRequest(container=container, follow=follow, tail=tail, stdout=stdout, stderr=stderr)
        for name, value in (("since", since_ns), ("until", until_ns)):
            if value is not None:
                getattr(request, name).CopyFrom(_messages.moment(value))
        exchange = await self._calls.stream("Tasks/Logs", request, tasks_pb2.LogEntries, timeout=timeout)
        try:
            while (message := await exchange.receive()) is not None:
                yield tuple([_log_entry(each) for each in message.entries])
        finally:
            exchange.cancel()

    async def pids(self, container: str) -> tuple[Process, ...]:
        """Every process, by its pid on the host."""
        request = tasks_pb2.PidsRequest(container=container)
        answer = await self._calls.unary("Tasks/Pids", request, tasks_pb2.PidsResponse)
        return tuple(Process(pid=each.pid, exec_id=each.exec_id) for each in answer.processes)

    async def delete(self, container: str) -> ExitStatus:
        """Forget the ended task; the container stays."""
        request = tasks_pb2.DeleteTaskRequest(container=container)
        return exit_status((await self._calls.unary("Tasks/Delete", request, tasks_pb2.DeleteTaskResponse)).status)


class Tasks(Face[AsyncTasks]):
    """Tasks, blocking."""

    start = blocking(AsyncTasks.start)
    wait = blocking(AsyncTasks.wait)
    kill = blocking(AsyncTasks.kill)
    stop = blocking(AsyncTasks.stop)
    pause = blocking(AsyncTasks.pause)
    resume = blocking(AsyncTasks.resume)
    exec = blocking(AsyncTasks.exec)
    resize = blocking(AsyncTasks.resize)
    close_stdin = blocking(AsyncTasks.close_stdin)
    logs = iterating(AsyncTasks.logs)
    pids = blocking(AsyncTasks.pids)
    delete = blocking(AsyncTasks.delete)

    attach = wrapping(AsyncTasks.attach, streams.Attachment)


def _log_entry(message: Any) -> LogEntry:
    return LogEntry(
        stream="stderr" if message.stream == tasks_pb2.LogEntry.STREAM_STDERR else "stdout",
        time_ns=_messages.nanoseconds(message, "time"),
        data=message.data,
    )
