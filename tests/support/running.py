"""Containers through the raw API, a line a step: for tests of the engine itself.

Owns shorthand only; nothing is asserted here.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from corten_api.v1 import containers_pb2 as containers
from corten_api.v1 import tasks_pb2 as tasks
from google.protobuf.duration_pb2 import Duration

from tests.support import paths
from tests.support.api import Api

TIMEOUT = 60 * paths.PATIENCE


class Running:
    """Shorthand for one image on one engine."""

    def __init__(self, api: Callable[[], Api], image: str) -> None:
        self._api = api
        self.image = image

    @property
    def api(self) -> Api:
        """Of the engine as it runs now: tests restart it."""
        return self._api()

    def create(self, *command: str, name: str = "", request_id: str = "", **config: Any) -> str:
        """A container of the image; its id."""
        config.setdefault("image", self.image)
        message = containers.ContainerConfig(command=command, **config)
        request = containers.CreateContainerRequest(name=name, config=message, request_id=request_id)
        return str(self.api.containers.Create(request, timeout=TIMEOUT).container.id)

    def start(self, container: str) -> int:
        return int(self.api.tasks.Start(tasks.StartTaskRequest(container=container), timeout=TIMEOUT).pid)

    def run(self, *command: str, **config: Any) -> str:
        """Created and started; its id."""
        container = self.create(*command, **config)
        self.start(container)
        return container

    def wait(self, container: str, condition: int = 0, *, exec_id: str = "", timeout: float = TIMEOUT) -> Any:
        request = tasks.WaitTaskRequest(container=container, condition=condition, exec_id=exec_id)  # type: ignore[arg-type]
        return self.api.tasks.Wait(request, timeout=timeout).status

    def get(self, container: str) -> Any:
        request = containers.GetContainerRequest(container=container)
        return self.api.containers.Get(request, timeout=TIMEOUT).container

    def kill(self, container: str, signal: str = "", *, exec_id: str = "") -> None:
        request = tasks.KillTaskRequest(container=container, signal=signal, exec_id=exec_id)
        self.api.tasks.Kill(request, timeout=TIMEOUT)

    def stop(self, container: str, seconds: float | None = None) -> None:
        timeout = None if seconds is None else Duration(nanos=int(seconds * 1e9) % 10**9, seconds=int(seconds))
        self.api.tasks.Stop(tasks.StopTaskRequest(container=container, timeout=timeout), timeout=TIMEOUT)

    def delete(self, container: str, *, force: bool = False) -> None:
        request = containers.DeleteContainerRequest(container=container, force=force)
        self.api.containers.Delete(request, timeout=TIMEOUT)

    def exec(self, container: str, *argv: str, **options: Any) -> str:
        """Its exec id."""
        request = tasks.ExecTaskRequest(container=container, argv=argv, **options)
        return str(self.api.tasks.Exec(request, timeout=TIMEOUT).exec_id)

    def logs(self, container: str, **options: Any) -> str:
        stream = self.api.tasks.Logs(tasks.LogsRequest(container=container, **options), timeout=TIMEOUT)
        return b"".join(entry.data for batch in stream for entry in batch.entries).decode()

    def attach(self, container: str, **options: Any) -> Attached:
        """Attached: what the process writes from here on is not missed."""
        for name in ("stdout", "stderr"):
            options.setdefault(name, True)
        return Attached(self.api, tasks.AttachRequest.Open(container=container, **options))


class Attached:
    """One Attach call. Close it."""

    def __init__(self, api: Api, opening: tasks.AttachRequest.Open) -> None:
        self._requests: queue.SimpleQueue[tasks.AttachRequest | None] = queue.SimpleQueue()
        self._requests.put(tasks.AttachRequest(open=opening))
        self._call = api.tasks.Attach(iter(self._requests.get, None), timeout=TIMEOUT)
        first = next(self._call)
        self.terminal: bool = first.attached.terminal
        self._stdout = bytearray()
        self._stderr = bytearray()
        self.status: Any = None

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def stdout(self) -> bytes:
        """All of it so far."""
        return bytes(self._stdout)

    @property
    def stderr(self) -> bytes:
        return bytes(self._stderr)

    def send(self, data: bytes) -> None:
        self._requests.put(tasks.AttachRequest(stdin=data))

    def close_stdin(self) -> None:
        self._requests.put(tasks.AttachRequest(close_stdin=True))

    def resize(self, width: int, height: int) -> None:
        self._requests.put(tasks.AttachRequest(resize=tasks.TerminalSize(width=width, height=height)))

    def step(self) -> bool:
        """Take one message; False at the end."""
        message = next(self._call, None)
        if message is None:
            return False
        kind = message.WhichOneof("message")
        if kind == "stdout":
            self._stdout += message.stdout
        elif kind == "stderr":
            self._stderr += message.stderr
        elif kind == "exited":
            self.status = message.exited
        return True

    def until(self, text: bytes) -> None:
        """Read until stdout holds `text`. Raises AssertionError at the end of the stream."""
        while text not in self._stdout:
            assert self.step(), f"ended without {text!r}: {self.stdout!r} {self.stderr!r}"

    def finish(self) -> Any:
        """Read to the end; the exit status."""
        while self.step():
            pass
        self.close()
        return self.status

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()


@contextlib.contextmanager
def beside(work: Callable[[], Any]) -> Iterator[queue.SimpleQueue[Any]]:
    """`work` in a thread; what it returns or raises is put into the queue."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def perform() -> None:
        try:
            answers.put(work())
        except (grpc.RpcError, AssertionError) as error:
            answers.put(error)

    thread = threading.Thread(target=perform, daemon=True)
    thread.start()
    yield answers
    thread.join(TIMEOUT)


def eventually(condition: Callable[[], Any], *, seconds: float = 10) -> Any:
    """The first true answer of `condition`; what it said last when that takes too long."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer


def code(error: Any) -> grpc.StatusCode:
    """The status code of a grpc.RpcError."""
    found: grpc.StatusCode = error.code()
    return found
