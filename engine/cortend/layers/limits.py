"""Limits of one unpacked layer: what stands between a small blob and a full disk. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A layer beyond any of these is refused whole.

    `max_ratio` counts only once `ratio_floor` bytes came out: small layers of zeros are common and harmless.
    Deflate cannot pack tighter than 1032 to 1, so 200 is far from any real layer yet stops a bomb at 1 GiB.
    """

    max_bytes: int = 64 << 30  # unpacked bytes: the archive itself, and what its files take with holes counted
    max_entries: int = 5_000_000
    ratio_floor: int = 1 << 30
    max_ratio: int = 200
    memory: int = 1 << 30  # address space of the worker
    idle_seconds: float = 120.0  # without any progress the worker is given up


DEFAULT_LIMITS = Limits()
