"""The calls of containerd's Task service and of corten.shim.v1: message in, one thing done, message out.

Owns the translation between messages and the container. Knows no sockets (see `connection`, `server`) and decides
nothing about processes (see `container`).
"""

from __future__ import annotations

import os

from corten_shim import faults, lifecycle, messages, ttrpc
from corten_shim.builder import Builder
from corten_shim.connection import Call
from corten_shim.container import Container
from corten_shim.envelopes import Any, Timestamp
from corten_shim.exitrecord import Exit
from corten_shim.process import Process
from corten_shim.rootfs import Mount
from corten_shim.stdio import STDERR, STDOUT
from corten_shim.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corten_shim.connection import Handler
    from corten_shim.linux.pages import PageNote
    from corten_shim.server import Server
    from corten_shim.wireformat import Message

PROTOCOL = 1
STREAM = "stream:"
PROCESS_DETAILS = "containerd.runc.v1.ProcessDetails"  # its field 1 is the exec id, as in our Process
_LATER = {
    "Checkpoint": "checkpoints are not supported by this version; stop the container and start it anew",
    "Update": "resources cannot be changed while it runs in this version; set them at create",
    "Stats": "usage is not told by this version; read the container's cgroup",
}


class Tasks:
    """The handlers, each `(call, payload)`; `handlers` is the table a connection looks them up in.

    Made in the zygote, once for all shims.
    """

    __slots__ = ("_builder", "_builder_pages", "_container", "_server", "_started", "handlers")
    _server: Server

    def __init__(self) -> None:
        self._container: Container | None = None
        self._builder: Builder | None = None
        self._builder_pages: PageNote | None = None
        self._started: Callable[[], None] = _nothing
        task: dict[str, Handler] = {
            "State": self._state,
            "Create": self._create,
            "Start": self._start,
            "Delete": self._delete,
            "Pids": self._pids,
            "Pause": self._pause,
            "Resume": self._resume,
            "Kill": self._kill,
            "Exec": self._exec,
            "ResizePty": self._resize,
            "CloseIO": self._close_io,
            "Wait": self._wait,
            "Connect": self._connect,
            "Shutdown": self._shutdown,
        }
        for name, sentence in _LATER.items():
            task[name] = _refusal(name, sentence)
        own: dict[str, Handler] = {"Attach": self._attach, "Describe": self._describe, "ReopenLog": self._reopen_log}
        self.handlers = {(service, name): handler for service in ttrpc.TASK_SERVICES for name, handler in task.items()}
        self.handlers.update({(ttrpc.SHIM_SERVICE, name): handler for name, handler in own.items()})

    def make_ready(self, builder: Builder, pages: PageNote, *, started: Callable[[], None]) -> None:
        """In a shim, ahead of its first call: the container's builder, the pages that those write to, and what to call
        once the container runs.
        """
        self._builder = builder
        self._builder_pages = pages
        self._started = started

    def release(self) -> None:
        """Give a builder back that nobody needed."""
        if self._builder is not None:
            self._builder.release()
            self._builder = None

    def serve(self, server: Server) -> None:
        """Work for `server`; before any handler is called."""
        self._server = server

    @property
    def container(self) -> Container | None:
        """Absent before Create and after the init's Delete."""
        return self._container

    def _find(self, id: str) -> Container:
        if self._container is None or id != self._container.id:
            raise faults.not_found("container", id, f"is not in this shim; it is for {self._server.id}")
        return self._container

    def _create(self, call: Call, payload: bytes) -> None:
        request = messages.CreateTaskRequest()
        request.merge(payload)
        if self._container is not None:
            raise faults.already_exists("container", self._container.id, "this shim has its container already")
        if request.id != self._server.id:
            raise faults.invalid("container", request.id, f"this shim is for {self._server.id}")
        if request.checkpoint or request.parent_checkpoint:
            raise faults.unimplemented("checkpoint", request.checkpoint, _LATER["Checkpoint"])
        _only_streams(request.stdin, request.stdout, request.stderr)
        options = messages.CreateOptions()
        if request.options is not None and request.options.type_url:
            if request.options.type_url != ttrpc.CREATE_OPTIONS:
                raise faults.invalid("options", request.options.type_url, f"must be {ttrpc.CREATE_OPTIONS}")
            options.merge(request.options.value)
        container = Container(
            self._server.reactor,
            id=request.id,
            bundle=request.bundle or self._server.bundle,
            options=options,
            pages=self._builder_pages,
        )
        mounts = [Mount(mount.type, mount.source, mount.target, mount.options) for mount in request.rootfs]
        made, self._builder = self._builder, None
        container.create(made or Builder(), mounts, terminal=request.terminal, meanwhile=self._server.listen)
        self._container = container
        self._server.created()
        call.reply(messages.CreateTaskResponse(pid=container.init.pid))

    def _start(self, call: Call, payload: bytes) -> None:
        request = messages.StartRequest()
        request.merge(payload)
        process = self._find(request.id).start(request.exec_id)
        self._server.started()
        call.reply(messages.StartResponse(pid=process.pid))
        if not request.exec_id:
            self._started()

    def _delete(self, call: Call, payload: bytes) -> None:
        request = messages.DeleteRequest()
        request.merge(payload)
        process = self._find(request.id).delete(request.exec_id)
        end = process.exit
        assert end is not None
        if not request.exec_id:
            self._container = None
            self._server.deleted()
        call.reply(messages.DeleteResponse(pid=process.pid, exit_status=end.code, exited_at=_time(end.exited_at_ns)))

    def _state(self, call: Call, payload: bytes) -> None:
        request = messages.StateRequest()
        request.merge(payload)
        container = self._find(request.id)
        process = container.find(request.exec_id)
        end = process.exit
        call.reply(
            messages.StateResponse(
                id=container.id,
                bundle=container.bundle,
                pid=process.pid,
                status=process.state,
                terminal=process.streams.terminal,
                exit_status=end.code if end is not None else 0,
                exited_at=_time(end.exited_at_ns) if end is not None else None,
                exec_id=process.exec_id,
            )
        )

    def _pids(self, call: Call, payload: bytes) -> None:
        request = messages.PidsRequest()
        request.merge(payload)
        container = self._find(request.id)
        exec_ids = {process.pid: process.exec_id for process in container.processes.values() if process.exec_id}
        processes = []
        for pid in container.pids():
            info = None
            if pid in exec_ids:
                info = Any(type_url=PROCESS_DETAILS, value=messages.Process(exec_id=exec_ids[pid]).encode())
            processes.append(messages.ProcessInfo(pid=pid, info=info))
        call.reply(messages.PidsResponse(processes=processes))

    def _pause(self, call: Call, payload: bytes) -> None:
        request = messages.PauseRequest()
        request.merge(payload)
        self._find(request.id).pause()
        call.reply()

    def _resume(self, call: Call, payload: bytes) -> None:
        request = messages.ResumeRequest()
        request.merge(payload)
        self._find(request.id).resume()
        call.reply()

    def _kill(self, call: Call, payload: bytes) -> None:
        request = messages.KillRequest()
        request.merge(payload)
        self._find(request.id).kill(request.exec_id, request.signal, everything=request.all)
        call.reply()

    def _exec(self, call: Call, payload: bytes) -> None:
        request = messages.ExecProcessRequest()
        request.merge(payload)
        container = self._find(request.id)
        _only_streams(request.stdin, request.stdout, request.stderr)
        if request.spec is None or request.spec.type_url != ttrpc.PROCESS_SPEC:
            found = request.spec.type_url if request.spec is not None else ""
            raise faults.invalid("process spec", found, f"must be {ttrpc.PROCESS_SPEC}")
        stdin = request.stdin == STREAM
        container.exec(request.exec_id, request.spec.value, terminal=request.terminal, stdin=stdin)
        call.reply()

    def _resize(self, call: Call, payload: bytes) -> None:
        request = messages.ResizePtyRequest()
        request.merge(payload)
        self._find(request.id).find(request.exec_id).resize(request.width, request.height)
        call.reply()

    def _close_io(self, call: Call, payload: bytes) -> None:
        request = messages.CloseIORequest()
        request.merge(payload)
        process = self._find(request.id).find(request.exec_id)
        if request.stdin:
            process.streams.close_stdin()
        call.reply()

    def _wait(self, call: Call, payload: bytes) -> None:
        request = messages.WaitRequest()
        request.merge(payload)

        def tell(end: Exit) -> None:
            call.reply(messages.WaitResponse(exit_status=end.code, exited_at=_time(end.exited_at_ns)))

        self._find(request.id).find(request.exec_id).wait(tell, call.listening)

    def _connect(self, call: Call, payload: bytes) -> None:
        request = messages.ConnectRequest()
        request.merge(payload)
        pid = self._find(request.id).init.pid
        call.reply(messages.ConnectResponse(shim_pid=os.getpid(), task_pid=pid, version=VERSION))

    def _shutdown(self, call: Call, payload: bytes) -> None:
        request = messages.ShutdownRequest()
        request.merge(payload)
        container = self._container
        if container is not None and not request.now:
            state = lifecycle.NAMES[container.init.state]
            raise faults.precondition("container", container.id, f"is {state}; delete it first, or say now")
        self._server.end()
        if container is not None and (failed := self._server.failed) is not None:
            raise failed
        call.reply()

    def _attach(self, call: Call, payload: bytes) -> None:
        request = messages.AttachRequest()
        request.merge(payload)
        process = self._find(request.id).find(request.exec_id)
        wanted = ((STDOUT, request.stdout), (STDERR, request.stderr))
        channels = tuple(channel for channel, wants in wanted if wants)
        if not channels and not request.stdin:
            raise faults.invalid("attach", process.name, "asks for none of stdin, stdout and stderr")
        token = self._server.reserve(
            process.streams, stdin=request.stdin, channels=channels, connection=call.connection
        )
        call.reply(messages.AttachResponse(token=token, terminal=process.streams.terminal))

    def _describe(self, call: Call, payload: bytes) -> None:
        container = self._container
        processes = container.processes.values() if container is not None else ()
        call.reply(
            messages.DescribeResponse(
                shim_pid=os.getpid(),
                version=VERSION,
                protocol=PROTOCOL,
                id=self._server.id,
                bundle=self._server.bundle,
                processes=[_description(process) for process in processes],
                warnings=container.warnings if container is not None else [],
                log_lost_bytes=container.log_lost_bytes if container is not None else 0,
            )
        )

    def _reopen_log(self, call: Call, payload: bytes) -> None:
        if self._container is None:
            raise faults.not_found("container", self._server.id, "has no log before it is created")
        self._container.reopen_log()
        call.reply()


def _nothing() -> None:
    """What to do where nobody wants to know."""


def _refusal(name: str, sentence: str) -> Handler:
    def refuse(call: Call, payload: bytes) -> None:
        raise faults.unimplemented("method", name, sentence)

    return refuse


def _only_streams(*places: str) -> None:
    for place in places:
        if place not in ("", STREAM):
            raise faults.unimplemented("stdio", place, f'only "" and "{STREAM}" are known to this version')


def _time(ns: int) -> Timestamp:
    seconds, nanos = divmod(ns, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)


def _description(process: Process) -> Message:
    end = process.exit
    return messages.Process(
        exec_id=process.exec_id,
        pid=process.pid,
        status=process.state,
        terminal=process.streams.terminal,
        exit_status=end.code if end is not None else 0,
        exited_at_ns=end.exited_at_ns if end is not None else 0,
        started_at_ns=process.started_at_ns,
    )
