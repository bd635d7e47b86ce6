"""How far a pull or a load is, for any number of watchers.

Owns the last state of every blob and the pace of telling it. A watcher that is slow gets the newest state of each blob,
never a queue of old ones; one that comes late gets the state of all first.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cortend.oci.manifest import Descriptor

_INTERVAL = 0.1


class Phase(enum.Enum):
    """What is being done to a blob; RESOLVING is about the whole."""

    RESOLVING = "resolving"
    WAITING = "waiting"
    DOWNLOADING = "downloading"
    VERIFIED = "verified"
    UNPACKING = "unpacking"
    COMPLETE = "complete"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`offset` bytes of `blob.size` are done; `blob` is None while resolving."""

    phase: Phase
    blob: Descriptor | None = None
    offset: int = 0


class Watch:
    """One watcher's view of a board. Iterate it; it ends when the board is closed and everything was told."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._pending: dict[str, Progress] = dict(board.states)
        self._woken = asyncio.Event()
        self._woken.set()

    def tell(self, key: str, progress: Progress) -> None:
        """For the board: newer states replace what was not taken yet."""
        self._pending.pop(key, None)
        self._pending[key] = progress
        self._woken.set()

    def wake(self) -> None:
        """For the board: it was closed."""
        self._woken.set()

    async def __aiter__(self) -> AsyncIterator[Progress]:
        while True:
            while self._pending:
                yield self._pending.pop(next(iter(self._pending)))
            if self._board.closed:
                return
            self._woken.clear()
            await self._woken.wait()


class Board:
    """The states of one piece of work. For the event loop's thread only."""

    def __init__(self) -> None:
        self.states: dict[str, Progress] = {}
        self.closed = False
        self._told_at: dict[str, float] = {}
        self._watches: set[Watch] = set()

    def watch(self) -> Watch:
        """A new watcher; `leave` it."""
        watch = Watch(self)
        self._watches.add(watch)
        return watch

    def leave(self, watch: Watch) -> None:
        """Forget a watcher."""
        self._watches.discard(watch)

    def post(self, phase: Phase, blob: Descriptor | None = None, offset: int = 0) -> None:
        """Set a blob's state. Steps within a phase are told ten times a second at most, changes of phase always."""
        key = str(blob.digest) if blob is not None else ""
        before = self.states.get(key)
        progress = Progress(phase=phase, blob=blob, offset=offset)
        self.states[key] = progress
        now = time.monotonic()
        if before is not None and before.phase is phase and now - self._told_at.get(key, 0.0) < _INTERVAL:
            return
        self._told_at[key] = now
        for watch in self._watches:
            watch.tell(key, progress)

    def phase_of(self, blob: Descriptor) -> Phase | None:
        """The phase a blob is in."""
        found = self.states.get(str(blob.digest))
        return found.phase if found is not None else None

    def close(self) -> None:
        """Nothing more will be posted."""
        self.closed = True
        for watch in self._watches:
            watch.wake()
