"""Leases: what keeps content and snapshots that nothing refers to yet from being collected.

Owns the rows of `leases` and `lease_resources`. A lease ends when it is deleted or has expired; collecting is `gc`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from cortend.db.database import Transaction

BLOB, SNAPSHOT = "blob", "snapshot"
TEMPORARY = "temporary "  # how the id of a lease begins that ends with its process


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRow:
    """One lease; times in nanoseconds since the epoch."""

    id: str
    created_at_ns: int
    expires_at_ns: int


def insert(tx: Transaction, row: LeaseRow) -> None:
    """Add a lease that holds nothing yet."""
    tx.execute(
        "INSERT INTO leases (id, created_at_ns, expires_at_ns) VALUES (?, ?, ?)",
        (row.id, row.created_at_ns, row.expires_at_ns),
    )


def add(tx: Transaction, lease: str, kind: str, name: str) -> None:
    """Have `lease` hold the blob (by digest) or the snapshot (by name); holding it twice is fine."""
    tx.execute("INSERT OR IGNORE INTO lease_resources (lease, kind, name) VALUES (?, ?, ?)", (lease, kind, name))


def extend(tx: Transaction, lease: str, expires_at_ns: int) -> bool:
    """Move the end of a lease; False where it is gone."""
    changed = tx.execute("UPDATE leases SET expires_at_ns = ? WHERE id = ?", (expires_at_ns, lease))
    return changed.rowcount > 0


def delete(tx: Transaction, lease: str) -> None:
    """End a lease; ending one that is gone is fine."""
    tx.execute("DELETE FROM leases WHERE id = ?", (lease,))


def delete_temporary(tx: Transaction) -> int:
    """End every lease of work that nobody goes on with after a restart; returns how many."""
    return tx.execute("DELETE FROM leases WHERE id LIKE ?", (f"{TEMPORARY}%",)).rowcount


def delete_expired(tx: Transaction, now_ns: int) -> int:
    """End every lease whose time is over; returns how many."""
    return tx.execute("DELETE FROM leases WHERE expires_at_ns <= ?", (now_ns,)).rowcount


def held(tx: Transaction, kind: str, now_ns: int) -> set[str]:
    """What live leases hold, of one kind."""
    rows = tx.execute(
        "SELECT r.name FROM lease_resources r JOIN leases l ON l.id = r.lease WHERE r.kind = ? AND l.expires_at_ns > ?",
        (kind, now_ns),
    )
    return {str(row[0]) for row in rows}
