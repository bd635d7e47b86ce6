"""A child that takes over its parent's memory instead of getting a copy.

Owns the clone(2) with CLONE_VM and what makes it safe. A fork copies page tables, and then a page at each first write;
the child of a parent that is about to end needs neither. The parent is stopped in the kernel (CLONE_VFORK) and killed
there before the child does anything: of the two, only the child ever runs with this memory again.

    parent: clone ── waits for the child's exec, and dies of SIGKILL while it waits
               └──> child, a sibling (CLONE_PARENT): kills the parent, then `work(pid)`

Source: clone(2), fcntl(2) "F_SETSIG".
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import sys

from corten_shim.linux.errors import INTERNAL, RuntimeFault
from corten_shim.linux.libc import check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_CLONE_VM = 0x00000100
_CLONE_VFORK = 0x00004000
_CLONE_PARENT = 0x00008000
_CLONE_PARENT_SETTID = 0x00100000
_STACK = 1 << 20  # of which only what is used costs anything

# The interpreter's lock is held all the way, so that the child has it: hence PyDLL.
_clone = ctypes.PyDLL(None, use_errno=True).clone
_clone.restype = ctypes.c_int
_Function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_clone.argtypes = (_Function, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Child:
    """What the child does, handed to a function that C can call and that is made once: making one takes half a
    millisecond (libffi looks for itself in /proc/self/maps).
    """

    leash = -1
    pid = ctypes.c_int(0)
    work: Callable[[int], NoReturn]


def _be_child(_argument: object) -> int:
    try:
        os.write(_Child.leash, b"\0")
        _Child.work(_Child.pid.value)
    finally:
        os._exit(127)


_begin = _Function(_be_child)

# From 3.14 on the interpreter looks at the stack's bounds, which are the parent's.
POSSIBLE = sys.version_info < (3, 14)


def take_over(work: Callable[[int], NoReturn]) -> NoReturn:
    """Go on as `work(pid)` in a child with this memory; the caller ends. `pid` is as the caller's pid namespace has it.

    The child has the caller's parent, copies of its descriptors, and the namespaces the caller unshared. `work` must
    end the process and let no exception out. Raises OSError where there can be no child.
    """
    stack = mmap.mmap(-1, _STACK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # forks of the child get copies
    top = ctypes.addressof(ctypes.c_char.from_buffer(stack)) + _STACK
    _Child.leash = _leash()
    _Child.work = staticmethod(work)
    flags = _CLONE_VM | _CLONE_VFORK | _CLONE_PARENT | _CLONE_PARENT_SETTID | signal.SIGCHLD
    check(_clone(_begin, top, flags, None, ctypes.addressof(_Child.pid)), "clone")
    raise RuntimeFault(INTERNAL, "process", str(_Child.pid.value), "its parent outlived it")


def _leash() -> int:
    """A descriptor; whoever writes to it, from whichever pid namespace, kills this process at once."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(reader, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    return writer
