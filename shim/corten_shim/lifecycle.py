"""The life of a process in a shim, as a table of moves.

Owns the states, the events and which event is allowed where. Performs nothing.
State numbers are those of containerd.task.v3.Status.
"""

from __future__ import annotations

from corten_shim.linux.errors import RuntimeFault

CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4
START, PAUSE, RESUME, EXIT, DELETE = "start", "pause", "resume", "exit", "delete"
DELETED = 0

NAMES = {DELETED: "deleted", CREATED: "created", RUNNING: "running", STOPPED: "stopped", PAUSED: "paused"}

MOVES = {
    (CREATED, START): RUNNING,
    (CREATED, EXIT): STOPPED,
    (CREATED, DELETE): DELETED,
    (RUNNING, PAUSE): PAUSED,
    (RUNNING, EXIT): STOPPED,
    (PAUSED, RESUME): RUNNING,
    (PAUSED, EXIT): STOPPED,
    (STOPPED, DELETE): DELETED,
}
FAILED_PRECONDITION = 9


def after(state: int, event: str, *, kind: str, name: str) -> int:
    """The state that `event` leads to. Raises RuntimeFault (FAILED_PRECONDITION) naming both where there is none."""
    following = MOVES.get((state, event))
    if following is None:
        allowed = " or ".join(NAMES[origin] for origin, move in MOVES if move == event)
        raise RuntimeFault(
            FAILED_PRECONDITION, kind, name, f"cannot {event}: it is {NAMES[state]}; it must be {allowed}"
        )
    return following
