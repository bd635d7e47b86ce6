"""The engine itself: its version, its host, whether it answers."""

from __future__ import annotations

from corten_api.v1 import system_pb2

from corten import _calls, _messages
from corten._blocks import Face, blocking
from corten._value import Value


class Version(Value):
    """Of the engine. `architecture` is a GOARCH name."""

    version: str
    api: str
    git_commit: str
    python: str
    kernel: str
    os: str
    architecture: str


class Info(Value):
    """The engine and its host."""

    id: str
    root: str
    state: str
    snapshotter: str
    cgroup_version: str
    cgroup_parent: str
    containers: int
    containers_running: int
    containers_paused: int
    containers_stopped: int
    images: int
    cpus: int
    memory_bytes: int
    security: tuple[str, ...]
    warnings: tuple[str, ...]
    hostname: str
    operating_system: str
    started_at_ns: int
    pid: int


class AsyncSystem:
    """The engine, as coroutines."""

    def __init__(self, calls: _calls.Calls) -> None:
        self._calls = calls

    async def version(self) -> Version:
        """Of the engine."""
        answer = await self._calls.unary("System/Version", system_pb2.VersionRequest(), system_pb2.VersionResponse)
        return Version(**{name: getattr(answer, name) for name in Version._fields})

    async def info(self) -> Info:
        """The engine and its host, counted now."""
        answer = await self._calls.unary("System/Info", system_pb2.InfoRequest(), system_pb2.InfoResponse)
        fields = {name: getattr(answer, name) for name in Info._fields if name != "started_at_ns"}
        fields |= {name: tuple(fields[name]) for name in ("security", "warnings")}
        return Info(**fields, started_at_ns=_messages.nanoseconds(answer, "started_at"))

    async def ping(self) -> None:
        """Raises Unavailable when the engine does not answer."""
        await self._calls.unary("System/Ping", system_pb2.PingRequest(), system_pb2.PingResponse)


class System(Face[AsyncSystem]):
    """The engine, blocking."""

    version = blocking(AsyncSystem.version)
    info = blocking(AsyncSystem.info)
    ping = blocking(AsyncSystem.ping)
