"""State changes of tasks as committed facts: the container's state and the event that tells of it, in one transaction.

Owns which event goes with which change. Live state is not fsync'd: after a power loss nothing runs, and after a
mere crash it is made anew from the shims.
"""

from __future__ import annotations

from dataclasses import replace

from corten_api.errors import CortenError, NotFound

from cortend.db import containers as rows
from cortend.db.database import Database, Transaction
from cortend.domain.containers import Container, ExitStatus, Move, State, Status, moved
from cortend.events.log import EventLog

START_FAILED = "start-failed"


def attributes(container: Container) -> dict[str, str]:
    """What every event of a container tells: its labels, name and image."""
    return {**container.config.labels, "name": container.name, "image": container.image_name or container.image_id}


def failure_code(error: CortenError) -> int:
    """The exit code that a failed start leaves, as docker has it: 127 not found, 126 not executable, 128 otherwise."""
    if error.kind != "executable":
        return 128
    return 127 if isinstance(error, NotFound) else 126


class TaskRecords:
    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events

    async def started(self, container: Container, *, pid: int, shim_pid: int, started_at_ns: int) -> None:
        state = State(status=Status.RUNNING, pid=pid, shim_pid=shim_pid, started_at_ns=started_at_ns)

        def work(tx: Transaction) -> None:
            rows.put_state(tx, container.id, state)
            self._record(tx, "task.started", container, {"pid": str(pid)})

        await self._database.write(work, durable=False)

    async def adopted(self, container: Container, state: State) -> None:
        """What a starting engine found; no event, nothing happened."""
        await self._database.write(lambda tx: rows.put_state(tx, container.id, state), durable=False)

    async def failed(self, container: Container, error: CortenError, *, at_ns: int) -> None:
        """A start failed: the container stays what it was, and says why."""
        code = failure_code(error)
        status = ExitStatus(exit_code=code, reason=START_FAILED, exited_at_ns=at_ns, error=str(error))
        state = replace(container.state, exit=status, error=str(error), pid=0, shim_pid=0)

        def work(tx: Transaction) -> None:
            rows.put_state(tx, container.id, state)
            self._record(tx, "task.start-failed", container, {"exit_code": str(code), "error": str(error)})

        await self._database.write(work, durable=False)

    async def exited(self, container: Container, status: ExitStatus, *, durable: bool) -> None:
        state = State(status=Status.EXITED, exit=status, started_at_ns=status.started_at_ns)

        def work(tx: Transaction) -> None:
            rows.put_state(tx, container.id, state)
            if status.oom_killed:
                self._record(tx, "task.oom", container, {})
            told = {"exit_code": str(status.exit_code)} | ({"reason": status.reason} if status.reason else {})
            self._record(tx, "task.exited", container, told)

        await self._database.write(work, durable=durable)

    async def moved(self, container: Container, move: Move, topic: str) -> None:
        """Pause and resume."""

        def work(tx: Transaction) -> None:
            current = rows.get(tx, container.id)
            status = moved(current.status, move, name=current.name)
            rows.put_state(tx, container.id, replace(current.state, status=status))
            self._record(tx, topic, current, {})

        await self._database.write(work, durable=False)

    async def happened(self, container: Container, topic: str, told: dict[str, str]) -> None:
        """An event without a change of state."""
        await self._database.write(lambda tx: self._record(tx, topic, container, told), durable=False)

    def _record(self, tx: Transaction, topic: str, container: Container, told: dict[str, str]) -> None:
        name = rows.name_of(tx, container.id) or container.name  # it may have been renamed meanwhile
        told = attributes(container) | {"name": name} | told
        self._events.record(tx, topic, container.id, told, container.namespace)
