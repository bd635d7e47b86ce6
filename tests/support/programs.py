"""Other people's programs, run with a time limit and an error that shows what they said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class ProgramFailed(AssertionError):
    """A program the tests rely on ended with an error; the message holds its output."""


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float = 120,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """What `argv` wrote to stdout. Raises ProgramFailed when it fails, is missing, or takes longer than `timeout`."""
    words = [os.fspath(each) for each in argv]
    if shutil.which(words[0]) is None:
        raise ProgramFailed(f"{words[0]} is not installed; tests/run installs what the tests need")
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            timeout=timeout,
            cwd=cwd,
            env={**os.environ, **env} if env else None,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramFailed(f"{' '.join(words)}: still running after {timeout:.0f} s") from error
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise ProgramFailed(f"{' '.join(words)}: exit status {done.returncode}\n{said}")
    return done.stdout.decode(errors="replace")
