"""Pages that each child of the zygote writes to: noted in the first of them, made its own by each later one ahead.

Owns the note. A forked child shares its parent's pages until it writes to one, be it a reference count; each first
write stops it for a copy. Which pages those are differs little from child to child, for they run the same code. So the
first child notes them in memory that all share, and the others have them copied before anybody waits for them.

Source: kernel Documentation/admin-guide/mm/pagemap.rst; madvise(2), MADV_POPULATE_WRITE (Linux 5.14; without it the
pages are copied one by one, as ever).
"""

from __future__ import annotations

import ctypes
import mmap

from corten_shim.linux.libc import prototype

_MADV_POPULATE_WRITE = 23
_PRESENT, _EXCLUSIVE = 1 << 63, 1 << 56
_PAGE = mmap.PAGESIZE
_ENTRY = 8  # bytes of pagemap for each page
_NOTHING, _TAKEN, _READ = 0, 1, 2  # the state of a note, its first byte

_madvise = prototype("madvise", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class PageNote:
    """Made in the parent, after all it will allocate; one for each kind of child.

    After its first byte the note has one for each page, 1 where it is to be copied.
    """

    __slots__ = ("_note", "_pagemap", "_regions")

    def __init__(self) -> None:
        self._regions = _writable_regions()
        pages = sum((end - start) // _PAGE for start, end in self._regions)
        self._note = mmap.mmap(-1, 1 + pages)
        self._pagemap = mmap.mmap(-1, _ENTRY * pages)

    def take(self) -> None:
        """In a child that has done what its kind does: note its pages, unless another one has.

        What this needs itself must not be noted, so it allocates next to nothing; the next child makes sense of it.
        """
        if self._note[0] != _NOTHING:
            return
        position = 0
        with memoryview(self._pagemap) as whole, open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            for start, end in self._regions:
                size = (end - start) // _PAGE * _ENTRY
                pagemap.seek(start // _PAGE * _ENTRY)
                pagemap.readinto(whole[position : position + size])
                position += size
        self._note[0] = _TAKEN

    def copy_ahead(self) -> None:
        """In a new child: have the pages of the note copied; without a note nothing happens."""
        if self._note[0] == _NOTHING:
            return
        if self._note[0] == _TAKEN:
            own = _PRESENT | _EXCLUSIVE
            self._note[1:] = bytes(flags & own == own for flags in memoryview(self._pagemap).cast("Q"))
            self._note[0] = _READ
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
