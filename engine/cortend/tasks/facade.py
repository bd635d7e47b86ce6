"""Everything a door needs of tasks, in one value.

Owns no behaviour of its own but putting the parts together.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from cortend.domain.containers import Container
from cortend.tasks.attach import Attachment, AttachOptions
from cortend.tasks.crilog import LogEntry
from cortend.tasks.execs import Execs
from cortend.tasks.logs import LogFilter, LogReader
from cortend.tasks.manager import TaskManager
from cortend.tasks.starting import Starter


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    manager: TaskManager
    starter: Starter
    execs: Execs

    def attachment(self, container: Container, options: AttachOptions) -> Attachment:
        return Attachment(self.manager, self.execs, container, options)

    def logs(self, container: Container, wanted: LogFilter, *, follow: bool) -> AsyncGenerator[list[LogEntry], None]:
        """The container's log in batches; followed to the end of the task that runs."""
        reader = LogReader(self.manager.layout.log_directory(container.id))
        task = self.manager.live(container.id) if follow else None
        if task is None:
            return reader.read(wanted)
        return reader.read(wanted, exited=task.init.exited)
