"""Processes exec'd in a running container: made, started, followed to their end.

Owns their exit statuses while the container runs. Their streams are `tasks.attach`'s.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog
from corten_api.errors import CortenError, FailedPrecondition, InvalidArgument

from cortend.domain import ids
from cortend.domain.containers import Container, ExecConfig, ExitStatus, Status
from cortend.oci.runtime_spec import HostFacts, exec_process
from cortend.tasks.deadlines import CALL, START, within
from cortend.tasks.live import LiveTask, Process
from cortend.tasks.manager import TaskManager

log = structlog.get_logger()

_ATTACH_WAIT = 30.0  # for the first attacher of a process made with `attach_first`


class Execs:
    def __init__(self, manager: TaskManager, facts: HostFacts) -> None:
        self._manager = manager
        self._facts = facts

    async def run(self, container: Container, config: ExecConfig) -> tuple[str, int]:
        """Make a process, and start it unless it waits for its first attacher; its exec id and pid (0: not started)."""
        check(config)
        task = self._manager.running(container)
        if self._manager.get(container.id).status is Status.PAUSED:
            raise FailedPrecondition("container", container.name, "it is paused; resume it first")
        base = await task.spec(self._manager.layout.bundle(container.id))
        document = msgspec.json.encode(exec_process(base, config, self._facts))
        process = Process(ids.new_id(), terminal=config.terminal)
        making = within(
            container.name,
            task.shim.exec(process.exec_id, document, terminal=config.terminal, stdin=config.open_stdin),
            CALL,
        )
        if config.attach_first:
            await making
            task.add(process)
            self._manager.background.start(self._expire(task, process), name=f"exec {process.exec_id[:12]}")
        else:
            # Both calls go out at once; the shim answers them in order.
            task.add(process)
            for failed in await asyncio.gather(making, self.start(task, process), return_exceptions=True):
                if isinstance(failed, BaseException):
                    raise failed
        return process.exec_id, process.pid

    async def start(self, task: LiveTask, process: Process) -> None:
        """Start a made process; fine when it was started already. Raises what kept it from running."""
        async with process.starting:
            if process.started:
                return
            if process.exited.done():
                process.exited.result()
            try:
                pid = await within(task.container.name, task.shim.start(exec_id=process.exec_id), START)
            except CortenError as error:
                process.fail(error)
                await self._delete(task, process)
                raise
            process.begin(pid)
            self.watch(task, process)
        told = {"exec_id": process.exec_id, "pid": str(pid)}
        await self._manager.records.happened(task.container, "task.exec-started", told)

    def watch(self, task: LiveTask, process: Process) -> None:
        """Follow a started process to its end."""
        self._manager.background.start(self._follow(task, process), name=f"exec {process.exec_id[:12]}")

    async def wait(self, container: Container, exec_id: str) -> ExitStatus:
        """How the process ended, once it has. Raises NotFound for one that the engine does not know (any more)."""
        task = self._manager.live(container.id)
        if task is None:
            raise FailedPrecondition("container", container.name, "it is not running, so its processes are forgotten")
        return await asyncio.shield(task.process(exec_id).exited)

    async def _follow(self, task: LiveTask, process: Process) -> None:
        try:
            ended = await task.shim.wait(exec_id=process.exec_id)
        except CortenError:
            return  # the container's own end says it, to all (`LiveTask.end`)
        status = ExitStatus(
            exit_code=ended.exit_status,
            started_at_ns=process.started_at_ns,
            exited_at_ns=ended.exited_at.ToNanoseconds() or time.time_ns(),
        )
        process.end(status)
        await self._manager.records.happened(
            task.container, "task.exec-exited", {"exec_id": process.exec_id, "exit_code": str(ended.exit_status)}
        )
        await process.drained()
        await self._delete(task, process)

    async def _expire(self, task: LiveTask, process: Process) -> None:
        await asyncio.sleep(_ATTACH_WAIT)
        async with process.starting:
            if process.started or process.exited.done():
                return
            detail = f"nobody attached to it within {_ATTACH_WAIT:g} s, so it was not started"
            process.fail(FailedPrecondition("exec", process.exec_id, detail))
            await self._delete(task, process)

    async def _delete(self, task: LiveTask, process: Process) -> None:
        try:
            await within(task.container.name, task.shim.delete(exec_id=process.exec_id), CALL)
        except CortenError as error:
            log.debug("exec.delete-failed", container=task.id, exec_id=process.exec_id, error=str(error))


def check(config: ExecConfig) -> None:
    """Raises InvalidArgument for what can never run."""
    if not config.argv or not config.argv[0]:
        raise InvalidArgument("command", "", "a program to run is needed")
    for kind, values in (("command", config.argv), ("environment", config.environment)):
        for value in values:
            if "\0" in value:
                raise InvalidArgument(kind, value.replace("\0", "\\0"), "it holds a NUL character")
    for entry in config.environment:
        if not entry or entry.startswith("="):
            raise InvalidArgument("environment", entry, '"NAME=value" is needed')
    if config.working_directory and not config.working_directory.startswith("/"):
        detail = "an absolute path in the container is needed"
        raise InvalidArgument("working directory", config.working_directory, detail)
