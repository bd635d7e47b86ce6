"""Who waits for a container's next exit or its removal.

Owns the futures. They are resolved by the task manager, once the change is committed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from corten_api.errors import NotFound

from cortend.domain.containers import ExitStatus


class Waiters:
    """Futures by container id; a waiter that gives up is forgotten."""

    def __init__(self) -> None:
        self._exits: dict[str, set[asyncio.Future[ExitStatus]]] = defaultdict(set)
        self._removals: dict[str, set[asyncio.Future[ExitStatus]]] = defaultdict(set)

    async def next_exit(self, container_id: str) -> ExitStatus:
        """The next exit after this call. Raises NotFound when the container is removed first."""
        return await _wait(self._exits, container_id)

    async def removal(self, container_id: str) -> ExitStatus:
        """How the container's last task ended, once it is removed."""
        return await _wait(self._removals, container_id)

    def exited(self, container_id: str, status: ExitStatus) -> None:
        for future in self._exits.pop(container_id, ()):
            if not future.done():
                future.set_result(status)

    def removed(self, container_id: str, status: ExitStatus) -> None:
        for future in self._removals.pop(container_id, ()):
            if not future.done():
                future.set_result(status)
        for future in self._exits.pop(container_id, ()):
            if not future.done():
                future.set_exception(NotFound("container", container_id, "it was removed before it exited"))


async def _wait(table: dict[str, set[asyncio.Future[ExitStatus]]], container_id: str) -> ExitStatus:
    future: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
    table[container_id].add(future)
    try:
        return await future
    finally:
        waiting = table.get(container_id)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del table[container_id]
