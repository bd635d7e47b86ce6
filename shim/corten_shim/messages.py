"""The messages of containerd's Task service and of corten.shim.v1.

Owns which fields there are; `wireformat` makes bytes of them. `tests/contract` holds every field against
`corten_api/shim/task.proto` and `corten.proto`, whose numbers these are. What Update, Stats and Checkpoint carry is
not here: the shim refuses those unread.
"""

from __future__ import annotations

from corten_shim.envelopes import Any, Timestamp
from corten_shim.wireformat import BOOL, BYTES, INT32, INT64, MESSAGE, STRING, UINT32, UINT64, Field, Message


class Mount(Message):
    __slots__ = ("options", "source", "target", "type")
    type: str
    source: str
    target: str
    options: list[str]
    FIELDS = (
        Field(1, "type", STRING),
        Field(2, "source", STRING),
        Field(3, "target", STRING),
        Field(4, "options", STRING, repeated=True),
    )


class ProcessInfo(Message):
    __slots__ = ("info", "pid")
    pid: int
    info: Any | None
    FIELDS = (Field(1, "pid", UINT32), Field(2, "info", MESSAGE, message=Any))


class CreateTaskRequest(Message):
    __slots__ = (
        "bundle",
        "checkpoint",
        "id",
        "options",
        "parent_checkpoint",
        "rootfs",
        "stderr",
        "stdin",
        "stdout",
        "terminal",
    )
    id: str
    bundle: str
    rootfs: list[Mount]
    terminal: bool
    stdin: str
    stdout: str
    stderr: str
    checkpoint: str
    parent_checkpoint: str
    options: Any | None
    FIELDS = (
        Field(1, "id", STRING),
        Field(2, "bundle", STRING),
        Field(3, "rootfs", MESSAGE, repeated=True, message=Mount),
        Field(4, "terminal", BOOL),
        Field(5, "stdin", STRING),
        Field(6, "stdout", STRING),
        Field(7, "stderr", STRING),
        Field(8, "checkpoint", STRING),
        Field(9, "parent_checkpoint", STRING),
        Field(10, "options", MESSAGE, message=Any),
    )


class CreateTaskResponse(Message):
    __slots__ = ("pid",)
    pid: int
    FIELDS = (Field(1, "pid", UINT32),)


class DeleteRequest(Message):
    __slots__ = ("exec_id", "id")
    id: str
    exec_id: str
    FIELDS = (Field(1, "id", STRING), Field(2, "exec_id", STRING))


class DeleteResponse(Message):
    __slots__ = ("exit_status", "exited_at", "pid")
    pid: int
    exit_status: int
    exited_at: Timestamp | None
    FIELDS = (
        Field(1, "pid", UINT32),
        Field(2, "exit_status", UINT32),
        Field(3, "exited_at", MESSAGE, message=Timestamp),
    )


class ExecProcessRequest(Message):
    __slots__ = ("exec_id", "id", "spec", "stderr", "stdin", "stdout", "terminal")
    id: str
    exec_id: str
    terminal: bool
    stdin: str
    stdout: str
    stderr: str
    spec: Any | None
    FIELDS = (
        Field(1, "id", STRING),
        Field(2, "exec_id", STRING),
        Field(3, "terminal", BOOL),
        Field(4, "stdin", STRING),
        Field(5, "stdout", STRING),
        Field(6, "stderr", STRING),
        Field(7, "spec", MESSAGE, message=Any),
    )


class ResizePtyRequest(Message):
    __slots__ = ("exec_id", "height", "id", "width")
    id: str
    exec_id: str
    width: int
    height: int
    FIELDS = (
        Field(1, "id", STRING),
        Field(2, "exec_id", STRING),
        Field(3, "width", UINT32),
        Field(4, "height", UINT32),
    )


class StateRequest(Message):
    __slots__ = ("exec_id", "id")
    id: str
    exec_id: str
    FIELDS = (Field(1, "id", STRING), Field(2, "exec_id", STRING))


class StateResponse(Message):
    __slots__ = (
        "bundle",
        "exec_id",
        "exit_status",
        "exited_at",
        "id",
        "pid",
        "status",
        "stderr",
        "stdin",
        "stdout",
        "terminal",
    )
    id: str
    bundle: str
    pid: int
    status: int
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    exit_status: int
    exited_at: Timestamp | None
    exec_id: str
    FIELDS = (
        Field(1, "id", STRING),
        Field(2, "bundle", STRING),
        Field(3, "pid", UINT32),
        Field(4, "status", INT32),
        Field(5, "stdin", STRING),
        Field(6, "stdout", STRING),
        Field(7, "stderr", STRING),
        Field(8, "terminal", BOOL),
        Field(9, "exit_status", UINT32),
        Field(10, "exited_at", MESSAGE, message=Timestamp),
        Field(11, "exec_id", STRING),
    )


class KillRequest(Message):
    __slots__ = ("all", "exec_id", "id", "signal")
    id: str
    exec_id: str
    signal: int
    all: bool
    FIELDS = (Field(1, "id", STRING), Field(2, "exec_id", STRING), Field(3, "signal", UINT32), Field(4, "all", BOOL))


class CloseIORequest(Message):
    __slots__ = ("exec_id", "id", "stdin")
    id: str
    exec_id: str
    stdin: bool
    FIELDS = (Field(1, "id", STRING), Field(2, "exec_id", STRING), Field(3, "stdin", BOOL))


