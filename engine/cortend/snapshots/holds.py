"""Who is using an active snapshot: one holder at a time.

Owns the locks in memory only; after a restart whoever runs on a snapshot takes its hold again. The kernel would mount
one upper directory twice and corrupt it silently, so nobody may start, commit or remove without asking here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from corten_api.errors import Conflict


class Holds:
    """Exclusive holds by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, str] = {}

    def acquire(self, key: str, purpose: str) -> None:
        """Take the hold. Raises Conflict naming what holds it."""
        with self._lock:
            if key in self._held:
                raise Conflict("snapshot", key, f"is in use: {self._held[key]}")
            self._held[key] = purpose

    def release(self, key: str) -> None:
        """Give the hold back; giving back what is not held is fine."""
        with self._lock:
            self._held.pop(key, None)

    @contextmanager
    def hold(self, key: str, purpose: str) -> Iterator[None]:
        """The hold for as long as the block runs."""
        self.acquire(key, purpose)
        try:
            yield
        finally:
            self.release(key)
