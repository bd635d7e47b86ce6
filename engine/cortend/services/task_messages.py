"""Tasks between `corten.v1` and the domain.

Owns nothing but the conversion, both ways.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from corten_api.errors import InvalidArgument
from corten_api.v1 import tasks_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from cortend.domain.containers import ExecConfig, ExitStatus
from cortend.services.container_messages import timestamp
from cortend.tasks.attach import AttachOptions, DirectEnd
from cortend.tasks.crilog import LogEntry
from cortend.tasks.logs import LogFilter
from cortend.tasks.manager import Condition

_DIRECT_ENDS: dict[int, DirectEnd] = {
    pb.DIRECT_END_WHOLE: DirectEnd.WHOLE,
    pb.DIRECT_END_CUT: DirectEnd.CUT,
    pb.DIRECT_END_UNREACHABLE: DirectEnd.UNREACHABLE,
}
_CONDITIONS: dict[int, Condition] = {
    pb.WaitTaskRequest.CONDITION_NOT_RUNNING: Condition.NOT_RUNNING,
    pb.WaitTaskRequest.CONDITION_NEXT_EXIT: Condition.NEXT_EXIT,
    pb.WaitTaskRequest.CONDITION_REMOVED: Condition.REMOVED,
}


def condition_of(number: int) -> Condition:
    found = _CONDITIONS.get(number)
    if found is None:
        raise InvalidArgument("wait condition", str(number), "not running (0), next exit (1) or removed (2) is needed")
    return found


def exit_message(status: ExitStatus) -> Any:
    return pb.ExitStatus(
        exit_code=status.exit_code,
        reason=status.reason,
        oom_killed=status.oom_killed,
        started_at=timestamp(status.started_at_ns),
        exited_at=timestamp(status.exited_at_ns),
        error=status.error,
    )


def exec_config(request: Any) -> ExecConfig:
    return ExecConfig(
        argv=tuple(request.argv),
        environment=tuple(request.environment),
        working_directory=request.working_directory,
        user=request.user,
        terminal=request.terminal,
        open_stdin=request.open_stdin,
        privileged=request.privileged,
        attach_first=request.attach_first,
    )


def size_of(message: Any) -> tuple[int, int] | None:
    """(columns, rows); None where one is 0. Raises InvalidArgument beyond what a terminal can have."""
    if not message.width or not message.height:
        return None
    if max(message.width, message.height) > 65535:
        raise InvalidArgument("terminal size", f"{message.width}x{message.height}", "at most 65535 each is possible")
    return message.width, message.height


def direct_end_of(value: int) -> DirectEnd:
    return _DIRECT_ENDS.get(value, DirectEnd.CUT)


def attach_options(message: Any) -> AttachOptions:
    return AttachOptions(
        exec_id=message.exec_id,
        stdin=message.stdin,
        stdout=message.stdout,
        stderr=message.stderr,
        size=size_of(message.size) if message.HasField("size") else None,
        logs=message.logs,
        direct=message.direct,
    )


def log_filter(request: Any) -> LogFilter:
    tail = request.tail if request.HasField("tail") and request.tail >= 0 else None
    return LogFilter(
        stdout=request.stdout,
        stderr=request.stderr,
        since_ns=nanoseconds(request.since) if request.HasField("since") else None,
        until_ns=nanoseconds(request.until) if request.HasField("until") else None,
        tail=tail,
    )


def nanoseconds(moment: Timestamp) -> int:
    return moment.seconds * 1_000_000_000 + moment.nanos


def log_message(entries: Iterable[LogEntry]) -> Any:
    return pb.LogEntries(
        entries=[
            pb.LogEntry(
                stream=pb.LogEntry.STREAM_STDOUT if entry.stdout else pb.LogEntry.STREAM_STDERR,
                time=Timestamp(seconds=entry.time_ns // 1_000_000_000, nanos=entry.time_ns % 1_000_000_000),
                data=entry.data,
            )
            for entry in entries
        ]
    )
