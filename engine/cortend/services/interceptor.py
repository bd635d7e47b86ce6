"""Errors of the domain become gRPC statuses: here, once, for every service.

Owns the translation of exceptions that leave a handler. The table is `corten_api.status`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
import structlog
from corten_api import status
from corten_api.errors import CortenError, Internal

log = structlog.get_logger()

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS_MAX = 4096  # bytes of a status message: headers have a limit


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every handler."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(_streaming(inner, method), handler.request_deserializer, handler.response_serializer)
        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
        make = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make(_single(inner, method), handler.request_deserializer, handler.response_serializer)


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


def _streaming(inner: Callable[[Any, Any], Any], method: str) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def handle(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
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


def _unexpected(error: Exception, method: str) -> CortenError:
    log.exception("request.broke", method=method)
    return Internal("", "", f"the engine failed at {method}: {type(error).__name__}: {error}")


async def _abort(context: Any, error: CortenError) -> NoReturn:
    context.set_trailing_metadata(((status.DETAIL_KEY, status.encode(error)[:_DETAILS_MAX]),))
    await context.abort(_CODES[status.code_of(error)], str(error)[:_DETAILS_MAX])
    raise AssertionError("abort returned")
