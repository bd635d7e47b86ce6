"""One shim as the daemon sees it: every call of its services as a method.

Owns the connection to the shim and how its sockets are found. Knows nothing of container records: callers say what is
to be done, by id. Calls raise `corten_api.errors`; Unavailable where the shim is gone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from corten_api.errors import Unavailable
from corten_api.shim import corten_pb2, task_pb2
from corten_shim import ttrpc as wire
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from cortend.tasks.stream import Stream
from cortend.tasks.ttrpc import Answer, Client

CALL_SECONDS = 30.0
CONNECT_SECONDS = 5.0
_TASK = wire.TASK_SERVICES[0]


class Shim:
    """`pid` is the shim's own, 0 until the zygote told it. Made by `Zygote.spawn` or `Shim.connect`."""

    def __init__(self, client: Client, *, container_id: str, bundle: Path, pid: int = 0) -> None:
        self._client = client
        self.container_id = container_id
        self.bundle = bundle
        self.pid = pid

    @classmethod
    async def adopt(cls, sock: socket.socket, *, container_id: str, bundle: Path) -> Shim:
        """The shim that has, or will have, the other end of a socket."""
        sock.setblocking(False)
        client = await Client.on(sock, name=container_id)
        return cls(client, container_id=container_id, bundle=bundle)

    @classmethod
    async def connect(cls, bundle: Path) -> Shim:
        """The shim that listens in `bundle`. Raises Unavailable when nobody answers there."""
        sock = await _connect(bundle, "shim.sock")
        pid = _peer(sock)
        client = await Client.on(sock, name=bundle.name)
        shim = cls(client, container_id=bundle.name, bundle=bundle, pid=pid)
        try:
            described = await shim.describe(timeout=CONNECT_SECONDS)
        except BaseException:
            client.close()
            raise
        shim.container_id = described.id
        return shim

    @property
    def closed(self) -> asyncio.Event:
        """Set once the connection is gone, which it is when the shim is."""
        return self._client.closed

    async def wait_closed(self) -> None:
        await self._client.closed.wait()

    def close(self) -> None:
        """Leave the shim; it goes on."""
        self._client.close()

    async def state(self, *, exec_id: str = "") -> task_pb2.StateResponse:
        request = task_pb2.StateRequest(id=self.container_id, exec_id=exec_id)
        return await self._task("State", request, task_pb2.StateResponse)

    async def create(
        self, rootfs: Sequence[task_pb2.Mount], *, options: corten_pb2.CreateOptions, terminal: bool = False
    ) -> int:
        """Make the container up to its exec, on `rootfs` or else on what the bundle says; returns the init's pid."""
        request = task_pb2.CreateTaskRequest(
            id=self.container_id,
            bundle=str(self.bundle),
            rootfs=rootfs,
            terminal=terminal,
            options=Any(type_url=wire.CREATE_OPTIONS, value=options.SerializeToString()),
        )
        return (await self._task("Create", request, task_pb2.CreateTaskResponse)).pid

    async def start(self, *, exec_id: str = "") -> int:
        """Let the process run; its pid. An error of kind "executable" is exit code 127 (NotFound) or 126."""
        request = task_pb2.StartRequest(id=self.container_id, exec_id=exec_id)
        return (await self._task("Start", request, task_pb2.StartResponse)).pid

    async def delete(self, *, exec_id: str = "") -> task_pb2.DeleteResponse:
        request = task_pb2.DeleteRequest(id=self.container_id, exec_id=exec_id)
        return await self._task("Delete", request, task_pb2.DeleteResponse)

    async def pids(self) -> list[tuple[int, str]]:
        """(pid, exec id) of every process of the container; the exec id is empty where there is none."""
        request = task_pb2.PidsRequest(id=self.container_id)
        answer = await self._task("Pids", request, task_pb2.PidsResponse)
        return [(info.pid, corten_pb2.Process.FromString(info.info.value).exec_id) for info in answer.processes]

    async def pause(self) -> None:
        await self._task("Pause", task_pb2.PauseRequest(id=self.container_id), Empty)

    async def resume(self) -> None:
        await self._task("Resume", task_pb2.ResumeRequest(id=self.container_id), Empty)

    async def kill(self, signal: int, *, exec_id: str = "", everything: bool = False) -> None:
        """Signal a process, or every one of the container. Raises NotFound where it has ended."""
        request = task_pb2.KillRequest(id=self.container_id, exec_id=exec_id, signal=signal, all=everything)
        await self._task("Kill", request, Empty)

    async def exec(self, exec_id: str, process_json: bytes, *, terminal: bool = False, stdin: bool = False) -> None:
        """Note a process (JSON of an OCI process) to run beside the init; `start` runs it."""
        request = task_pb2.ExecProcessRequest(
            id=self.container_id,
            exec_id=exec_id,
            terminal=terminal,
            stdin="stream:" if stdin else "",
            spec=Any(type_url=wire.PROCESS_SPEC, value=process_json),
        )
        await self._task("Exec", request, Empty)

    async def resize_pty(self, width: int, height: int, *, exec_id: str = "") -> None:
        request = task_pb2.ResizePtyRequest(id=self.container_id, exec_id=exec_id, width=width, height=height)
        await self._task("ResizePty", request, Empty)

    async def close_io(self, *, exec_id: str = "") -> None:
        """End the process's stdin, whoever is attached."""
        request = task_pb2.CloseIORequest(id=self.container_id, exec_id=exec_id, stdin=True)
        await self._task("CloseIO", request, Empty)

    async def wait(self, *, exec_id: str = "") -> task_pb2.WaitResponse:
        """How the process ended, once it has. No deadline: cancel it, or the shim's end ends it."""
        request = task_pb2.WaitRequest(id=self.container_id, exec_id=exec_id)
        return await self._client.call(_TASK, "Wait", request, task_pb2.WaitResponse, timeout=None)

    async def shutdown(self, *, now: bool = False) -> None:
        """End the shim; `now`: with its container, which is killed."""
        await self._task("Shutdown", task_pb2.ShutdownRequest(id=self.container_id, now=now), Empty)

    async def describe(self, *, timeout: float = CALL_SECONDS) -> corten_pb2.DescribeResponse:
        request = corten_pb2.DescribeRequest()
        return await self._client.call(
            wire.SHIM_SERVICE, "Describe", request, corten_pb2.DescribeResponse, timeout=timeout
        )

    async def reopen_log(self) -> None:
        request = corten_pb2.ReopenLogRequest()
        answer = corten_pb2.ReopenLogResponse
        await self._client.call(wire.SHIM_SERVICE, "ReopenLog", request, answer, timeout=CALL_SECONDS)

    async def attach(
        self, *, exec_id: str = "", stdin: bool = False, stdout: bool = True, stderr: bool = True
    ) -> Stream:
        """A stream of a process; from here on nothing it writes is missed."""
        token = await self.reserve(exec_id=exec_id, stdin=stdin, stdout=stdout, stderr=stderr)
        return await self.open(token, name=exec_id or self.container_id)

    async def open(self, token: bytes, *, name: str) -> Stream:
        """The stream that was reserved with `token`."""
        sock = await _connect(self.bundle, "stream.sock")
        try:
            await asyncio.get_running_loop().sock_sendall(sock, token)
        except OSError as error:
            sock.close()
            raise Unavailable("shim", self.container_id, f"does not take streams: {error.strerror}") from error
        return Stream(sock, name=name)

    async def reserve(
        self, *, exec_id: str = "", stdin: bool = False, stdout: bool = True, stderr: bool = True
    ) -> bytes:
        """The token of a stream that somebody opens within 10 s; from here on nothing is missed."""
        request = corten_pb2.AttachRequest(
            id=self.container_id, exec_id=exec_id, stdin=stdin, stdout=stdout, stderr=stderr
        )
        answer = await self._client.call(
            wire.SHIM_SERVICE, "Attach", request, corten_pb2.AttachResponse, timeout=CALL_SECONDS
        )
        return answer.token

    async def _task(self, method: str, request: Message, answer: type[Answer]) -> Answer:
        return await self._client.call(_TASK, method, request, answer, timeout=CALL_SECONDS)


async def _connect(bundle: Path, name: str) -> socket.socket:
    """A socket connected to `name` in `bundle`, however long that path is. Raises Unavailable."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, f"/proc/self/fd/{directory}/{name}")
        finally:
            os.close(directory)
    except OSError as error:  # TimeoutError is one
        sock.close()
        raise Unavailable("shim", bundle.name, f"does not answer on {name}: {error.strerror or 'too slow'}") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _peer(sock: socket.socket) -> int:
    """The pid of the process that listens at the other end."""
    size = struct.calcsize("iII")
    pid, _uid, _gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(pid)
