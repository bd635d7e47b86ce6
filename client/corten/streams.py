"""Attachments: stdin, stdout and stderr of a task or an exec'd process, through one call."""

from __future__ import annotations

from corten_api.errors import Unavailable
from corten_api.v1 import tasks_pb2

from corten._blocks import Face, blocking
from corten._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten._calls import Exchange
    from corten.tasks import ExitStatus

STDIN_CHUNK = 1 << 20


class Output(Value):
    """Bytes the process wrote to "stdout" or "stderr". A terminal has only stdout."""

    stream: str
    data: bytes


class AsyncAttachment:
    """An open attachment. Reading and writing may happen at the same time.

    A reader that stops stops the process once 64 KiB and the connection's window are full; nothing is dropped.
    `terminal` says whether the process has one; `exit_status` is there once `read` has given None.
    """

    def __init__(self, exchange: Exchange[Any], *, terminal: bool) -> None:
        self._exchange = exchange
        self.terminal = terminal
        self.exit_status: ExitStatus | None = None

    async def read(self) -> Output | None:
        """The next bytes, None once the process has ended and everything was read."""
        message = await self._exchange.receive()
        if message is None:
            if self.exit_status is None:
                raise Unavailable("", "", "the engine ended the attachment before the process ended")
            return None
        kind = message.WhichOneof("message")
        if kind == "stdout":
            return Output(stream="stdout", data=message.stdout)
        if kind == "stderr":
            return Output(stream="stderr", data=message.stderr)
        if kind == "exited":
            from corten.tasks import exit_status

            self.exit_status = exit_status(message.exited)
            self._exchange.cancel()
            return None
        return await self.read()

    async def write(self, data: bytes) -> None:
        """To stdin. Returns when the engine has room for it; what comes after the process's end is dropped."""
        for start in range(0, len(data), STDIN_CHUNK):
            await self._exchange.send(tasks_pb2.AttachRequest(stdin=data[start : start + STDIN_CHUNK]))

    async def close_stdin(self) -> None:
        """The end of this attacher's stdin. Output goes on."""
        await self._exchange.send(tasks_pb2.AttachRequest(close_stdin=True))

    async def resize(self, width: int, height: int) -> None:
        """The terminal's size in characters, in the order of what was written."""
        size = tasks_pb2.TerminalSize(width=width, height=height)
        await self._exchange.send(tasks_pb2.AttachRequest(resize=size))

    async def detach(self) -> None:
        """Leave; the process goes on. Fine after its end."""
        self._exchange.cancel()

    async def __aenter__(self) -> AsyncAttachment:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.detach()


class Attachment(Face[AsyncAttachment]):
    """An open attachment, blocking. One thread may write while another reads."""

    read = blocking(AsyncAttachment.read)
    write = blocking(AsyncAttachment.write)
    close_stdin = blocking(AsyncAttachment.close_stdin)
    resize = blocking(AsyncAttachment.resize)
    detach = blocking(AsyncAttachment.detach)

    @property
    def terminal(self) -> bool:
        """Whether the process has a terminal."""
        return self._flow.terminal

    @property
    def exit_status(self) -> ExitStatus | None:
        """There once `read` has given None."""
        return self._flow.exit_status

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


async def attached(exchange: Exchange[Any], opening: tasks_pb2.AttachRequest.Open) -> AsyncAttachment:
    """Open and wait until the engine says that nothing is missed from here on. Raises CortenError."""
    try:
        await exchange.send(tasks_pb2.AttachRequest(open=opening))
        first = await exchange.receive()
        if first is None or first.WhichOneof("message") != "attached":
            raise Unavailable("", "", "the engine did not attach")
    except BaseException:
        exchange.cancel()
        raise
    return AsyncAttachment(exchange, terminal=first.attached.terminal)
