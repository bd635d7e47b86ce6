"""Errors of the domain become gRPC statuses: here, once, for every service.

Owns the translation of exceptions that leave a handler, and ending those calls that would outlast a stopping engine.
The table is `corten_api.status`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, NoReturn

import grpc
import structlog
from corten_api import status
from corten_api.errors import CortenError, Internal, Unavailable

log = structlog.get_logger()

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_WAITS = frozenset({"/corten.v1.Tasks/Wait"})
_DETAILS_MAX = 1500  # bytes of a status message: headers have a limit


class Guard:
    """Wraps the handlers of every service, once, when they are registered."""

    def __init__(self) -> None:
        self._endless: set[asyncio.Task[Any]] = set()
        self._stopping = False

    def around(self, service: Any, name: str) -> Any:
        """A servicer for the generated `add_..._to_server`; `name` is the service's full name."""
        return _Guarded(service, name, self._wrapped)

    def stop_endless(self) -> None:
        """End streams and waits: they are told that the engine is stopping. Other calls may finish."""
        self._stopping = True
        for task in tuple(self._endless):
            task.cancel()

    def _wrapped(self, handler: Any, method: str) -> Any:
        if inspect.isasyncgenfunction(handler):
            return self._streaming(handler, method)
        return (self._waiting if method in _WAITS else _single)(handler, method)

    def _streaming(self, inner: Callable[[Any, Any], Any], method: str) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def handle(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                with self._tracked():
                    async with aclosing(inner(request, context)) as responses:
                        async for response in responses:
                            yield response
            except CortenError as error:
                await _abort(context, error)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await _abort(context, _unexpected(error, method))

        return handle

    def _waiting(
        self, inner: Callable[[Any, Any], Awaitable[Any]], method: str
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def wait(request: Any, context: Any) -> Any:
            with self._tracked():
                return await inner(request, context)

        return _single(wait, method)

    @contextmanager
    def _tracked(self) -> Iterator[None]:
        """Known as one that does not end by itself; Unavailable when the engine stops meanwhile."""
        task = asyncio.current_task()
        assert task is not None
        self._endless.add(task)
        try:
            if self._stopping:
                raise _stopping()
            yield
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            task.uncancel()
            raise _stopping() from None
        finally:
            self._endless.discard(task)


class _Guarded:
    """Has the methods of `service`, each wrapped."""

    def __init__(self, service: Any, name: str, wrap: Callable[[Any, str], Any]) -> None:
        self._service = service
        self._name = name
        self._wrap = wrap

    def __getattr__(self, method: str) -> Any:
        return self._wrap(getattr(self._service, method), f"/{self._name}/{method}")


def _single(inner: Callable[[Any, Any], Awaitable[Any]], method: str) -> Callable[[Any, Any], Awaitable[Any]]:
    async def handle(request: Any, context: Any) -> Any:
        try:
            return await inner(request, context)
        except CortenError as error:
            await _abort(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _abort(context, _unexpected(error, method))

    return handle


def _stopping() -> CortenError:
    return Unavailable("engine", "", "it is stopping; containers run on")


def _unexpected(error: Exception, method: str) -> CortenError:
    log.exception("request.broke", method=method)
    return Internal("", "", f"the engine failed at {method}: {type(error).__name__}: {error}")


async def _abort(context: Any, error: CortenError) -> NoReturn:
    context.set_trailing_metadata(((status.DETAIL_KEY, status.encode(error)),))
    await context.abort(_CODES[status.code_of(error)], status.cut(str(error), _DETAILS_MAX).decode())
    raise AssertionError("abort returned")
