"""Snapshots as numbered directories: what every directory-based snapshotter shares.

Owns `snapshots/<number>/`, the order of writes that makes a crash harmless, and deletion. How a snapshot's tree comes
about and is mounted is the subclass's.

A directory is made before its record; a record is gone before its directory is. So whatever directory has no record is
rubbish that the next start sweeps, and deletion proper (`trash-<number>`) can happen at leisure in a thread of its own.
A committed snapshot is on disk before its record says so. An active one is not waited for: where a power loss took its
directory, nothing in it was on disk either, and the next start makes it again, empty.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from corten_api.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound

from cortend.db import snapshots as rows
from cortend.db.database import Database, Transaction
from cortend.db.snapshots import SnapshotRow
from cortend.domain.mounts import Mount
from cortend.snapshots import tree
from cortend.snapshots.holds import Holds
from cortend.snapshots.snapshotter import Kind, Snapshot, UnpackTarget, Usage

_TRASH = "trash-"
_MAX_NAME = 512


class DirectorySnapshotter(ABC):
    """See `snapshots.snapshotter.Snapshotter` for what the calls promise."""

    def __init__(self, root: Path, database: Database) -> None:
        """`root` is the `snapshots` directory, made if absent. Sweeps what an earlier process left behind."""
        if set(str(root)) & set(",:\\"):
            raise InvalidArgument("snapshot directory", str(root), 'must not contain ",", ":" or "\\": mount(2) cannot')
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root = root
        self._database = database
        self._directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._holds = Holds()
        self._trash: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reaper: threading.Thread | None = None
        self._reaper_lock = threading.Lock()
        highest = self._sweep()
        self._numbers = itertools.count(highest + 1)

    # -- what differs ---------------------------------------------------------------------------------------------

    @abstractmethod
    def _populate(self, number: int, chain: tuple[int, ...], kind: Kind) -> None:
        """Make the tree of a new snapshot in its fresh directory; `chain` are its parents, the nearest first."""

    @abstractmethod
    def _mounts(self, number: int, chain: tuple[int, ...], kind: Kind) -> tuple[Mount, ...]:
        """How an active snapshot or a view is mounted."""

    @abstractmethod
    def _target(self, number: int, chain: tuple[int, ...]) -> UnpackTarget:
        """Where the layer of an active snapshot goes."""

    def _parts(self, chain: tuple[int, ...]) -> tuple[str, ...]:
        """What `_populate` makes in the directory of a snapshot."""
        return ("fs",)

    def _needs_directory(self, chain: tuple[int, ...], kind: Kind) -> bool:
        """False where a snapshot is nothing but its parents."""
        return kind is not Kind.VIEW or not chain

    # -- the protocol ---------------------------------------------------------------------------------------------

    def prepare(
        self, key: str, parent: str | None, *, labels: Mapping[str, str] | None = None, durable: bool = True
    ) -> tuple[Mount, ...]:
        return self._create(key, parent, labels or {}, Kind.ACTIVE, durable)

    def view(self, key: str, parent: str | None, *, labels: Mapping[str, str] | None = None) -> tuple[Mount, ...]:
        return self._create(key, parent, labels or {}, Kind.VIEW, False)

    def mounts(self, key: str) -> tuple[Mount, ...]:
        row, chain = self._find(key)
        if row.kind == rows.COMMITTED:
            raise FailedPrecondition("snapshot", key, "is committed; make a view of it to mount it")
        self._verify_present(key, (row.number, *chain) if self._has_directory(row) else chain)
        return self._mounts(row.number, chain, Kind(row.kind))

    def commit(self, key: str, name: str, *, labels: Mapping[str, str] | None = None) -> Snapshot:
        _check_name(name)
        with self._holds.hold(key, "it is being committed"):
            row, _ = self._find(key)
            if row.kind != rows.ACTIVE:
                raise FailedPrecondition("snapshot", key, f"is {row.kind}; only an active one can be committed")
            tree.sync_filesystem(self._path(row.number))
            size, inodes = tree.disk_usage(self._path(row.number) / "fs")

            def record(tx: Transaction) -> SnapshotRow:
                if name != key and rows.get(tx, name) is not None:
                    raise AlreadyExists("snapshot", name, "exists already")
                merged = {**row.labels, **(labels or {})}
                rows.commit(tx, row.number, name=name, labels=merged, size_bytes=size, inodes=inodes)
                found = rows.by_number(tx, row.number)
                assert found is not None
                return found

            committed = _snapshot(self._database.write_now(record))
            with contextlib.suppress(FileNotFoundError):
                tree.remove_tree(self._path(row.number) / "work")
            return committed

    def remove(self, name: str, *, durable: bool = True) -> None:
        def forget(tx: Transaction) -> SnapshotRow:
            row = _existing(tx, name)
            child = rows.child_of(tx, row.number)
            if child is not None:
                raise FailedPrecondition("snapshot", name, f'snapshot "{child}" stands on it; remove that first')
            rows.delete(tx, row.number)
            return row

        with self._holds.hold(name, "it is being removed"):
            row = self._database.write_now(forget, durable=durable)
            if self._has_directory(row):
                self._discard(str(row.number))

    def stat(self, name: str) -> Snapshot:
        return _snapshot(self._database.read(lambda tx: _existing(tx, name)))

    def list(self, *, after: str = "", limit: int = 1000) -> list[Snapshot]:
        return [_snapshot(row) for row in self._database.read(lambda tx: rows.page(tx, after=after, limit=limit))]

    def usage(self, name: str) -> Usage:
        row = self._database.read(lambda tx: _existing(tx, name))
        if row.kind == rows.COMMITTED:
            return Usage(size_bytes=row.size_bytes, inodes=row.inodes)
        if not self._has_directory(row):
            return Usage(size_bytes=0, inodes=0)
        size, inodes = tree.disk_usage(self._path(row.number) / "fs")
        return Usage(size_bytes=size, inodes=inodes)

    def unpack_target(self, key: str) -> UnpackTarget:
        row, chain = self._find(key)
        if row.kind != rows.ACTIVE:
            raise FailedPrecondition("snapshot", key, f"is {row.kind}; only an active one can be unpacked into")
        self._verify_present(key, (row.number, *chain))
        return self._target(row.number, chain)

    def hold(self, key: str, purpose: str) -> AbstractContextManager[None]:
        return self._holds.hold(key, purpose)

    def acquire(self, key: str, purpose: str) -> None:
        self._holds.acquire(key, purpose)

    def release(self, key: str) -> None:
        self._holds.release(key)

    def close(self) -> None:
        with self._reaper_lock:
            if self._reaper is not None:
                self._trash.put(None)
                self._reaper.join()
                self._reaper = None
            if self._directory >= 0:
                os.close(self._directory)
                self._directory = -1

    # -- how ------------------------------------------------------------------------------------------------------

    def _create(
        self, key: str, parent: str | None, labels: Mapping[str, str], kind: Kind, durable: bool
    ) -> tuple[Mount, ...]:
        _check_name(key)
        stands_on, chain = self._parent(key, parent)
        number = next(self._numbers)
        made = self._needs_directory(chain, kind)
        row = SnapshotRow(
            number=number,
            name=key,
            kind=kind.value,
            parent=stands_on,
            parent_name=parent or "",
            created_at_ns=time.time_ns(),
            labels=labels,
            size_bytes=0,
            inodes=0,
        )
        try:
            if made:
                os.mkdir(str(number), 0o700, dir_fd=self._directory)
                self._populate(number, chain, kind)
            self._database.write_now(lambda tx: _insert(tx, row, parent), durable=durable)
        except BaseException:
            if made:
                with contextlib.suppress(FileNotFoundError):
                    self._discard(str(number))
            raise
        return self._mounts(number, chain, kind)

    def _parent(self, key: str, parent: str | None) -> tuple[int | None, tuple[int, ...]]:
        """Number and chain of the parent, after checking that `key` is free and the parent fit."""

        def look(tx: Transaction) -> tuple[int | None, tuple[int, ...]]:
            if rows.get(tx, key) is not None:
                raise AlreadyExists("snapshot", key, "exists already")
            if not parent:
                return None, ()
            number = _committed(tx, parent)
            return number, tuple(rows.chain(tx, number))

        return self._database.read(look)

    def _find(self, name: str) -> tuple[SnapshotRow, tuple[int, ...]]:
        """A record and the numbers of what it stands on."""

        def look(tx: Transaction) -> tuple[SnapshotRow, tuple[int, ...]]:
            row = _existing(tx, name)
            return row, tuple(rows.chain(tx, row.number)[1:])

        return self._database.read(look)

    def _path(self, number: int) -> Path:
        return self.root / str(number)

    def _has_directory(self, row: SnapshotRow) -> bool:
        return self._needs_directory(() if row.parent is None else (row.parent,), Kind(row.kind))

    def _verify_present(self, key: str, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            if not (self._path(number) / "fs").is_dir():
                raise DataLoss("snapshot", key, f"its directory {self._path(number)} is gone")

    def _discard(self, name: str) -> None:
        """Move a directory out of the way and have it deleted by the reaper."""
        trash = f"{_TRASH}{name}"
        os.rename(name, trash, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._throw(trash)

    def _throw(self, trash: str) -> None:
        with self._reaper_lock:
            if self._reaper is None:
                self._reaper = threading.Thread(target=self._reap, name="snapshot-reaper", daemon=True)
                self._reaper.start()
        self._trash.put(trash)

    def _reap(self) -> None:
        while (trash := self._trash.get()) is not None:
            with contextlib.suppress(OSError):  # what cannot be deleted now is swept at the next start
                tree.remove_tree(self.root / trash)

    def _sweep(self) -> int:
        """Throw away directories without record and records without their directory; the highest number."""
        known = set(self._database.read(rows.numbers))
        uncommitted = {row.number: row for row in self._database.read(rows.uncommitted)}
        present: set[int] = set()
        used = known.copy()
        for name in os.listdir(self.root):
            used.add(int(number) if (number := name.removeprefix(_TRASH)).isdecimal() else 0)
            if name.isdecimal() and int(name) in known:
                present.add(int(name))
            elif name.isdecimal():
                self._discard(name)
            elif name.startswith(_TRASH):
                self._throw(name)
        for lost in sorted(known - present - uncommitted.keys(), reverse=True):
            self._forget_lost(lost)
        for row in uncommitted.values():
            if self._has_directory(row):
                self._mend(row)
        return max(used, default=0)

    def _mend(self, row: SnapshotRow) -> None:
        """Make the directory of an active snapshot again where a power loss took it or a part of it."""
        chain = tuple(self._database.read(lambda tx: rows.chain(tx, row.number))[1:])
        parts = self._parts(chain)
        if all((self._path(row.number) / part).is_dir() for part in parts):
            return
        tree.remove_tree(self._path(row.number))
        with contextlib.suppress(FileNotFoundError):  # its parent is gone too: `mounts` tells
            os.mkdir(str(row.number), 0o700, dir_fd=self._directory)
            self._populate(row.number, chain, Kind(row.kind))

    def _forget_lost(self, number: int) -> None:
        """Drop the record of a directory that a power loss took, unless something stands on it (then it is damage)."""

        def forget(tx: Transaction) -> None:
            if rows.child_of(tx, number) is None:
                rows.delete(tx, number)

        self._database.write_now(forget)


def _check_name(name: str) -> None:
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise InvalidArgument("snapshot", name[:80], f"a name has 1 to {_MAX_NAME} printable characters")


def _existing(tx: Transaction, name: str) -> SnapshotRow:
    row = rows.get(tx, name)
    if row is None:
        raise NotFound("snapshot", name, "does not exist")
    return row


def _committed(tx: Transaction, parent: str) -> int:
    row = _existing(tx, parent)
    if row.kind != rows.COMMITTED:
        raise FailedPrecondition("snapshot", parent, f"is {row.kind}; only a committed one can be a parent")
    return row.number


def _insert(tx: Transaction, row: SnapshotRow, parent: str | None) -> None:
    if rows.get(tx, row.name) is not None:
        raise AlreadyExists("snapshot", row.name, "exists already")
    if parent and _committed(tx, parent) != row.parent:
        raise NotFound("snapshot", parent, "was removed meanwhile")
    rows.insert(tx, row)


def _snapshot(row: SnapshotRow) -> Snapshot:
    return Snapshot(
        kind=Kind(row.kind),
        name=row.name,
        parent=row.parent_name,
        created_at_ns=row.created_at_ns,
        labels=row.labels,
    )
