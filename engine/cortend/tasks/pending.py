"""Attachers that came before the start.

Owns the waiting list: they are connected after the shim was made and before the process runs, so they miss nothing.
Where nobody waits, a start need not stop between the two; who comes in the middle of it waits for its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from corten_api.errors import CortenError

from cortend.tasks.live import LiveTask

Connect = Callable[[LiveTask], Awaitable[None]]


class Waiting:
    """One attacher. `connect` opens its streams; `size` is of its terminal."""

    def __init__(self, connect: Connect, size: tuple[int, int] | None) -> None:
        self.connect = connect
        self.size = size
        self.connected: asyncio.Future[LiveTask] = asyncio.get_running_loop().create_future()


class PendingAttachers:
    """Waiting attachers by container id."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Waiting]] = {}
        self._hurried: dict[str, asyncio.Event] = {}

    @contextmanager
    def hurry(self, container_id: str) -> Iterator[bool]:
        """During a start: whether nobody waits for it. Nobody may begin to, then (see `turn`)."""
        hurried = container_id not in self._waiting
        if hurried:
            self._hurried[container_id] = asyncio.Event()
        try:
            yield hurried
        finally:
            if hurried:
                self._hurried.pop(container_id).set()

    async def turn(self, container_id: str) -> None:
        """Return when no start is in a hurry."""
        while (event := self._hurried.get(container_id)) is not None:
            await event.wait()

    def add(self, container_id: str, waiting: Waiting) -> None:
        self._waiting.setdefault(container_id, []).append(waiting)

    def discard(self, container_id: str, waiting: Waiting) -> None:
        """It gave up."""
        others = [each for each in self._waiting.pop(container_id, []) if each is not waiting]
        if others:
            self._waiting[container_id] = others

    def size(self, container_id: str) -> tuple[int, int] | None:
        """The terminal size that the last of them asked for."""
        sizes = [each.size for each in self._waiting.get(container_id, ()) if each.size]
        return sizes[-1] if sizes else None

    async def connect(self, task: LiveTask) -> None:
        """Connect all who wait for the container of `task`; one that fails learns why, the others are served."""
        for waiting in self._waiting.pop(task.id, []):
            if waiting.connected.done():
                continue
            try:
                await waiting.connect(task)
            except CortenError as error:
                waiting.connected.set_exception(error)
            else:
                waiting.connected.set_result(task)

    def fail(self, container_id: str, error: CortenError) -> None:
        for waiting in self._waiting.pop(container_id, []):
            if not waiting.connected.done():
                waiting.connected.set_exception(error)
