"""The snapshotter protocol and its vocabulary.

A snapshot is a directory tree. `key` names an active snapshot (writable) or a view (read-only), `name` a committed one;
both share one set of names. `parent` is always the name of a committed snapshot, or None at the bottom. A snapshot
gets its bytes by being mounted, or by a layer unpacked into its `UnpackTarget`; nobody else writes into it.

    prepare(key, parent) -> mount, change -> commit(key, name)        active becomes committed, under the new name
    view(key, parent)    -> mount, read   -> remove(key)
    remove(name)                                                       refused while another snapshot stands on it

All calls block on the disk and may be made from any thread.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cortend.domain.mounts import Mount


class Kind(enum.Enum):
    """What a snapshot is."""

    VIEW = "view"
    ACTIVE = "active"
    COMMITTED = "committed"


class Whiteouts(enum.Enum):
    """How a layer's deletions are carried out in an unpack target."""

    OVERLAY = "overlay"  # character devices 0:0 and user.overlay.opaque
    REMOVE = "remove"  # the target holds the parents' files: they are removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One snapshot as it stands. `parent` is "" at the bottom."""

    kind: Kind
    name: str
    parent: str
    created_at_ns: int
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Disk used by one snapshot as du counts it, parents excluded."""

    size_bytes: int
    inodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackTarget:
    """Where a layer goes: `directory` receives it, `lower` are the lower trees (the top first) that it changes."""

    directory: Path
    lower: tuple[Path, ...]
    whiteouts: Whiteouts


class Snapshotter(Protocol):
    """Trees made on top of trees. Errors: NotFound, AlreadyExists, FailedPrecondition, Conflict, InvalidArgument."""

    def prepare(
        self, key: str, parent: str | None, *, labels: Mapping[str, str] | None = None, durable: bool = True
    ) -> tuple[Mount, ...]:
        """Make an active snapshot. Without `durable` a power loss may take it."""

    def view(self, key: str, parent: str | None, *, labels: Mapping[str, str] | None = None) -> tuple[Mount, ...]:
        """Make a read-only view of `parent`."""

    def mounts(self, key: str) -> tuple[Mount, ...]:
        """The mounts of an active snapshot or a view. A committed one has none: FailedPrecondition."""

    def commit(self, key: str, name: str, *, labels: Mapping[str, str] | None = None) -> Snapshot:
        """Turn the active `key` into the committed `name`, its files and record on disk. Conflict while it is held."""

    def remove(self, name: str, *, durable: bool = True) -> None:
        """Remove a snapshot of any kind. FailedPrecondition while others stand on it, Conflict while it is held."""

    def stat(self, name: str) -> Snapshot:
        """One snapshot, by key or name."""

    def list(self, *, after: str = "", limit: int = 1000) -> list[Snapshot]:
        """Snapshots ordered by name, beginning beyond `after`."""

    def usage(self, name: str) -> Usage:
        """What removing it would give back. Walks the tree of an active snapshot."""

    def unpack_target(self, key: str) -> UnpackTarget:
        """Where the layer of an active snapshot is to be unpacked."""

    def hold(self, key: str, purpose: str) -> AbstractContextManager[None]:
        """Keep an active snapshot from being held again, committed or removed. Conflict names the holder's purpose."""

    def acquire(self, key: str, purpose: str) -> None:
        """As `hold`, until `release`: for a container that runs."""

    def release(self, key: str) -> None:
        """End `acquire`; releasing what is not held is fine."""

    def close(self) -> None:
        """Finish deletions that are under way."""
