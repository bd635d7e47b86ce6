"""Leases keep what they hold until they end or expire."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cortend.db import leases
from cortend.db.database import Database
from cortend.db.leases import BLOB, SNAPSHOT, TEMPORARY, LeaseRow


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database.open(tmp_path / "meta.db")
    yield made
    made.close()


def lease(database: Database, name: str, expires_at_ns: int, *blobs: str) -> None:
    database.write_now(lambda tx: leases.insert(tx, LeaseRow(id=name, created_at_ns=0, expires_at_ns=expires_at_ns)))
    for blob in (*blobs, *blobs):
        database.write_now(partial(leases.add, lease=name, kind=BLOB, name=blob))


def held(database: Database, kind: str, now_ns: int) -> set[str]:
    return database.read(lambda tx: leases.held(tx, kind, now_ns))


def test_what_any_live_lease_holds_is_held(database: Database) -> None:
    lease(database, "one", 100, "a", "b")
    lease(database, "two", 200, "b", "c")
    database.write_now(lambda tx: leases.add(tx, "one", SNAPSHOT, "s"))
    assert held(database, BLOB, 50) == {"a", "b", "c"}
    assert held(database, SNAPSHOT, 50) == {"s"}
    assert held(database, BLOB, 150) == {"b", "c"}


def test_a_lease_that_ends_lets_go_of_everything(database: Database) -> None:
    lease(database, "one", 100, "a")
    database.write_now(lambda tx: leases.delete(tx, "one"))
    database.write_now(lambda tx: leases.delete(tx, "one"))
    assert held(database, BLOB, 50) == set()


def test_a_lease_can_be_extended_while_it_lives(database: Database) -> None:
    lease(database, "one", 100, "a")
    assert database.write_now(lambda tx: leases.extend(tx, "one", 500))
    assert held(database, BLOB, 400) == {"a"}
    assert database.write_now(lambda tx: leases.delete_expired(tx, 500)) == 1
    assert not database.write_now(lambda tx: leases.extend(tx, "one", 900))


def test_a_temporary_lease_does_not_outlive_its_process(database: Database) -> None:
    lease(database, f"{TEMPORARY}load", 100, "a")
    lease(database, "pull", 100, "b")
    assert database.write_now(leases.delete_temporary) == 1
    assert held(database, BLOB, 0) == {"b"}
