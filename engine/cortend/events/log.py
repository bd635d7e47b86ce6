"""The event log: what happened, in order, for subscribers that may be slow or away.

Owns retention and wake-ups. Nothing is queued for a subscriber: each reads the database by its own cursor, so a slow
one costs nothing and misses only what retention dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Mapping

from cortend.db import events as rows
from cortend.db.database import Database, Transaction
from cortend.domain.events import Event

_BATCH = 256
DEFAULT_RETAINED = 10_000


class EventLog:
    """Made inside the event loop that its subscribers run in."""

    def __init__(self, database: Database, *, retained: int = DEFAULT_RETAINED) -> None:
        self._database = database
        self._retained = retained
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()
        database.after_commit(self._committed)

    def record(
        self,
        tx: Transaction,
        topic: str,
        id: str,
        attributes: Mapping[str, str] | None = None,
        namespace: str = "default",
    ) -> None:
        """Append an event inside the transaction of the change it tells of."""
        event = Event(topic=topic, id=id, namespace=namespace, time_ns=time.time_ns(), attributes=attributes or {})
        rows.append(tx, event, retain=self._retained)

    async def publish(
        self, topic: str, id: str, attributes: Mapping[str, str] | None = None, namespace: str = "default"
    ) -> None:
        """Append an event that goes with no other change."""
        await self._database.write(lambda tx: self.record(tx, topic, id, attributes, namespace), durable=False)

    def follow(
        self,
        *,
        after: int = 0,
        since_ns: int | None = None,
        until_ns: int | None = None,
        topics: Iterable[str] = (),
        namespace: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Events in order: those kept after cursor `after` (or since a time) first, then what comes.

        With neither, only what comes. `topics` are prefixes, none means all; `namespace` None means every one.
        Ends at `until_ns`, otherwise never. Nothing that happens after this call is missed.
        """
        cursor = self._database.read(lambda tx: _beginning(tx, after, since_ns))
        return self._follow(cursor, until_ns, tuple(topics) or ("",), namespace)

    async def _follow(
        self, cursor: int, until_ns: int | None, prefixes: tuple[str, ...], namespace: str | None
    ) -> AsyncGenerator[Event, None]:
        while True:
            woken = self._next_commit()
            position = cursor
            batch = self._database.read(lambda tx, position=position: rows.after(tx, position, limit=_BATCH))  # type: ignore[misc]
            for event in batch:
                cursor = event.cursor
                if until_ns is not None and event.time_ns > until_ns:
                    return
                if event.topic.startswith(prefixes) and namespace in (None, event.namespace):
                    yield event
            if len(batch) == _BATCH:
                continue
            remaining = None if until_ns is None else (until_ns - time.time_ns()) / 1e9
            if remaining is not None and remaining <= 0:
                return
            await asyncio.wait((woken,), timeout=remaining)

    def _next_commit(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    def _committed(self) -> None:
        # In any thread. A set that is empty now had its reader read after this commit.
        if self._waiting and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for future in tuple(self._waiting):
            if not future.done():
                future.set_result(None)


def _beginning(tx: Transaction, after: int, since_ns: int | None) -> int:
    if after:
        return min(after, rows.newest(tx))
    if since_ns is not None:
        return rows.first_since(tx, since_ns)
    return rows.newest(tx)
