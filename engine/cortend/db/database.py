"""The metadata file: one SQLite database in WAL mode, one writer, readers that never wait for it.

Owns connections, transactions, group commit, durability and the translation of SQLite's failures. Knows no table: each
noun has a repository module beside this one, whose functions take a `Transaction`.

What has to be on disk is committed by a thread: works that are queued together share one commit, each inside a
savepoint of its own, so that a failing one takes nothing else with it. What need not be there yet costs some
microseconds, less than waking a thread: its caller commits it itself, unless the writer is busy. A work must not block
and must not wait for another write.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from corten_api.errors import CortenError, DataLoss, FailedPrecondition, Internal, PermissionDenied, ResourceExhausted

from cortend.db.migrations import MIGRATIONS

T = TypeVar("T")
Transaction = sqlite3.Connection

_MAX_BATCH = 128
_CHECKPOINT_COMMITS = 200  # some 4 MiB of log
_BUSY_MS = 5000
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class _Job(Generic[T]):
    """One work that waits for its commit."""

    __slots__ = ("done", "durable", "error", "result", "work")

    def __init__(self, work: Callable[[Transaction], T], durable: bool, done: Callable[[], None]) -> None:
        self.work = work
        self.durable = durable
        self.done = done
        self.result: T | None = None
        self.error: BaseException | None = None

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return cast("T", self.result)


class Database:
    """All metadata of one store. `read` and `write_now` are for any thread, `write` for the event loop."""

    def __init__(self, path: Path, writer: Transaction, reader: Transaction) -> None:
        """Use `open`."""
        self.path = path
        self._writer = writer
        self._reader = reader
        self._reading = threading.RLock()
        self._in_read = False
        self._full = True
        self._closed = False
        self._after_commit: list[Callable[[], None]] = []
        self._writing = threading.Lock()
        self._commits = 0
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="database-writer", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: Path) -> Database:
        """The database at `path`, made where there is none and brought to the newest schema.

        Raises DataLoss for a file that is no database or a damaged one, FailedPrecondition for one of a newer release.
        """
        writer: Transaction | None = None
        try:
            writer = _connect(path)
            _verify(writer, path)
            _migrate(writer, path)
            return cls(path, writer, _connect(path))
        except (sqlite3.Error, CortenError) as error:
            if writer is not None:
                writer.close()
            if isinstance(error, sqlite3.Error):
                raise _translate(error, path) from error
            raise

    def close(self) -> None:
        """Finish what is queued and close the file. Calling it again is fine."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        with self._reading:
            self._reader.close()
        self._writer.close()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, in any thread, after every commit; it must neither block nor raise."""
        self._after_commit.append(callback)

    async def write(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        """Perform `work` in a transaction; returns its result once that is committed.

        With `durable` it is on disk then; without, a power loss (never a mere crash) may take it. A cancelled caller
        does not stop it. Raises what `work` raised, having undone it.
        """
        job = _Job(work, durable, _nobody)
        if not self._commit_now(job):
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                if not future.done():
                    future.set_result(None)

            job.done = lambda: _call_in(loop, wake)
            self._put(job)
            await future
        return job.outcome()

    def write_now(self, work: Callable[[Transaction], T], *, durable: bool = True) -> T:
        """As `write`, for callers in worker threads: blocks until the commit."""
        job = _Job(work, durable, _nobody)
        if not self._commit_now(job):
            future: Future[None] = Future()
            job.done = lambda: future.set_result(None)
            self._put(job)
            future.result()
        return job.outcome()

    def read(self, work: Callable[[Transaction], T]) -> T:
        """The result of `work` on the committed state; all that one `work` reads is of one moment."""
        with self._reading:
            if self._in_read:
                return work(self._reader)
            self._in_read = True
            try:
                self._reader.execute("BEGIN")
                try:
                    return work(self._reader)
                finally:
                    self._reader.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise _translate(error, self.path) from error
            finally:
                self._in_read = False

    def _put(self, job: _Job[Any]) -> None:
        if self._closed:
            raise FailedPrecondition("database", str(self.path), "it is closed: the engine is stopping")
        self._jobs.put(job)

    def _commit_now(self, job: _Job[Any]) -> bool:
        """Commit a work that need not be on disk here and now; False where it has to wait for its turn."""
        if job.durable or self._closed or not self._jobs.empty() or not self._writing.acquire(blocking=False):
            return False
        try:
            self._commit([job])
        finally:
            self._writing.release()
        self._look_at_log(1)
        return True

    def _look_at_log(self, commits: int) -> None:
        """Now and then have the writer bring the log into the database: that waits for the disk."""
        self._commits += commits
        if self._commits >= _CHECKPOINT_COMMITS:
            self._commits = 0
            self._jobs.put(_Job(_nothing, True, _nobody))

    def _serve(self) -> None:
        last = False
        while not last:
            job = self._jobs.get()
            batch: list[_Job[Any]] = []
            while job is not None:
                batch.append(job)
                if len(batch) >= _MAX_BATCH:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            last = job is None
            if batch:
                with self._writing:
                    self._commit(batch)
                    if any(job.work is _nothing for job in batch):
                        self._checkpoint()
                self._look_at_log(len(batch))

    def _commit(self, batch: list[_Job[Any]]) -> None:
        try:
            self._set_durability(any(job.durable for job in batch))
            self._writer.execute("BEGIN IMMEDIATE")
            if len(batch) == 1:
                self._perform_alone(batch[0])
            else:
                for job in batch:
                    self._perform(job)
            if self._writer.in_transaction:
                self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            for job in batch:
                if job.error is None:
                    job.error = _translate(error, self.path)
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        for job in batch:
            job.done()
        for callback in self._after_commit:
            callback()

    def _checkpoint(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # what keeps it from that, the next commit tells
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _perform_alone(self, job: _Job[Any]) -> None:
        """The only work of its transaction; one that fails is that transaction's end."""
        try:
            job.result = job.work(self._writer)
        except BaseException as error:
            job.error = _translate(error, self.path) if isinstance(error, sqlite3.Error) else error
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def _perform(self, job: _Job[Any]) -> None:
        self._writer.execute("SAVEPOINT job")
        try:
            job.result = job.work(self._writer)
        except BaseException as error:
            job.error = _translate(error, self.path) if isinstance(error, sqlite3.Error) else error
            if not self._writer.in_transaction:
                raise
            self._writer.execute("ROLLBACK TO job")
        self._writer.execute("RELEASE job")

    def _set_durability(self, durable: bool) -> None:
        if durable != self._full:
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._full = durable


def _nobody() -> None:
    """Nobody waits for it elsewhere."""


def _nothing(tx: Transaction) -> None:
    """The work of a checkpoint."""


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)


def _connect(path: Path) -> Transaction:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000, cached_statements=256
    )
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -1024")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _verify(connection: Transaction, path: Path) -> None:
    first = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if first != "ok":
        raise DataLoss("database", str(path), f"it is damaged ({first}); restore it from a copy or move it away")


def _migrate(connection: Transaction, path: Path) -> None:
    have = connection.execute("PRAGMA user_version").fetchone()[0]
    if have > len(MIGRATIONS):
        detail = f"it has schema {have}, this release knows up to {len(MIGRATIONS)}; use the newer release"
        raise FailedPrecondition("database", str(path), detail)
    if have == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in MIGRATIONS[have:]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _translate(error: sqlite3.Error, path: Path) -> CortenError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    name = str(path)
    if code in _CORRUPT:
        return DataLoss("database", name, f"it is damaged ({error}); restore it from a copy or move it away")
    if code == sqlite3.SQLITE_FULL:
        return ResourceExhausted("database", name, "no space left on its disk")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return PermissionDenied("database", name, f"it cannot be opened for writing ({error})")
    return Internal("database", name, str(error))
