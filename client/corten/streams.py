"""Attachments: stdin, stdout and stderr of a task or an exec'd process, through one call."""

from __future__ import annotations

from typing import TypeAlias

from corten_api.errors import Unavailable
from corten_api.v1 import tasks_pb2

from corten._blocks import Face, blocking
from corten._value import Value
from corten.exits import ExitStatus, exit_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten._calls import Exchange
    from corten._direct import DirectOutput

STDIN_CHUNK = 1 << 20


class Output(Value):
    """Bytes the process wrote to "stdout" or "stderr". A terminal has only stdout."""

    stream: str
    data: bytes


Received: TypeAlias = Output | tasks_pb2.AttachResponse


class Reply:
    """How answers of Tasks.Attach are read: output by hand, which saves two copies of every byte; the rest as ever."""

    @staticmethod
    def FromString(data: bytes | memoryview) -> Received:
        """`data` is one whole message: a tag, a varint of the length, the bytes."""
        stream = _OUTPUTS.get(data[0]) if len(data) else None
        if stream is not None:
            size = shift = 0
            for position in range(1, min(len(data), 6)):
                byte = data[position]
                size |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    if size == len(data) - position - 1:
                        return Output(stream=stream, data=bytes(data[position + 1 :]))
                    break
        return tasks_pb2.AttachResponse.FromString(bytes(data))


_OUTPUTS = {
    tasks_pb2.AttachResponse.DESCRIPTOR.fields_by_name[name].number << 3 | 2: name for name in ("stdout", "stderr")
}


class AsyncAttachment:
    """An open attachment. Reading and writing may happen at the same time.

    A reader that stops stops the process once 64 KiB and the connection's window are full; nothing is dropped.
    `terminal` says whether the process has one; `exit_status` is there once `read` has given None.
    """

    def __init__(self, exchange: Exchange[Received], *, terminal: bool) -> None:
        self._exchange = exchange
        self._direct: DirectOutput | None = None
        self.terminal = terminal
        self.exit_status: ExitStatus | None = None

    async def read(self) -> Output | None:
        """The next bytes, None once the process has ended and everything was read."""
        if self.exit_status is not None:
            return None
        if self._direct is not None:
            output = self._direct.read()
            if output is not None:
                return Output(stream=output[0], data=bytes(output[1]))
            direct, self._direct = self._direct, None
            direct.close()
            await self._tell("WHOLE" if direct.whole else "CUT")
        message = await self._exchange.receive()
        if isinstance(message, Output):
            return message
        if message is None:
            raise Unavailable("", "", "the engine ended the attachment before the process ended")
        kind = message.WhichOneof("message")
        if kind == "stdout":
            return Output(stream="stdout", data=message.stdout)
        if kind == "stderr":
            return Output(stream="stderr", data=message.stderr)
        if kind == "exited":
            self.exit_status = exit_status(message.exited)
            self._exchange.cancel()
            return None
        if kind == "direct":
            await self._go_direct(message.direct.directory, message.direct.token)
        return await self.read()

    async def _go_direct(self, directory: str, token: bytes) -> None:
        from corten._direct import DirectOutput

        try:
            self._direct = DirectOutput(directory, token)
        except OSError:  # the engine's files cannot be seen from here
            await self._tell("UNREACHABLE")

    async def _tell(self, end: str) -> None:
        await self._exchange.send(tasks_pb2.AttachRequest(direct_end=f"DIRECT_END_{end}"))

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
        if self._direct is not None:
            self._direct.leave()

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


async def attached(exchange: Exchange[Received], opening: tasks_pb2.AttachRequest.Open) -> AsyncAttachment:
    """Open and wait until the engine says that nothing is missed from here on. Raises CortenError."""
    try:
        await exchange.send(tasks_pb2.AttachRequest(open=opening))
        first = await exchange.receive()
        if not isinstance(first, tasks_pb2.AttachResponse) or first.WhichOneof("message") != "attached":
            raise Unavailable("", "", "the engine did not attach")
    except BaseException:
        exchange.cancel()
        raise
    return AsyncAttachment(exchange, terminal=first.attached.terminal)
