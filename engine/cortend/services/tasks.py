"""corten.v1.Tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from corten_api.errors import InvalidArgument
from corten_api.v1 import tasks_pb2 as pb
from corten_api.v1 import tasks_pb2_grpc

from cortend.domain.containers import Container, ExitStatus
from cortend.services.container_messages import duration_ns
from cortend.services.context import namespace_of
from cortend.services.task_messages import (
    attach_options,
    condition_of,
    direct_end_of,
    exec_config,
    exit_message,
    log_filter,
    log_message,
    size_of,
)
from cortend.tasks.attach import Attachment, Direct, DirectEnd
from cortend.tasks.facade import Tasks
from cortend.tasks.stream import Channel


class TasksService(tasks_pb2_grpc.TasksServicer):
    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def _find(self, request: Any, context: Any) -> Container:
        return self._tasks.manager.find(namespace_of(context), request.container)

    async def Start(self, request: Any, context: Any) -> Any:
        started = await self._tasks.starter.start(self._find(request, context).id)
        return pb.StartTaskResponse(pid=started.pid, warnings=started.warnings)

    async def Wait(self, request: Any, context: Any) -> Any:
        container = self._find(request, context)
        if request.exec_id:
            status = await self._tasks.execs.wait(container, request.exec_id)
        else:
            status = await self._tasks.manager.wait(container, condition_of(request.condition))
        return pb.WaitTaskResponse(status=exit_message(status))

    async def Kill(self, request: Any, context: Any) -> Any:
        container = self._find(request, context)
        await self._tasks.manager.kill(container, text=request.signal, exec_id=request.exec_id, everything=request.all)
        return pb.KillTaskResponse()

    async def Stop(self, request: Any, context: Any) -> Any:
        timeout = duration_ns(request.timeout) if request.HasField("timeout") else None
        await self._tasks.manager.stop(self._find(request, context), text=request.signal, timeout_ns=timeout)
        return pb.StopTaskResponse()

    async def Pause(self, request: Any, context: Any) -> Any:
        await self._tasks.manager.pause(self._find(request, context))
        return pb.PauseTaskResponse()

    async def Resume(self, request: Any, context: Any) -> Any:
        await self._tasks.manager.resume(self._find(request, context))
        return pb.ResumeTaskResponse()

    async def Exec(self, request: Any, context: Any) -> Any:
        exec_id, pid = await self._tasks.execs.run(self._find(request, context), exec_config(request))
        return pb.ExecTaskResponse(exec_id=exec_id, pid=pid)

    async def ResizePty(self, request: Any, context: Any) -> Any:
        size = size_of(request.size)
        if size is None:
            raise InvalidArgument("terminal size", "0", "width and height are needed")
        await self._tasks.manager.resize(self._find(request, context), size, exec_id=request.exec_id)
        return pb.ResizePtyResponse()

    async def CloseIO(self, request: Any, context: Any) -> Any:
        await self._tasks.manager.close_stdin(self._find(request, context), exec_id=request.exec_id)
        return pb.CloseIOResponse()

    async def Pids(self, request: Any, context: Any) -> Any:
        found = await self._tasks.manager.pids(self._find(request, context))
        return pb.PidsResponse(processes=[pb.PidsResponse.Process(pid=pid, exec_id=exec_id) for pid, exec_id in found])

    async def Delete(self, request: Any, context: Any) -> Any:
        status = await self._tasks.manager.delete(self._find(request, context))
        return pb.DeleteTaskResponse(status=exit_message(status))

    async def Logs(self, request: Any, context: Any) -> AsyncIterator[Any]:
        container = self._find(request, context)
        async with aclosing(self._tasks.logs(container, log_filter(request), follow=request.follow)) as batches:
            async for entries in batches:
                yield log_message(entries)

    async def Attach(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("message") != "open":
            raise InvalidArgument("attach request", "", "the first message must be `open`")
        container = self._find(first.open, context)
        async with self._tasks.attachment(container, attach_options(first.open)) as attachment:
            yield pb.AttachResponse(attached=pb.AttachResponse.Attached(terminal=attachment.terminal))
            feeding = asyncio.ensure_future(_feed(requests, attachment))
            try:
                async with aclosing(attachment.outputs()) as outputs:
                    async for output in outputs:
                        yield _response(output)
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)


def _response(output: tuple[Channel, bytes] | Direct | ExitStatus) -> Any:
    if isinstance(output, ExitStatus):
        return pb.AttachResponse(exited=exit_message(output))
    if isinstance(output, Direct):
        return pb.AttachResponse(direct=pb.AttachResponse.Direct(directory=output.directory, token=output.token))
    channel, data = output
    return pb.AttachResponse(stderr=data) if channel is Channel.STDERR else pb.AttachResponse(stdout=data)


async def _feed(requests: AsyncIterator[Any], attachment: Attachment) -> None:
    """Everything the client sends, in order; its half-close is the end of stdin."""
    async for request in requests:
        kind = request.WhichOneof("message")
        if kind == "stdin":
            await attachment.write(request.stdin)
        elif kind == "close_stdin":
            await attachment.close_stdin()
        elif kind == "direct_end":
            attachment.direct_ended(direct_end_of(request.direct_end))
        elif kind == "resize":
            size = size_of(request.resize)
            if size is not None:
                await attachment.resize(*size)
    await attachment.close_stdin()
    attachment.direct_ended(DirectEnd.CUT)  # unless it said so before, it never will