class PidsRequest(Message):
    __slots__ = ("id",)
    id: str
    FIELDS = (Field(1, "id", STRING),)


class PidsResponse(Message):
    __slots__ = ("processes",)
    processes: list[ProcessInfo]
    FIELDS = (Field(1, "processes", MESSAGE, repeated=True, message=ProcessInfo),)


class StartRequest(Message):
    __slots__ = ("exec_id", "id")
    id: str
    exec_id: str
    FIELDS = (Field(1, "id", STRING), Field(2, "exec_id", STRING))


class StartResponse(Message):
    __slots__ = ("pid",)
    pid: int
    FIELDS = (Field(1, "pid", UINT32),)


class WaitRequest(Message):
    __slots__ = ("exec_id", "id")
    id: str
    exec_id: str
    FIELDS = (Field(1, "id", STRING), Field(2, "exec_id", STRING))


class WaitResponse(Message):
    __slots__ = ("exit_status", "exited_at")
    exit_status: int
    exited_at: Timestamp | None
    FIELDS = (Field(1, "exit_status", UINT32), Field(2, "exited_at", MESSAGE, message=Timestamp))


class ConnectRequest(Message):
    __slots__ = ("id",)
    id: str
    FIELDS = (Field(1, "id", STRING),)


class ConnectResponse(Message):
    __slots__ = ("shim_pid", "task_pid", "version")
    shim_pid: int
    task_pid: int
    version: str
    FIELDS = (Field(1, "shim_pid", UINT32), Field(2, "task_pid", UINT32), Field(3, "version", STRING))


class ShutdownRequest(Message):
    __slots__ = ("id", "now")
    id: str
    now: bool
    FIELDS = (Field(1, "id", STRING), Field(2, "now", BOOL))


class PauseRequest(Message):
    __slots__ = ("id",)
    id: str
    FIELDS = (Field(1, "id", STRING),)


class ResumeRequest(Message):
    __slots__ = ("id",)
    id: str
    FIELDS = (Field(1, "id", STRING),)


class CreateOptions(Message):
    __slots__ = (
        "attach_stall_ms",
        "durable",
        "exit_record",
        "height",
        "log_directory",
        "log_max_bytes",
        "log_max_files",
        "open_stdin",
        "seccomp_cache",
        "stdin_once",
        "width",
    )
    log_directory: str
    log_max_bytes: int
    log_max_files: int
    exit_record: str
    durable: bool
    open_stdin: bool
    stdin_once: bool
    attach_stall_ms: int
    seccomp_cache: str
    width: int
    height: int
    FIELDS = (
        Field(1, "log_directory", STRING),
        Field(2, "log_max_bytes", INT64),
        Field(3, "log_max_files", INT32),
        Field(4, "exit_record", STRING),
        Field(5, "durable", BOOL),
        Field(6, "open_stdin", BOOL),
        Field(7, "stdin_once", BOOL),
        Field(8, "attach_stall_ms", INT64),
        Field(9, "seccomp_cache", STRING),
        Field(10, "width", UINT32),
        Field(11, "height", UINT32),
    )


class AttachRequest(Message):
    __slots__ = ("exec_id", "id", "stderr", "stdin", "stdout")
    id: str
    exec_id: str
    stdin: bool
    stdout: bool
    stderr: bool
    FIELDS = (
        Field(1, "id", STRING),
        Field(2, "exec_id", STRING),
        Field(3, "stdin", BOOL),
        Field(4, "stdout", BOOL),
        Field(5, "stderr", BOOL),
    )


class AttachResponse(Message):
    __slots__ = ("terminal", "token")
    token: bytes
    terminal: bool
    FIELDS = (Field(1, "token", BYTES), Field(2, "terminal", BOOL))


class DescribeRequest(Message):
    __slots__ = ()


class Process(Message):
    __slots__ = ("exec_id", "exit_status", "exited_at_ns", "pid", "started_at_ns", "status", "terminal")
    exec_id: str
    pid: int
    status: int
    terminal: bool
    exit_status: int
    exited_at_ns: int
    started_at_ns: int
    FIELDS = (
        Field(1, "exec_id", STRING),
        Field(2, "pid", UINT32),
        Field(3, "status", UINT32),
        Field(4, "terminal", BOOL),
        Field(5, "exit_status", UINT32),
        Field(6, "exited_at_ns", INT64),
        Field(7, "started_at_ns", INT64),
    )


class DescribeResponse(Message):
    __slots__ = ("bundle", "id", "log_lost_bytes", "processes", "protocol", "shim_pid", "version", "warnings")
    shim_pid: int
    version: str
    protocol: int
    id: str
    bundle: str
    processes: list[Process]
    warnings: list[str]
    log_lost_bytes: int
    FIELDS = (
        Field(1, "shim_pid", UINT32),
        Field(2, "version", STRING),
        Field(3, "protocol", UINT32),
        Field(4, "id", STRING),
        Field(5, "bundle", STRING),
        Field(6, "processes", MESSAGE, repeated=True, message=Process),
        Field(7, "warnings", STRING, repeated=True),
        Field(8, "log_lost_bytes", UINT64),
    )


class ReopenLogRequest(Message):
    __slots__ = ()


class ReopenLogResponse(Message):
    __slots__ = ()


class ErrorDetail(Message):
    __slots__ = ("detail", "kind", "name")
    kind: str
    name: str
    detail: str
    FIELDS = (Field(1, "kind", STRING), Field(2, "name", STRING), Field(3, "detail", STRING))
