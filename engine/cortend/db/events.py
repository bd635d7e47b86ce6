"""Events as rows: appended, read by cursor, the oldest dropped.

Owns the table `events`. Who is told, and when, is the business of `cortend.events`.
"""

from __future__ import annotations

import json

from cortend.db.database import Transaction
from cortend.domain.events import Event

_PRUNE_EVERY = 256


def append(tx: Transaction, event: Event, *, retain: int) -> int:
    """Record `event`; returns its cursor. Now and then all but the newest `retain` are dropped."""
    row = (event.time_ns, event.namespace, event.topic, event.id, json.dumps(dict(event.attributes)))
    done = tx.execute("INSERT INTO events (time_ns, namespace, topic, id, attributes) VALUES (?, ?, ?, ?, ?)", row)
    cursor = int(done.lastrowid or 0)
    if cursor % _PRUNE_EVERY == 0:
        tx.execute("DELETE FROM events WHERE cursor <= ?", (cursor - retain,))
    return cursor


def newest(tx: Transaction) -> int:
    """The last cursor given, 0 before the first; kept by SQLite also when every event was dropped."""
    row = tx.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return 0 if row is None else int(row["seq"])


def first_since(tx: Transaction, time_ns: int) -> int:
    """The cursor to read after, so that everything recorded at or after `time_ns` comes."""
    row = tx.execute("SELECT MIN(cursor) AS first FROM events WHERE time_ns >= ?", (time_ns,)).fetchone()
    return newest(tx) if row["first"] is None else int(row["first"]) - 1


def after(tx: Transaction, cursor: int, *, limit: int) -> list[Event]:
    """At most `limit` events that come after `cursor`, in order."""
    rows = tx.execute("SELECT * FROM events WHERE cursor > ? ORDER BY cursor LIMIT ?", (cursor, limit))
    return [
        Event(
            cursor=row["cursor"],
            time_ns=row["time_ns"],
            namespace=row["namespace"],
            topic=row["topic"],
            id=row["id"],
            attributes=json.loads(row["attributes"]),
        )
        for row in rows
    ]
