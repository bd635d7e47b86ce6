"""Pages that each child of the zygote writes to: noted in the first of them, made its own by each later one ahead.

Owns the note. A forked child shares its parent's pages until it writes to one, be it a reference count; each first
write stops it for a copy. Which pages those are differs little from child to child, for they run the same code. So the
first child notes them in memory that all share, and the others have them copied before anybody waits for them.

Source: kernel Documentation/admin-guide/mm/pagemap.rst; madvise(2), MADV_POPULATE_WRITE (Linux 5.14; without it the
pages are copied one by one, as ever).
"""

from __future__ import annotations

import array
import ctypes
import mmap

from corten_shim.linux.libc import prototype

_MADV_POPULATE_WRITE = 23
_PRESENT, _EXCLUSIVE = 1 << 63, 1 << 56
_PAGE = mmap.PAGESIZE
_NOTED = 0  # the first byte of the note: whether there is one

_madvise = prototype("madvise", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class PageNote:
    """Made in the parent, after all it will allocate; one for each kind of child."""

    __slots__ = ("_note", "_regions")

    def __init__(self) -> None:
        self._regions = _writable_regions()
        self._note = mmap.mmap(-1, 1 + sum((end - start) // _PAGE for start, end in self._regions))

    def take(self) -> None:
        """In a child that has done what its kind does: note its pages, unless another one has."""
        if self._note[_NOTED]:
            return
        flags = array.array("Q")
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            for start, end in self._regions:
                pagemap.seek(start // _PAGE * flags.itemsize)
                flags.frombytes(pagemap.read((end - start) // _PAGE * flags.itemsize))
        own = _PRESENT | _EXCLUSIVE
        self._note[1:] = bytes(flag & own == own for flag in flags)
        self._note[_NOTED] = 1

    def copy_ahead(self) -> None:
        """In a new child: have the pages of the note copied; without a note nothing happens."""
        if not self._note[_NOTED]:
            return
        first = 1
        for start, end in self._regions:
            following = first + (end - start) // _PAGE
            run = self._note.find(b"\1", first, following)
            while run >= 0:
                over = self._note.find(b"\0", run, following)
                over = following if over < 0 else over
                _madvise(start + (run - first) * _PAGE, (over - run) * _PAGE, _MADV_POPULATE_WRITE)
                run = self._note.find(b"\1", over, following)
            first = following


def _writable_regions() -> list[tuple[int, int]]:
    """Start and end of the private memory that this process may write to (proc_pid_maps(5))."""
    found = []
    with open("/proc/self/maps", "rb") as maps:
        for line in maps:
            addresses, access, *rest = line.split()
            if access == b"rw-p" and not rest[-1].startswith((b"[stack", b"[v")):
                start, end = addresses.split(b"-")
                found.append((int(start, 16), int(end, 16)))
    return found
