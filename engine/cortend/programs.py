"""Programs: the one place where the daemon starts another program.

Owns how a program is started (closed descriptors, no shell, no thread per child) and what an error in doing so is
called. Knows nothing of what the programs do; whoever starts one waits for it. The daemon itself never forks.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from subprocess import DEVNULL, PIPE, STDOUT
from typing import IO

from corten_api.errors import Internal, NotFound, PermissionDenied

__all__ = ["DEVNULL", "PIPE", "STDOUT", "Process", "start"]

Process = asyncio.subprocess.Process
Redirection = int | IO[bytes]
StrPath = str | os.PathLike[str]


async def start(
    argv: Sequence[StrPath],
    *,
    stdin: Redirection = DEVNULL,
    stdout: Redirection = DEVNULL,
    stderr: Redirection = DEVNULL,
    pass_fds: Sequence[int] = (),
    executable: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Process:
    """Start `argv`; the caller waits for the process.

    Redirections are `PIPE`, `DEVNULL`, `STDOUT` or a descriptor. `executable` is what is exec'd where that is not
    `argv[0]`; `env` is the whole environment, absent: the daemon's. Raises NotFound and PermissionDenied of kind
    "program", Internal for anything else the kernel says.
    """
    _watch_children_by_pidfd()
    program, *arguments = (os.fspath(word) for word in argv)
    try:
        return await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            executable=executable,
            env=env,
        )
    except FileNotFoundError as error:
        raise NotFound("program", program, "is not installed; PATH was searched") from error
    except PermissionError as error:
        raise PermissionDenied("program", program, "may not be executed") from error
    except OSError as error:
        raise Internal("program", program, f"could not be started: {error.strerror}") from error


def _watch_children_by_pidfd() -> None:
    """Python 3.11 waits for each child in a thread of its own; from 3.12 on a pidfd is the default."""
    if sys.version_info >= (3, 12):
        return
    policy = asyncio.get_event_loop_policy()
    watcher = policy.get_child_watcher()
    if not isinstance(watcher, asyncio.PidfdChildWatcher):
        watcher = asyncio.PidfdChildWatcher()
        policy.set_child_watcher(watcher)
    if not watcher.is_active():
        watcher.attach_loop(asyncio.get_running_loop())
