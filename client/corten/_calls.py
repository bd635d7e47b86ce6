"""What a transport offers to the rest of the library, and what a call carries besides its message.

Owns the interface; `corten._channel` opens implementations. Every method is `async`, also where the transport blocks:
a blocking one never suspends, so that `corten._blocks` can run the same code without an event loop.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

M = TypeVar("M")
C = TypeVar("C", covariant=True)


class Parser(Protocol[C]):
    """What answers are read by: the class of a protobuf message is one."""

    def FromString(self, data: Any, /) -> C:
        """One whole message."""


class Exchange(Protocol[C]):
    """One call that streams in at least one direction."""

    async def send(self, message: Any) -> None:
        """Returns when the message has been handed over, which is when the engine has room for it."""

    async def half_close(self) -> None:
        """No more messages from this side."""

    async def receive(self) -> C | None:
        """The next message, None after the last. Raises the CortenError the call ended with."""

    def cancel(self) -> None:
        """Give the call up. Fine after its end."""


class Transport(Protocol):
    """Calls of one engine.

    `reads_files`: the engine is on this machine, its files may be opened, and a read of one may block.
    """

    @property
    def reads_files(self) -> bool: ...

    async def unary(self, path: str, request: Any, reply: Parser[M], *, options: Options) -> M:
        """One request, one answer. Raises CortenError."""

    async def open(self, path: str, reply: Parser[M], *, options: Options) -> Exchange[M]:
        """A call that streams; the requests are sent on it."""

    async def close(self) -> None:
        """End every call."""


DEFAULT_TIMEOUT = 60.0
NAMESPACE_KEY = "corten-namespace"


class Options:
    """`timeout` in seconds for the whole call, None for none; `namespace` of the containers meant."""

    __slots__ = ("namespace", "timeout")

    def __init__(self, *, namespace: str, timeout: float | None) -> None:
        self.namespace = namespace
        self.timeout = timeout


class Calls:
    """A transport with the client's namespace and default deadline."""

    def __init__(self, transport: Transport, *, namespace: str, timeout: float | None) -> None:
        self.transport = transport
        self.namespace = namespace
        self.timeout = timeout

    async def unary(self, path: str, request: Any, reply: Parser[M], *, extra: float = 0.0) -> M:
        """With the client's deadline, `extra` seconds later where the engine was told to take its time."""
        timeout = None if self.timeout is None else self.timeout + extra
        options = Options(namespace=self.namespace, timeout=timeout)
        return await self.transport.unary(f"/corten.v1.{path}", request, reply, options=options)

    async def patient(self, path: str, request: Any, reply: Parser[M], *, timeout: float | None) -> M:
        """For what takes as long as it takes: only the caller's own deadline."""
        options = Options(namespace=self.namespace, timeout=timeout)
        return await self.transport.unary(f"/corten.v1.{path}", request, reply, options=options)

    async def open(self, path: str, reply: Parser[M], *, timeout: float | None = None) -> Exchange[M]:
        """A call that streams."""
        options = Options(namespace=self.namespace, timeout=timeout)
        return await self.transport.open(f"/corten.v1.{path}", reply, options=options)

    async def stream(self, path: str, request: Any, reply: Parser[M], *, timeout: float | None = None) -> Exchange[M]:
        """A call with one request and many answers."""
        exchange = await self.open(path, reply, timeout=timeout)
        try:
            await exchange.send(request)
            await exchange.half_close()
        except BaseException:
            exchange.cancel()
            raise
        return exchange
