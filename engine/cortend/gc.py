"""Garbage collection: leases and references mark, sweeping removes.

Owns the leases of this process and the order of a collection. Knows what images and containers refer to by their tables
and one callback; changes neither.

Safe beside everything that adds: who is about to rely on a blob or snapshot leases it first and looks whether it is
there second. Each removal happens under `_gate` and only if nothing leased its target since the marks were read:

    mark (a moment of the database)  ->  sweep, one by one:  gate [ leased since? else remove ]
    lease:  gate [ remember ]  ->  write the lease  ->  look  ->  use  ->  commit a record  ->  end the lease
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import structlog
from corten_api.errors import Conflict, CortenError, FailedPrecondition, NotFound

from cortend.content.store import ContentStore
from cortend.db import images as image_rows
from cortend.db import leases as lease_rows
from cortend.db.database import Database, Transaction
from cortend.db.leases import BLOB, SNAPSHOT, TEMPORARY, LeaseRow
from cortend.layers.chain import UNPACK_KEY_PREFIX
from cortend.oci.digest import Digest
from cortend.registry.settled import settled
from cortend.snapshots.snapshotter import Kind, Snapshot, Snapshotter

log = structlog.get_logger()

ROOT_LABEL = "dev.corten.gc.root"  # a snapshot with this label is kept, and what it stands on
_LIFETIME_NS = 24 * 3600 * 10**9
_YOUNG_NS = 600 * 10**9  # an active snapshot without an owner may be one whose record is about to come


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection gave back."""

    blobs: int = 0
    snapshots: int = 0
    partial_blobs: int = 0
    size_bytes: int = 0


class Lease:
    """Holds blobs and snapshots for one piece of work. Use `GarbageCollector.lease`."""

    def __init__(self, collector: GarbageCollector, id: str) -> None:
        self._collector = collector
        self.id = id
        self.held: set[tuple[str, str]] = set()

    async def blobs(self, *digests: Digest) -> None:
        """Hold blobs, those to come too. Look whether they are there only after this returned."""
        await self._hold([(BLOB, str(each)) for each in digests])

    async def snapshots(self, *names: str) -> None:
        """Hold snapshots by name or key, and all they stand on."""
        await self._hold([(SNAPSHOT, each) for each in names if each])

    async def _hold(self, resources: list[tuple[str, str]]) -> None:
        new = [each for each in dict.fromkeys(resources) if each not in self.held]
        if not new:
            return
        self._collector.remember(new)
        self.held.update(new)

        def write(tx: Transaction) -> None:
            for kind, name in new:
                lease_rows.add(tx, self.id, kind, name)

        await self._collector.database.write(write, durable=False)


