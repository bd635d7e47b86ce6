"""Where the zygote and the shims live: a cgroup of their own, outside the daemon's and the containers'.

Owns moving a process there, and its OOM score. On v1 each hierarchy is joined, but cpuset (which has rules of its own
and limits nothing here); on v2 there is one.
"""

from __future__ import annotations

import os

CGROUP_ROOT = "/sys/fs/cgroup"
SHIMS = "shims"


def hierarchies() -> list[str]:
    """The roots of all cgroup trees."""
    if os.path.exists(f"{CGROUP_ROOT}/cgroup.procs"):
        return [CGROUP_ROOT]
    found = []
    for entry in os.scandir(CGROUP_ROOT):
        if entry.is_dir(follow_symlinks=False) and os.path.exists(f"{entry.path}/cgroup.procs"):
            found.append(entry.path)
    return sorted(found)


def join(parent: str) -> None:
    """Move this process into `<parent>/shims` of every hierarchy. Raises OSError naming the file."""
    for tree in hierarchies():
        if tree != CGROUP_ROOT and os.path.exists(f"{tree}/cpuset.cpus"):
            continue
        directory = f"{tree}/{parent.strip('/')}/{SHIMS}"
        os.makedirs(directory, mode=0o755, exist_ok=True)
        _write(f"{directory}/cgroup.procs", b"0")


def leave_nothing(parent: str) -> None:
    """Remove `<parent>/shims` and `parent` where nobody is in them."""
    for tree in hierarchies():
        for directory in (f"{tree}/{parent.strip('/')}/{SHIMS}", f"{tree}/{parent.strip('/')}"):
            try:
                os.rmdir(directory)
            except OSError:
                continue  # in use, or gone already


def protect_from_oom_killer() -> int:
    """Take the lowest OOM score that this process may take; returns it."""
    for score in (-1000, -999, -500):
        try:
            _write("/proc/self/oom_score_adj", b"%d" % score)
        except PermissionError:
            continue
        return score
    return 0


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)
