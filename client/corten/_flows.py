"""Calls without a transport: each method of the client is written once, as a flow of steps, and driven twice.

Owns the steps, the two drivers and the descriptors that give a flow its blocking or its awaitable face. A flow is a
generator: it yields a `Step`, gets its result, and returns what the caller wants. Knows no message and no socket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from corten._values import Value

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Value)
DEADLINE = 60.0  # seconds for a call that has no reason to take longer


class Method(Generic[M]):
    """One RPC: where it is, and what it answers with."""

    __slots__ = ("path", "response")

    def __init__(self, path: str, response: type[M]) -> None:
        self.path = path
        self.response = response


class BlockingStream(Protocol):
    """One call with messages in both directions; sending and receiving may be done by different threads."""

    def send(self, message: bytes) -> None: ...
    def half_close(self) -> None: ...
    def receive(self) -> bytes | bytearray | None:
        """The next message; None at a good end. Raises a CortenError at a bad one."""

    def cancel(self) -> None: ...


class AsyncStream(Protocol):
    async def send(self, message: bytes) -> None: ...
    async def half_close(self) -> None: ...
    async def receive(self) -> bytes | bytearray | None: ...
    async def cancel(self) -> None: ...


class Blocking(Protocol):
    """A transport whose calls return when they are done."""

    def unary(self, path: str, request: bytes, timeout: float | None) -> bytes | bytearray: ...
    def open(self, path: str, timeout: float | None) -> BlockingStream: ...
    def close(self) -> None: ...


class Asynchronous(Protocol):
    """A transport whose calls are awaited."""

    async def aunary(self, path: str, request: bytes, timeout: float | None) -> bytes | bytearray: ...
    async def aopen(self, path: str, timeout: float | None) -> AsyncStream: ...
    async def aclose(self) -> None: ...


T_co = TypeVar("T_co", Blocking, Asynchronous, covariant=True)


class Step:
    """What a flow asks its driver to do: `(transport, stream) -> result`, in either manner."""

    __slots__ = ("asynchronous", "blocking")

    def __init__(self, blocking: Callable[[Any], Any], asynchronous: Callable[[Any], Awaitable[Any]]) -> None:
        self.blocking = blocking
        self.asynchronous = asynchronous


Flow = Generator[Step, Any, R]


def call(method: Method[Any], request: Value, timeout: float | None = DEADLINE) -> Step:
    """One request, one answer (a value of `method.response`)."""

    async def awaited(transport: Any) -> Any:
        return method.response.decode(await transport.aunary(method.path, request.encode(), timeout))

    return Step(
        lambda transport: method.response.decode(transport.unary(method.path, request.encode(), timeout)), awaited
    )


def opened(path: str, timeout: float | None) -> Step:
    """Opens a stream with messages in both directions."""
    return Step(lambda transport: transport.open(path, timeout), lambda transport: transport.aopen(path, timeout))


def act(function: Callable[..., Any], *args: Any) -> Step:
    """Calls a method of an opened stream: its result, or what awaiting it gives."""
    return Step(lambda _: function(*args), lambda _: function(*args))


class Service(Generic[T_co]):
    """Base of every noun of the client: holds the transport, drives the flows."""

    def __init__(self, transport: T_co) -> None:
        self._transport: Any = transport
        self._is_async = hasattr(transport, "aunary")


def drive(steps: Flow[R], transport: Any) -> R:
    """Runs a flow to its end, blocking."""
    result: Any = None
    failure: BaseException | None = None
    try:
        while True:
            step = steps.throw(failure) if failure is not None else steps.send(result)
            result, failure = None, None
            try:
                result = step.blocking(transport)
            except Exception as error:
                failure = error
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def adrive(steps: Flow[R], transport: Any) -> R:
    """Runs a flow to its end on the event loop."""
    result: Any = None
    failure: BaseException | None = None
    try:
        while True:
            step = steps.throw(failure) if failure is not None else steps.send(result)
            result, failure = None, None
            try:
                result = await step.asynchronous(transport)
            except Exception as error:
                failure = error
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


class flow(Generic[P, R]):  # noqa: N801 - used as a decorator
    """Makes a method of a flow: blocking on a `Service[Blocking]`, awaitable on a `Service[Asynchronous]`."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Flow[R]]) -> None:
        self._steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, instance: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, instance: Service[Blocking], owner: Any) -> Callable[P, R]: ...
    @overload
    def __get__(self, instance: Service[Asynchronous], owner: Any) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, instance: Service[Any] | None, owner: Any) -> Any:
        if instance is None:
            return self
        driver: Callable[..., Any] = adrive if instance._is_async else drive

        @wraps(self._steps)
        def bound(*args: P.args, **kwargs: P.kwargs) -> Any:
            return driver(self._steps(instance, *args, **kwargs), instance._transport)

        return bound


class Opening(Generic[R]):
    """A server stream that is about to be opened: its call, and how each of its messages is handed out."""

    __slots__ = ("method", "pick", "request", "timeout")

    def __init__(
        self, method: Method[Any], request: Value, pick: Callable[[Any], R], timeout: float | None = None
    ) -> None:
        self.method = method
        self.request = request
        self.pick = pick
        self.timeout = timeout


class Messages(Generic[R]):
    """A stream of values, blocking: iterate it; leave it early by `close` or a `with` block."""

    def __init__(self, opening: Opening[R], transport: Any) -> None:
        self._pick = opening.pick
        self._response = opening.method.response
        self._stream: BlockingStream = transport.open(opening.method.path, opening.timeout)
        self._stream.send(opening.request.encode())
        self._stream.half_close()

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        data = self._stream.receive()
        if data is None:
            raise StopIteration
        return self._pick(self._response.decode(data))

    def close(self) -> None:
        self._stream.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


class AsyncMessages(Generic[R]):
    """A stream of values, awaited: `async for`; leave it early by `aclose` or an `async with` block."""

    def __init__(self, opening: Opening[R], transport: Any) -> None:
        self._opening = opening
        self._transport = transport
        self._stream: AsyncStream | None = None

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        opening = self._opening
        if self._stream is None:
            self._stream = await self._transport.aopen(opening.method.path, opening.timeout)
            await self._stream.send(opening.request.encode())
            await self._stream.half_close()
        data = await self._stream.receive()
        if data is None:
            raise StopAsyncIteration
        return opening.pick(opening.method.response.decode(data))

    async def aclose(self) -> None:
        if self._stream is not None:
            await self._stream.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()


class stream(Generic[P, R]):  # noqa: N801 - used as a decorator
    """Makes a method of an `Opening`: `Messages` on a blocking service, `AsyncMessages` on an asynchronous one."""

    def __init__(self, opening: Callable[Concatenate[Any, P], Opening[R]]) -> None:
        self._opening = opening
        self.__doc__ = opening.__doc__

    @overload
    def __get__(self, instance: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, instance: Service[Blocking], owner: Any) -> Callable[P, Messages[R]]: ...
    @overload
    def __get__(self, instance: Service[Asynchronous], owner: Any) -> Callable[P, AsyncMessages[R]]: ...
    def __get__(self, instance: Service[Any] | None, owner: Any) -> Any:
        if instance is None:
            return self

        @wraps(self._opening)
        def bound(*args: P.args, **kwargs: P.kwargs) -> Any:
            made = AsyncMessages if instance._is_async else Messages
            return made(self._opening(instance, *args, **kwargs), instance._transport)

        return bound


def metadata(namespace: str) -> Mapping[str, str]:
    """What every call carries besides its message."""
    return {"corten-namespace": namespace}
