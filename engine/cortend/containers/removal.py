"""The end of a container: snapshot, directory, record.

Owns the order, which makes it repeatable: the record says REMOVING first and goes last, so that a removal that a
crash cut short is completed by the next start of the engine.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

from corten_api.errors import NotFound

from cortend.db import containers as rows
from cortend.db.database import Database, Transaction
from cortend.domain.containers import Container, Move, moved
from cortend.domain.layout import Layout
from cortend.events.log import EventLog
from cortend.snapshots.snapshotter import Snapshotter
from cortend.tasks import lost
from cortend.tasks.records import attributes


class Removal:
    def __init__(self, *, database: Database, events: EventLog, snapshotter: Snapshotter, layout: Layout) -> None:
        self._database = database
        self._events = events
        self._snapshotter = snapshotter
        self._layout = layout

    async def remove(self, container: Container) -> None:
        """Remove a container that does not run. The caller holds its lock.

        Raises NotFound when it is gone, FailedPrecondition while it runs. After a power loss the record may come back
        without its snapshot; the next start of the engine removes it then.
        """
        await self._database.write(lambda tx: self._begin(tx, container), durable=False)
        await asyncio.to_thread(self._clear, container)
        await self._database.write(lambda tx: self._finish(tx, container), durable=False)

    def _begin(self, tx: Transaction, container: Container) -> None:
        current = rows.get(tx, container.id)
        status = moved(current.status, Move.REMOVE, name=current.name)
        rows.put_state(tx, container.id, replace(current.state, status=status))

    def _clear(self, container: Container) -> None:
        with suppress(NotFound):  # an earlier removal came this far
            self._snapshotter.remove(container.snapshot_key, durable=False)
        lost.remove_directory(container.id, self._layout)

    def _finish(self, tx: Transaction, container: Container) -> None:
        name = rows.name_of(tx, container.id) or container.name
        if rows.delete(tx, container.id):
            told = attributes(container) | {"name": name}
            self._events.record(tx, "container.removed", container.id, told, container.namespace)
