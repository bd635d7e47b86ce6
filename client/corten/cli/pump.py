"""Between the user's streams and an attachment, until the process ends or the user leaves.

Owns the loop: output is written as it comes, input is read in a thread. Terminal mode, signals and detach keys are
`terminal`'s, `signals`' and `keys`'.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable
from contextlib import ExitStack

from corten_api.errors import CortenError, FailedPrecondition, NotFound

from corten.cli import keys, terminal
from corten.cli.session import ENGINE_FAILED, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.client import Client
    from corten.streams import Attachment, Output

_CHUNK = 1 << 20
_STDOUT_GONE = 141
_REASONS = {
    "oom": "it was killed: its memory limit was reached",
    "shim-lost": "it was killed: the shim that owned it was lost",
}


class Foreground:
    """One process that the user is attached to. `owned`: this command started it, so it ends with its reader."""

    def __init__(
        self,
        client: Client,
        container: str,
        *,
        exec_id: str = "",
        stdin: bool = False,
        detach_keys: bytes = b"",
        sig_proxy: bool = True,
        owned: bool = False,
    ) -> None:
        self._client = client
        self._container = container
        self._exec_id = exec_id
        self._stdin = stdin
        self._keys = detach_keys
        self._sig_proxy = sig_proxy
        self._owned = owned
        self._detached = False
        self._gone = False

    def attach(self) -> Attachment:
        """An attachment of the user's streams, with the size of their terminal. From here on nothing is missed."""
        return self._client.tasks.attach(
            self._container, exec_id=self._exec_id, stdin=self._stdin, size=terminal.size()
        )

    def run(self, attachment: Attachment, start: Callable[[], None] | None = None) -> int:
        """Starts the process, pumps until it has ended; its exit code, or 0 when the user detached."""
        if start is not None:
            start()
        with ExitStack() as undo:
            if attachment.terminal and self._stdin:
                undo.enter_context(terminal.raw(terminal.STDIN))
            self._listen(attachment, undo)
            if self._stdin:
                threading.Thread(target=self._feed, args=(attachment,), name="corten-stdin", daemon=True).start()
            return self._drain(attachment)

    def _listen(self, attachment: Attachment, undo: ExitStack) -> None:
        from corten.cli.signals import Forwarding

        resize = (lambda: self._resize(attachment)) if attachment.terminal else None
        forward = self._forward if self._sig_proxy else None
        undo.enter_context(Forwarding(forward=forward, resized=resize, give_up=undo.close))
        if resize is not None and self._exec_id == "":
            resize()  # the window may have changed since the attachment was asked for

    def _forward(self, name: str) -> None:
        try:
            self._client.tasks.kill(self._container, signal=name, exec_id=self._exec_id)
        except (FailedPrecondition, NotFound):
            return  # the process has ended: the main thread says how
        except CortenError as error:
            complain(str(error))

    def _resize(self, attachment: Attachment) -> None:
        size = terminal.size()
        if size is None:
            return
        try:
            attachment.resize(*size)
        except CortenError:
            return  # the process has ended: the main thread says how

    def _feed(self, attachment: Attachment) -> None:
        """Input to the process, until its end, the detach keys, or the end of the process."""
        matcher = keys.DetachMatcher(self._keys if attachment.terminal else b"")
        try:
            while data := _read(terminal.STDIN):
                passed = matcher.feed(data)
                if passed:
                    attachment.write(passed)
                if matcher.detached:
                    self._detached = True
                    attachment.detach()
                    return
            held = matcher.finish()
            if held:
                attachment.write(held)
            attachment.close_stdin()
        except CortenError:
            return  # the process has ended: the main thread says how

    def _drain(self, attachment: Attachment) -> int:
        """Output to the user, until the process has ended or nobody is left to read it; the exit code."""
        try:
            while (output := attachment.read()) is not None:
                if not self._show(output) and not self._owned:
                    attachment.detach()
                    return _STDOUT_GONE
        except CortenError:
            if self._detached:
                return 0
            raise
        if self._detached:
            return 0
        status = attachment.exit_status
        if status is None:
            return ENGINE_FAILED
        if status.error or status.reason in _REASONS:
            complain(status.error or _REASONS[status.reason])
        return _STDOUT_GONE if self._gone else status.exit_code

    def _show(self, output: Output) -> bool:
        """False once stdout has no reader; a process that this command started is killed then, and drained."""
        if self._gone and output.stream == "stdout":
            return True
        try:
            if write_all(terminal.STDERR if output.stream == "stderr" else terminal.STDOUT, output.data):
                return True
        except OSError as error:
            complain(f"{output.stream}: {(error.strerror or str(error)).lower()}")
        if output.stream == "stderr":
            return True
        self._gone = True
        if self._owned:
            self._forward("SIGKILL")
        return False


def _read(fd: int) -> bytes:
    """Up to 1 MiB; empty at the end, and where there is no stdin at all."""
    while True:
        try:
            return os.read(fd, _CHUNK)
        except BlockingIOError:
            select.select([fd], [], [])
        except OSError:
            return b""


def write_all(fd: int, data: bytes) -> bool:
    """Writes all of `data`, waiting while the reader takes nothing. False when nobody reads any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EBADF, errno.EIO):
                return False
            raise
    return True
