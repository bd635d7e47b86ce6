"""The schema of the metadata, as the ordered statements that made it what it is.

Owns every table and index. A statement, once released, never changes: what differs is appended. How many were
applied is the `user_version` of the file (see `db.database`).
"""

from __future__ import annotations

_META = (
    """CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID""",
)

# `record` is the intent and `state` what the last task did, both JSON; the rest is what is looked up.
_CONTAINERS = (
    """CREATE TABLE containers (
        id TEXT PRIMARY KEY,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        request_id TEXT NOT NULL,
        status TEXT NOT NULL,
        image_id TEXT NOT NULL,
        created_at_ns INTEGER NOT NULL,
        record TEXT NOT NULL,
        state TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE UNIQUE INDEX containers_by_name ON containers (namespace, name)",
    "CREATE UNIQUE INDEX containers_by_request ON containers (namespace, request_id) WHERE request_id != ''",
    "CREATE INDEX containers_by_image ON containers (image_id)",
)

# The cursor is never given twice, also after the newest events were pruned.
_EVENTS = (
    """CREATE TABLE events (
        cursor INTEGER PRIMARY KEY AUTOINCREMENT,
        time_ns INTEGER NOT NULL,
        namespace TEXT NOT NULL,
        topic TEXT NOT NULL,
        id TEXT NOT NULL,
        attributes TEXT NOT NULL
    )""",
)

# One statement an entry. Append; never reorder, never edit one that was released.
MIGRATIONS: tuple[str, ...] = (
    *_META,
    *_CONTAINERS,
    *_EVENTS,
)
