"""How a container's task ended, as its shim left it on the disk.

Owns reading `exit.json`. The shim writes it before anybody is told, so it outlives both the shim and the engine.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from cortend.domain.containers import ExitStatus

KILLED = 137


class _Record(msgspec.Struct):
    exit_code: int
    signal: int = 0
    oom: bool = False
    reason: str = ""
    started_at_ns: int = 0
    exited_at_ns: int = 0
    error: str = ""


def read(path: Path) -> ExitStatus | None:
    """The status in the record at `path`; None where there is none or it cannot be understood."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None
    return ExitStatus(
        exit_code=record.exit_code,
        reason=record.reason,
        oom_killed=record.oom,
        started_at_ns=record.started_at_ns,
        exited_at_ns=record.exited_at_ns,
        error=record.error,
    )
