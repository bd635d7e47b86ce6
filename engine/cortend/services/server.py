"""The gRPC server on one unix socket.

Owns the socket: its mode, its directory's, and a stale one's replacement. Which services there are is the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from corten_api.errors import PermissionDenied, Unavailable
from grpc_health.v1 import _async as aio_health
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cortend.services.guard import Guard

MAX_MESSAGE = 16 << 20
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
)
_SOCKET_UMASK = 0o177


class Server:
    """Serves what was registered, and tells `grpc.health.v1` so."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._guard = Guard()
        self._server = grpc.aio.server(options=_OPTIONS)
        self._health = aio_health.HealthServicer()
        self._names: list[str] = []

    def register(self, add: Callable[[Any, Any], None], service: Any, name: str) -> None:
        """`add` is the generated function, `name` the service's full name."""
        add(self._guard.around(service, name), self._server)
        self._names.append(name)

    async def start(self) -> None:
        """Listen. The caller holds the state directory's lock, so a socket that is there is stale."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        _make_room(self._socket)
        before = os.umask(_SOCKET_UMASK)
        try:
            self._server.add_insecure_port(f"unix:{self._socket}")
        except RuntimeError as error:
            raise Unavailable("address", f"unix://{self._socket}", "it cannot be listened on") from error
        finally:
            os.umask(before)
        os.chmod(self._socket, 0o600)
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace: float) -> None:
        """End streams and waits at once; other calls may finish, at most `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        self._guard.stop_endless()
        await self._server.stop(grace)
        self._socket.unlink(missing_ok=True)


def _make_room(socket: Path) -> None:
    try:
        if not socket.parent.is_dir():
            socket.parent.mkdir(mode=0o700, parents=True)
        socket.unlink(missing_ok=True)
    except OSError as error:
        raise PermissionDenied("address", f"unix://{socket}", error.strerror or "it cannot be made") from error
