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

# `record` is the intent, `image` the image's configuration at create, `state` what the last task did, all JSON; the
# rest is what is looked up.
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
        image TEXT NOT NULL,
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

# `number` is the name of the directory; it is never stored before the directory is on disk.
_SNAPSHOTS = (
    """CREATE TABLE snapshots (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        parent INTEGER REFERENCES snapshots (number),
        created_at_ns INTEGER NOT NULL,
        labels TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        inodes INTEGER NOT NULL
    )""",
    "CREATE INDEX snapshots_by_parent ON snapshots (parent)",
)

_LEASES = (
    """CREATE TABLE leases (
        id TEXT PRIMARY KEY,
        created_at_ns INTEGER NOT NULL,
        expires_at_ns INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE lease_resources (
        lease TEXT NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (lease, kind, name)
    ) WITHOUT ROWID""",
)

# Descriptors, layers, diff_ids and labels are JSON. A name belongs to the namespace that made it; `removed` hides an
# image that only a stopped container still needs.
_IMAGES = (
    """CREATE TABLE images (
        id TEXT PRIMARY KEY,
        manifest TEXT NOT NULL,
        config TEXT NOT NULL,
        layers TEXT NOT NULL,
        diff_ids TEXT NOT NULL,
        chain_id TEXT NOT NULL,
        os TEXT NOT NULL,
        architecture TEXT NOT NULL,
        variant TEXT NOT NULL,
        created_at_ns INTEGER NOT NULL,
        pulled_at_ns INTEGER NOT NULL,
        size INTEGER NOT NULL,
        content_size INTEGER NOT NULL,
        labels TEXT NOT NULL,
        removed INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE image_names (
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        image_id TEXT NOT NULL,
        target TEXT NOT NULL,
        PRIMARY KEY (name, namespace)
    ) WITHOUT ROWID""",
    "CREATE INDEX image_names_by_image ON image_names (image_id)",
)

# One statement an entry. Append; never reorder, never edit one that was released.
MIGRATIONS: tuple[str, ...] = (
    *_META,
    *_CONTAINERS,
    *_EVENTS,
    *_SNAPSHOTS,
    *_LEASES,
    *_IMAGES,
)
