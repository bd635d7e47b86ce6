"""The database: group commit, isolation of works, durability, damage."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from corten_api.errors import DataLoss, FailedPrecondition, Internal, InvalidArgument
from cortend.db import meta
from cortend.db.database import Database, Transaction
from cortend.db.migrations import MIGRATIONS


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "meta.db")
    yield opened
    opened.close()


async def test_a_write_is_seen_by_every_read_that_follows(database: Database) -> None:
    await database.write(lambda tx: meta.put(tx, "a", "1"))
    assert database.read(lambda tx: meta.get(tx, "a")) == "1"


async def test_a_failing_work_is_undone_and_takes_no_other_with_it(database: Database) -> None:
    def fails(tx: Transaction) -> None:
        meta.put(tx, "bad", "1")
        raise InvalidArgument("thing", "x", "no")

    works = [database.write(lambda tx, n=n: meta.put(tx, f"good{n}", "1")) for n in range(20)]  # type: ignore[misc]
    works.insert(10, database.write(fails))
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    assert [type(each) for each in outcomes if each is not None] == [InvalidArgument]
    assert database.read(lambda tx: meta.get(tx, "bad")) is None
    assert all(database.read(lambda tx, n=n: meta.get(tx, f"good{n}")) == "1" for n in range(20))  # type: ignore[misc]


async def test_works_of_one_moment_share_a_commit(database: Database) -> None:
    commits: list[int] = []
    database.after_commit(lambda: commits.append(1))
    await asyncio.gather(*(database.write(lambda tx, n=n: meta.put(tx, str(n), "1")) for n in range(100)))  # type: ignore[misc]
    assert len(commits) < 50


async def test_a_cancelled_caller_does_not_stop_its_write(database: Database) -> None:
    gate = threading.Event()
    blocked = asyncio.ensure_future(database.write(lambda tx: gate.wait(5)))
    await asyncio.sleep(0.05)
    writing = asyncio.ensure_future(database.write(lambda tx: meta.put(tx, "a", "1")))
    await asyncio.sleep(0)
    writing.cancel()
    gate.set()
    await blocked
    await database.write(lambda tx: None)
    assert database.read(lambda tx: meta.get(tx, "a")) == "1"


async def test_reads_do_not_wait_for_a_write_that_takes_long(database: Database) -> None:
    gate = threading.Event()
    await database.write(lambda tx: meta.put(tx, "a", "before"))

    def slow(tx: Transaction) -> None:
        meta.put(tx, "a", "after")
        gate.wait(5)

    writing = asyncio.ensure_future(database.write(slow))
    await asyncio.sleep(0.05)
    assert database.read(lambda tx: meta.get(tx, "a")) == "before"
    gate.set()
    await writing
    assert database.read(lambda tx: meta.get(tx, "a")) == "after"


def test_worker_threads_write_and_read_without_a_loop(database: Database) -> None:
    threads = [
        threading.Thread(target=lambda n=n: database.write_now(lambda tx: meta.put(tx, str(n), "1"))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.read(lambda tx: tx.execute("SELECT COUNT(*) FROM meta").fetchone()[0]) == 8


def test_what_was_written_survives_a_reopening(tmp_path: Path) -> None:
    first = Database.open(tmp_path / "meta.db")
    made = first.write_now(meta.store_id)
    first.close()
    second = Database.open(tmp_path / "meta.db")
    assert second.write_now(meta.store_id) == made
    second.close()
    second.close()


@pytest.mark.parametrize("content", [b"not a database, whatever it is" * 400, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_corrupted_file_is_data_loss_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "meta.db"
    path.write_bytes(content)
    with pytest.raises(DataLoss) as raised:
        Database.open(path)
    assert str(path) in str(raised.value)


def test_a_page_overwritten_in_the_middle_is_found_at_opening(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    database = Database.open(path)
    for n in range(200):
        database.write_now(lambda tx, n=n: meta.put(tx, str(n), "x" * 500), durable=False)  # type: ignore[misc]
    database.close()
    data = bytearray(path.read_bytes())
    data[8192 : len(data) - 4096] = b"\x5a" * (len(data) - 4096 - 8192)
    path.write_bytes(data)
    with pytest.raises(DataLoss):
        Database.open(path)


def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    Database.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(FailedPrecondition, match="newer release"):
        Database.open(path)


def test_a_file_of_an_older_release_gets_the_statements_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    connection = sqlite3.connect(path)
    connection.execute(MIGRATIONS[0])
    connection.execute("INSERT INTO meta (name, value) VALUES ('kept', 'yes')")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    database = Database.open(path)
    assert database.read(lambda tx: meta.get(tx, "kept")) == "yes"
    assert database.read(lambda tx: tx.execute("PRAGMA user_version").fetchone()[0]) == len(MIGRATIONS)
    database.close()


def test_a_broken_statement_is_an_internal_error(database: Database) -> None:
    with pytest.raises(Internal, match="no such table"):
        database.write_now(lambda tx: tx.execute("SELECT * FROM nowhere"))


def test_a_closed_database_says_that_the_engine_is_stopping(database: Database) -> None:
    database.close()
    with pytest.raises(FailedPrecondition, match="stopping"):
        database.write_now(lambda tx: None)
