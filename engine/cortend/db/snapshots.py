"""Snapshot records: which directory number holds what, and what it stands on.

Owns the rows of `snapshots`. Directories, mounts and locks are the snapshotter's; this module only reads and writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from cortend.db.database import Transaction

VIEW, ACTIVE, COMMITTED = "view", "active", "committed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRow:
    """One snapshot. `parent` is the number of what it stands on; sizes are known of committed ones only."""

    number: int
    name: str
    kind: str
    parent: int | None
    parent_name: str
    created_at_ns: int
    labels: Mapping[str, str]
    size_bytes: int
    inodes: int


_SELECT = """SELECT s.number, s.name, s.kind, s.parent, coalesce(p.name, '') AS parent_name, s.created_at_ns,
    s.labels, s.size_bytes, s.inodes FROM snapshots s LEFT JOIN snapshots p ON p.number = s.parent """


def insert(tx: Transaction, row: SnapshotRow) -> None:
    """Add a record. The caller has made sure that the name is free and the parent committed."""
    tx.execute(
        "INSERT INTO snapshots (number, name, kind, parent, created_at_ns, labels, size_bytes, inodes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (row.number, row.name, row.kind, row.parent, row.created_at_ns, json.dumps(dict(row.labels)), 0, 0),
    )


def get(tx: Transaction, name: str) -> SnapshotRow | None:
    """The record of that key or name."""
    found = tx.execute(_SELECT + "WHERE s.name = ?", (name,)).fetchone()
    return _row(found) if found is not None else None


def chain(tx: Transaction, number: int) -> list[int]:
    """`number` and what it stands on, the top first."""
    rows = tx.execute(
        """WITH RECURSIVE up (number, parent, depth) AS (
            SELECT number, parent, 0 FROM snapshots WHERE number = ?
            UNION ALL
            SELECT s.number, s.parent, up.depth + 1 FROM snapshots s JOIN up ON s.number = up.parent
        ) SELECT number FROM up ORDER BY depth""",
        (number,),
    )
    return [int(row[0]) for row in rows]


def child_of(tx: Transaction, number: int) -> str | None:
    """The name of one snapshot that stands on `number`."""
    found = tx.execute("SELECT name FROM snapshots WHERE parent = ? LIMIT 1", (number,)).fetchone()
    return str(found[0]) if found is not None else None


def commit(tx: Transaction, number: int, *, name: str, labels: Mapping[str, str], size_bytes: int, inodes: int) -> None:
    """Turn the active snapshot `number` into the committed `name`."""
    tx.execute(
        "UPDATE snapshots SET name = ?, kind = ?, labels = ?, size_bytes = ?, inodes = ? WHERE number = ?",
        (name, COMMITTED, json.dumps(dict(labels)), size_bytes, inodes, number),
    )


def delete(tx: Transaction, number: int) -> None:
    """Forget a record."""
    tx.execute("DELETE FROM snapshots WHERE number = ?", (number,))


def page(tx: Transaction, *, after: str, limit: int) -> list[SnapshotRow]:
    """Records by name, those beyond `after`."""
    rows = tx.execute(_SELECT + "WHERE s.name > ? ORDER BY s.name LIMIT ?", (after, limit))
    return [_row(row) for row in rows]


def numbers(tx: Transaction) -> list[int]:
    """Every number in use."""
    return [int(row[0]) for row in tx.execute("SELECT number FROM snapshots ORDER BY number")]


def uncommitted(tx: Transaction) -> list[SnapshotRow]:
    """Active snapshots and views."""
    return [_row(row) for row in tx.execute(_SELECT + "WHERE s.kind != ?", (COMMITTED,))]


def by_number(tx: Transaction, number: int) -> SnapshotRow | None:
    """The record of that number."""
    found = tx.execute(_SELECT + "WHERE s.number = ?", (number,)).fetchone()
    return _row(found) if found is not None else None


def _row(found: Mapping[str, object]) -> SnapshotRow:
    parent = found["parent"]
    return SnapshotRow(
        number=int(str(found["number"])),
        name=str(found["name"]),
        kind=str(found["kind"]),
        parent=int(str(parent)) if parent is not None else None,
        parent_name=str(found["parent_name"]),
        created_at_ns=int(str(found["created_at_ns"])),
        labels=json.loads(str(found["labels"])),
        size_bytes=int(str(found["size_bytes"])),
        inodes=int(str(found["inodes"])),
    )
