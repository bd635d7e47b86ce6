"""How a process ended: the value that waits and attachments share."""

from __future__ import annotations

from corten import _messages
from corten._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ExitStatus(Value):
    """How a process ended. `exit_code` is 0..255, 128+signal; `reason` as in ContainerState."""

    exit_code: int
    reason: str
    oom_killed: bool
    started_at_ns: int
    exited_at_ns: int
    error: str


def exit_status(message: Any) -> ExitStatus:
    """An end as a value."""
    return ExitStatus(
        exit_code=message.exit_code,
        reason=message.reason,
        oom_killed=message.oom_killed,
        started_at_ns=_messages.nanoseconds(message, "started_at"),
        exited_at_ns=_messages.nanoseconds(message, "exited_at"),
        error=message.error,
    )
