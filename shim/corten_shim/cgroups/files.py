"""What both kinds of cgroups do with their directories: reading, writing, emptying, removing.

Knows no controller. A path here is absolute.
"""

from __future__ import annotations

import errno
import os
import signal
import time

from corten_shim.linux.errors import FAILED_PRECONDITION, INVALID_ARGUMENT, RuntimeFault, from_oserror

REMOVE_SECONDS = 5.0
KILL_SECONDS = 5.0
MIN_MEMORY = 6 << 20


def read(path: str) -> str:
    """The whole file; "" where it is not there any more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        pieces = []
        while piece := os.read(fd, 65536):
            pieces.append(piece)
    except OSError as error:
        if error.errno == errno.ENODEV:  # removed while open
            return ""
        raise
    finally:
        os.close(fd)
    return b"".join(pieces).decode("ascii", "replace")


def write(path: str, text: str) -> None:
    """One write(2), as cgroup files want it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def write_limit(path: str, text: str, name: str) -> None:
    """`write`, and a fault that names the limit where the kernel refuses the value."""
    try:
        write(path, text)
    except FileNotFoundError:
        raise RuntimeFault(FAILED_PRECONDITION, "resources", name, "this kernel has no such limit") from None
    except OSError as error:
        raise from_oserror("resources", f"{name}={text}", error) from error


def check_memory(limit: int) -> None:
    """A limit that would kill the container before it runs is refused: the kernel takes even one byte silently."""
    if 0 <= limit < MIN_MEMORY:
        raise RuntimeFault(INVALID_ARGUMENT, "memory limit", str(limit), f"at least {MIN_MEMORY} bytes (6 MiB)")


def make(path: str) -> None:
    """A new directory. One that is left over from before is taken when nothing lives in it, otherwise refused."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        if descendants(path):
            raise RuntimeFault(FAILED_PRECONDITION, "cgroup", path, "it exists and holds processes") from None
        remove_tree(path)
        os.mkdir(path, 0o755)


def pids(path: str) -> list[int]:
    """The processes of one cgroup, those below it excluded."""
    return [int(line) for line in read(f"{path}/cgroup.procs").split()]


def children(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def descendants(path: str) -> list[int]:
    """The processes of a cgroup and of all below it."""
    found = pids(path)
    for child in children(path):
        found += descendants(child)
    return found


def kill_each(path: str) -> None:
    """SIGKILL until nobody is left, or it is clear that somebody cannot die. What forked meanwhile is killed next."""
    deadline = time.monotonic() + KILL_SECONDS
    while victims := descendants(path):
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            return
        time.sleep(0.002)


def remove_tree(path: str) -> None:
    """Remove a cgroup and all below it. A dying process keeps it busy for a moment: tried until a deadline."""
    deadline = time.monotonic() + REMOVE_SECONDS
    pause = 0.0005
    while True:
        try:
            os.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY) or time.monotonic() > deadline:
                raise from_oserror("cgroup", path, error) from error
        for child in children(path):
            remove_tree(child)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def counter(text: str, name: str) -> int:
    """The value of `name` in a flat-keyed file ("name 3" lines), 0 where it is absent."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
