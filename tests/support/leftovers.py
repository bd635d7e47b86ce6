"""What a daemon or a whole run left behind: mounts, cgroups, processes, sockets, network namespaces.

Everything a test makes carries a tag: its directory lies in the run's own one, its cgroup below the run's own name,
and its processes inherit `CORTEN_TEST_RUN`. So a run sees only what is its own, whatever else the machine does.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

RUN = os.environ.get("CORTEN_TEST_RUN") or secrets.token_hex(3)
os.environ["CORTEN_TEST_RUN"] = RUN
CGROUP = f"/corten-test-{RUN}"
_CGROUPS = Path("/sys/fs/cgroup")
_MARK = f"CORTEN_TEST_RUN={RUN}".encode()


def mounts(text: str) -> list[str]:
    """Mounts of this namespace whose line mentions `text`."""
    return [f"mount: {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if text in line]


def namespaces() -> set[str]:
    """Named network namespaces and those that are kept by a bind mount."""
    named = {f"network namespace: {path}" for path in Path("/run/netns").glob("*")}
    kept = {line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - nsfs " in line}
    return named | {f"namespace kept by a mount: {line}" for line in kept}


def cgroups(parent: str) -> list[Path]:
    """Every cgroup directory at and below `parent`, in all hierarchies, deepest first."""
    tops = [_CGROUPS, *(path for path in _CGROUPS.iterdir() if path.is_dir() and not path.is_symlink())]
    found: list[Path] = []
    for top in tops:
        start = top / parent.lstrip("/")
        if start.is_dir():
            found += [Path(where) for where, _, _ in os.walk(start, topdown=False)]
    return found


def cgroups_of_runtimes() -> list[Path]:
    """Those of containers that `tests.support.runtime` made in this run."""
    beginning = f"{CGROUP.lstrip('/')}-runtime-"
    return [path for path in cgroups("") if path.name.startswith(beginning)]


def processes_in(parent: str) -> list[int]:
    """Processes in the cgroups at and below `parent`."""
    found: set[int] = set()
    for path in cgroups(parent):
        with contextlib.suppress(OSError):
            found |= {int(word) for word in (path / "cgroup.procs").read_text().split()}
    return sorted(found)


def processes_of_run() -> list[int]:
    """Processes that inherited this run's mark, save this one and those it runs in."""
    own = set(_ancestors(os.getpid()))
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in own:
            with contextlib.suppress(OSError):
                if _MARK in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def processes_naming(text: str) -> list[int]:
    """Processes with `text` in their command line, their working directory or an open file."""
    found = []
    own = set(_ancestors(os.getpid()))
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in own:
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "cmdline").read_bytes() or any(text in each for each in _links(entry)):
                    found.append(int(entry.name))
    return found


def sockets(text: str) -> list[str]:
    """Bound unix sockets whose path mentions `text`."""
    return [f"socket: {line}" for line in Path("/proc/net/unix").read_text().splitlines() if text in line]


def describe(pid: int) -> str:
    """`pid` with its command line, for a message."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        group = Path(f"/proc/{pid}/cgroup").read_text().splitlines()[-1]
    except (OSError, IndexError):
        return f"process {pid} (gone by now)"
    return f"process {pid}: {command[:160]} (cgroup {group})"


def gone(look: Callable[[], list[str]], *, seconds: float = 5) -> list[str]:
    """What `look` still finds after at most `seconds`: the kernel takes a moment to let go of what has ended."""
    deadline = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def remove_cgroups(parent: str) -> list[str]:
    """Remove the empty cgroups at and below `parent`; what could not be removed is told."""
    left = []
    for path in cgroups(parent):
        try:
            path.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            left.append(f"cgroup: {path}: {error.strerror}")
    return left


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _links(process: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield os.readlink(process / "cwd")
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            yield os.readlink(descriptor)
