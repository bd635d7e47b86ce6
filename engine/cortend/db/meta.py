"""Facts about the store itself: its id, made once.

Owns the table `meta`.
"""

from __future__ import annotations

import uuid

from cortend.db.database import Transaction


def get(tx: Transaction, name: str) -> str | None:
    row = tx.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row["value"])


def put(tx: Transaction, name: str, value: str) -> None:
    tx.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))


def store_id(tx: Transaction) -> str:
    """The id of this store; made by the first call, which must be a write."""
    known = get(tx, "id")
    if known is None:
        known = str(uuid.uuid4())
        put(tx, "id", known)
    return known
