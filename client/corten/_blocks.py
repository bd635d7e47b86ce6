"""Blocking faces of asynchronous code: the same functions, run without an event loop.

Owns the decorators that make a method of a blocking class from the `async` one. It works because a blocking transport
never suspends: one step runs a coroutine to its end.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Concatenate, ParamSpec

    P = ParamSpec("P")

T = TypeVar("T")
F = TypeVar("F")
B = TypeVar("B")
X = TypeVar("X")


class Face(Generic[F]):
    """Base of the blocking classes: the asynchronous object behind it."""

    def __init__(self, flow: F) -> None:
        self._flow = flow


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise RuntimeError("this coroutine needs an event loop: use AsyncClient")


def blocking(method: Callable[Concatenate[F, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Face[F], P], T]:
    """`method` of the flow as a plain method."""

    def call(self: Face[F], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(method(self._flow, *args, **kwargs))

    return _named(call, method)


def wrapping(
    method: Callable[Concatenate[F, P], Coroutine[Any, Any, T]], face: Callable[[T], B]
) -> Callable[Concatenate[Face[F], P], B]:
    """`method` of the flow as a plain method; what it gives gets its blocking face."""

    def call(self: Face[F], /, *args: P.args, **kwargs: P.kwargs) -> B:
        return face(run(method(self._flow, *args, **kwargs)))

    return _named(call, method)


def iterating(method: Callable[Concatenate[F, P], AsyncIterator[T]]) -> Callable[Concatenate[Face[F], P], Iteration[T]]:
    """`method` of the flow, which gives values as they come, as a plain one."""

    def call(self: Face[F], /, *args: P.args, **kwargs: P.kwargs) -> Iteration[T]:
        return Iteration(method(self._flow, *args, **kwargs))

    return _named(call, method)


class Iteration(Generic[T]):
    """Values as they come. Leaving the `with` block, or `close`, ends the call behind them."""

    def __init__(self, values: AsyncIterator[T]) -> None:
        self._values = values

    def __iter__(self) -> Iteration[T]:
        return self

    def __next__(self) -> T:
        try:
            return run(self._values.__anext__())  # type: ignore[arg-type]
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """End the call. Fine twice."""
        run(self._values.aclose())  # type: ignore[attr-defined]

    def __enter__(self) -> Iteration[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _named(call: X, method: Any) -> X:
    for name in ("__name__", "__doc__", "__module__"):
        setattr(call, name, getattr(method, name))
    setattr(call, "__qualname__", method.__qualname__.removeprefix("Async"))  # noqa: B010
    setattr(call, "__wrapped__", method)  # noqa: B010
    return call
