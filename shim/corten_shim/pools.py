"""The zygote's last allocations: they fill what is half empty, so that shims allocate in pages of their own.

Owns the fillers. Python takes small objects from pools, one pool for each size. The zygote leaves free places in many
pools, each in a page that a shim would have to copy to use it. Once the pools are full a shim starts fresh ones, and
needs fewer pages: with twenty shims, 0.1 MB less for each.
"""

from __future__ import annotations

_POOL = 16 << 10  # Objects/obmalloc.c: pools are this large and aligned, and begin with a header
_HEADER = 48
_SMALLEST_BYTES, _LARGEST, _STEP = 48, 512, 16
_BYTES_OVERHEAD = 33
_AT_MOST = 128 << 10  # bytes of one size, for an interpreter whose pools are different

_PIECES = range(8192, 528, -16)  # bytes: what is larger has pages of its own in any case

_kept: list[object] = []


def fill() -> None:
    """Allocate in each size until a new pool is begun. What is allocated is never freed."""
    for size in range(_SMALLEST_BYTES, _LARGEST + 1, _STEP):
        for _ in range(_AT_MOST // size):
            filler = bytes(size - _BYTES_OVERHEAD)
            if id(filler) % _POOL == _HEADER:
                break
            _kept.append(filler)
    _fill_heap()
    for make, size in ((object, 16), (float, 32)):  # smaller than any bytes object
        for _ in range(_AT_MOST // size):
            small = make()
            if id(small) % _POOL == _HEADER:
                break
            _kept.append(small)


def _fill_heap() -> None:
    """The same for larger objects, which the C library places: all free pieces between others, the largest first.

    A piece that lies above all that was there comes from the end of the heap: no free one was left of that size.
    """
    first = bytes(_PIECES[0])
    _kept.append(first)
    highest = id(first)
    for size in _PIECES:
        for _ in range(_AT_MOST // size):
            piece = bytes(size)
            if id(piece) > highest:
                break
            _kept.append(piece)
