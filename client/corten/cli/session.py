"""What every command needs: where the engine is, and how commands report.

Owns the client of one invocation, exit codes of failures, and the loop over several names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TypeVar

from corten_api.errors import CortenError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.client import Client

T = TypeVar("T")

FAILED = 1
ENGINE_FAILED = 125  # of commands whose exit code is otherwise the container's
NOT_EXECUTABLE = 126
NOT_THERE = 127
_AT_ONCE = 16  # calls that wait for the engine


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

    def each(self, names: Sequence[str], action: Callable[[str], str | None]) -> int:
        """Calls `action` with every name, several at a time, and prints in order what it returns.

        One that fails does not keep the rest.
        """

        def outcome(name: str) -> str | CortenError | None:
            try:
                return action(name)
            except CortenError as error:
                return error

        failed = 0
        for said in _at_once(outcome, names):
            if isinstance(said, CortenError):
                complain(str(said))
                failed = FAILED
            elif said is not None:
                print(said)
        return failed


def _at_once(action: Callable[[str], T], names: Sequence[str]) -> Iterator[T]:
    if len(names) < 2:
        yield from map(action, names)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        yield from threads.map(action, names)


def complain(text: str) -> None:
    """One line on stderr."""
    sys.stdout.flush()
    print(f"corten: {' '.join(text.split())}", file=sys.stderr)


def warn(texts: Iterable[str]) -> None:
    """What the engine wants said."""
    for text in texts:
        print(f"WARNING: {text}", file=sys.stderr)