class GarbageCollector:
    """One per engine."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        snapshots: Snapshotter,
        *,
        container_snapshots: Callable[[], Iterable[str]] | None = None,
        used_images: Callable[[Transaction, str], bool] | None = None,
    ) -> None:
        """`container_snapshots` tells the keys of every container's snapshot; without it no active one is removed.

        `used_images` tells, within a transaction, whether a container uses the image of that id. Leases that an
        earlier process did not come to end, and that nobody goes on with, end here.
        """
        self.database = database
        self.container_snapshots = container_snapshots
        self.used_images = used_images
        self._content = content
        self._snapshots = snapshots
        self._collecting = asyncio.Lock()
        self._background: asyncio.Future[None] | None = None
        self._gate = threading.Lock()
        self._held: Counter[tuple[str, str]] = Counter()
        self._touched: set[tuple[str, str]] = set()
        database.write_now(lease_rows.delete_temporary, durable=False)

    @asynccontextmanager
    async def lease(self, purpose: str, *, keep: Callable[[BaseException], bool] | None = None) -> AsyncIterator[Lease]:
        """A lease that ends with the context. `purpose` names it: no two at once may have the same.

        After a failure that `keep` is true of, or a crash, it goes on for a day, so that what was fetched is there for
        the next try, which has the same purpose and takes it over. Without `keep` it ends with the process.
        """
        name = purpose if keep is not None else f"{TEMPORARY}{purpose}"
        lease = Lease(self, name)
        await self.database.write(lambda tx: _begin(tx, name), durable=False)
        kept = False
        try:
            yield lease
        except BaseException as error:
            kept = keep is not None and keep(error)
            raise
        finally:
            if not kept:
                await asyncio.shield(self.database.write(lambda tx: lease_rows.delete(tx, name), durable=False))
            self._forget(lease.held)

    def remember(self, resources: Iterable[tuple[str, str]]) -> None:
        """For `Lease`: from here on these are not removed."""
        with self._gate:
            self._held.update(resources)
            self._touched.update(resources)

    def _forget(self, resources: Iterable[tuple[str, str]]) -> None:
        with self._gate:
            self._touched.update(resources)  # a record that refers to them may be newer than a collection's marks
            self._held -= Counter(resources)

    async def collect(self) -> Collected:
        """Remove every blob, snapshot and partial blob that nothing refers to. One at a time; later callers wait."""
        async with self._collecting:
            return await settled(self._collect)

    def start(self, *, first: float = 30.0, every: float = 600.0) -> None:
        """Collect now and then (seconds), until `close`: for what a crash or a container's end left behind."""
        self._background = asyncio.ensure_future(self._keep_collecting(first, every))

    async def close(self) -> None:
        """End what `start` began; a collection under way is finished."""
        if self._background is not None:
            self._background.cancel()
            await asyncio.wait([self._background])
        async with self._collecting:
            return

    async def _keep_collecting(self, first: float, every: float) -> None:
        delay = first
        while True:
            await asyncio.sleep(delay)
            delay = every
            try:
                collected = await self.collect()
            except CortenError as error:
                log.warning("gc.failed", error=str(error))
                continue
            if collected != Collected():
                log.info("gc.collected", **asdict(collected))

    def _collect(self) -> Collected:
        with self._gate:
            self._touched = set(self._held)
        now = time.time_ns()
        self.database.write_now(lambda tx: self._expire(tx, now), durable=False)
        blobs, names = self.database.read(lambda tx: _marks(tx, now))
        snapshots, freed = self._sweep_snapshots(names, now)
        removed, bytes_of_blobs = self._sweep_blobs(blobs)
        partial = self._sweep_partial(blobs)
        return Collected(blobs=removed, snapshots=snapshots, partial_blobs=partial, size_bytes=freed + bytes_of_blobs)

    def _expire(self, tx: Transaction, now: int) -> None:
        lease_rows.delete_expired(tx, now)
        used = self.used_images
        for image_id in image_rows.removed(tx):
            if used is not None and not used(tx, str(image_id)):
                image_rows.delete(tx, image_id)

    def _sweep_blobs(self, marked: set[str]) -> tuple[int, int]:
        removed = size = 0
        for blob in self._content.list():
            name = str(blob.digest)
            if name in marked:
                continue
            with self._gate:
                if (BLOB, name) not in self._touched and self._content.delete(blob.digest):
                    removed += 1
                    size += blob.size
        return removed, size

    def _sweep_partial(self, marked: set[str]) -> int:
        removed = 0
        for digest in self._content.partial():
            if str(digest) in marked:
                continue
            with self._gate:
                if (BLOB, str(digest)) in self._touched:
                    continue
                try:
                    self._content.discard_partial(digest)
                    removed += 1
                except Conflict:
                    continue  # somebody is writing it
        return removed

    def _sweep_snapshots(self, marked: set[str], now: int) -> tuple[int, int]:
        found = self._all_snapshots()
        if self.container_snapshots is not None:
            marked |= set(self.container_snapshots())
        roots = [each for each in found.values() if each.name in marked or self._is_root(each, now)]
        kept: set[str] = set()
        for each in roots:
            name = each.name
            while name and name not in kept:
                kept.add(name)
                name = found[name].parent if name in found else ""
        removed = size = 0
        for each in _children_first([each for each in found.values() if each.name not in kept]):
            freed = self._remove_snapshot(each)
            if freed is not None:
                removed += 1
                size += freed
        return removed, size

    def _is_root(self, snapshot: Snapshot, now: int) -> bool:
        if snapshot.name.startswith(UNPACK_KEY_PREFIX) or ROOT_LABEL in snapshot.labels:
            return True
        if snapshot.kind is Kind.COMMITTED:
            return False
        return self.container_snapshots is None or now - snapshot.created_at_ns < _YOUNG_NS

    def _remove_snapshot(self, snapshot: Snapshot) -> int | None:
        """Bytes given back; None where it is needed after all."""
        try:
            size = self._snapshots.usage(snapshot.name).size_bytes
            with self._gate:
                if (SNAPSHOT, snapshot.name) in self._touched:
                    return None
                self._snapshots.remove(snapshot.name)
        except (FailedPrecondition, Conflict, NotFound):
            return None  # something stands on it or holds it since, or it is gone
        return size

    def _all_snapshots(self) -> dict[str, Snapshot]:
        found: dict[str, Snapshot] = {}
        after = ""
        while page := self._snapshots.list(after=after):
            found.update((each.name, each) for each in page)
            after = page[-1].name
        return found


def _begin(tx: Transaction, id: str) -> None:
    now = time.time_ns()
    if not lease_rows.extend(tx, id, now + _LIFETIME_NS):
        lease_rows.insert(tx, LeaseRow(id=id, created_at_ns=now, expires_at_ns=now + _LIFETIME_NS))


def _marks(tx: Transaction, now: int) -> tuple[set[str], set[str]]:
    blobs, snapshots = image_rows.referenced(tx)
    return blobs | lease_rows.held(tx, BLOB, now), snapshots | lease_rows.held(tx, SNAPSHOT, now)


def _children_first(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """In an order in which each can be removed."""
    by_name = {each.name: each for each in snapshots}
    depths: dict[str, int] = {}
    for each in by_name.values():
        path = []
        name = each.name
        while name in by_name and name not in depths:
            path.append(name)
            name = by_name[name].parent
        depth = depths.get(name, -1)
        for name in reversed(path):
            depth += 1
            depths[name] = depth
    return sorted(by_name.values(), key=lambda each: -depths[each.name])
