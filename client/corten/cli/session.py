"""What every command needs: where the engine is, and how commands report.

Owns the client of one invocation, exit codes of failures, and the loop over several names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import cached_property

from corten_api.errors import CortenError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.client import Client

FAILED = 1
ENGINE_FAILED = 125  # of commands whose exit code is otherwise the container's
NOT_EXECUTABLE = 126
NOT_THERE = 127


class Session:
    """One invocation. `failure` is its exit code when the engine refuses; commands that run containers raise it."""

    def __init__(self) -> None:
        self.address: str | None = None
        self.namespace: str | None = None
        self.failure = FAILED

    @cached_property
    def client(self) -> Client:
        """Made when it is first needed; nothing is connected before the first call."""
        from corten.client import Client

        return Client(self.address, namespace=self.namespace)

    def runs_containers(self) -> None:
        """From here on a refusal of the engine is exit code 125, 126 or 127."""
        self.failure = ENGINE_FAILED

    def exit_code(self, error: CortenError) -> int:
        """The exit code that `error` ends this invocation with."""
        if self.failure == ENGINE_FAILED and error.kind == "executable":
            return NOT_THERE if isinstance(error, NotFound) else NOT_EXECUTABLE
        return self.failure

    def each(self, names: Iterable[str], action: Callable[[str], str | None]) -> int:
        """Calls `action` with every name and prints what it returns; one that fails does not keep the rest."""
        failed = 0
        for name in names:
            try:
                said = action(name)
            except CortenError as error:
                complain(str(error))
                failed = FAILED
            else:
                if said is not None:
                    print(said)
        return failed


def complain(text: str) -> None:
    """One line on stderr."""
    sys.stdout.flush()
    print(f"corten: {' '.join(text.split())}", file=sys.stderr)


def warn(texts: Iterable[str]) -> None:
    """What the engine wants said."""
    for text in texts:
        print(f"WARNING: {text}", file=sys.stderr)
