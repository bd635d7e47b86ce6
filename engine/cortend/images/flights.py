"""Work that several callers want: done once, told to all, given up when the last of them leaves.

Owns the running work by key. What the work is, is its starter's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from cortend.images.progress import Board, Progress

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self, work: Callable[[Board], Awaitable[T]]) -> None:
        self.board = Board()
        self.waiters = 0
        self.task = asyncio.ensure_future(self._run(work))

    async def _run(self, work: Callable[[Board], Awaitable[T]]) -> T:
        try:
            return await work(self.board)
        finally:
            self.board.close()


class Flights(Generic[T]):
    """Work under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def join(self, key: Hashable, work: Callable[[Board], Awaitable[T]]) -> AsyncGenerator[Progress | T, None]:
        """Every step, and the result last. `work` is begun unless a caller before us did for this key.

        Closing the iterator leaves; the last to leave cancels the work and waits for its end.
        """
        flight = self._flights.get(key)
        if flight is None or flight.task.done():
            flight = self._flights[key] = _Flight(work)
            flight.task.add_done_callback(lambda _: self._landed(key, flight))
        flight.waiters += 1
        watch = flight.board.watch()
        try:
            async for progress in watch:
                yield progress
            yield await asyncio.shield(flight.task)
        finally:
            flight.board.leave(watch)
            flight.waiters -= 1
            if not flight.waiters:
                await self._give_up(key, flight)

    async def close(self) -> None:
        """Cancel everything and wait for its end."""
        for key, flight in list(self._flights.items()):
            await self._give_up(key, flight)

    async def _give_up(self, key: Hashable, flight: _Flight[T]) -> None:
        if flight.task.done():
            return
        self._landed(key, flight)
        flight.task.cancel()
        await asyncio.wait([flight.task])

    def _landed(self, key: Hashable, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # seen, though nobody may be left to tell
