"""An engine made of plain functions behind a real gRPC server on a unix socket.

Owns what the client's tests need an engine to say; the kernel is not involved.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from corten_api import status
from corten_api.errors import CortenError, NotFound
from corten_api.v1 import containers_pb2, events_pb2, images_pb2, system_pb2, tasks_pb2

_TYPES: dict[str, tuple[Any, bool, bool]] = {
    "System/Ping": (system_pb2.PingRequest, False, False),
    "System/Version": (system_pb2.VersionRequest, False, False),
    "Images/Get": (images_pb2.GetImageRequest, False, False),
    "Images/List": (images_pb2.ListImagesRequest, False, False),
    "Images/Pull": (images_pb2.PullImageRequest, False, True),
    "Images/Load": (images_pb2.LoadImageRequest, True, True),
    "Containers/Create": (containers_pb2.CreateContainerRequest, False, False),
    "Containers/Get": (containers_pb2.GetContainerRequest, False, False),
    "Containers/Delete": (containers_pb2.DeleteContainerRequest, False, False),
    "Tasks/Start": (tasks_pb2.StartTaskRequest, False, False),
    "Tasks/Wait": (tasks_pb2.WaitTaskRequest, False, False),
    "Tasks/Stop": (tasks_pb2.StopTaskRequest, False, False),
    "Tasks/Logs": (tasks_pb2.LogsRequest, False, True),
    "Tasks/Attach": (tasks_pb2.AttachRequest, True, True),
    "Events/Subscribe": (events_pb2.SubscribeRequest, False, True),
}


class FakeEngine(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """`answers["Tasks/Start"] = lambda request: response`; streams give iterators. Calls are kept in `namespaces`."""

    def __init__(self, socket: Path, *, options: tuple[tuple[str, int], ...] = ()) -> None:
        self.address = f"unix://{socket}"
        self.answers: dict[str, Callable[..., Any]] = {}
        self.namespaces: list[str] = []
        self.cancelled = threading.Event()
        self._socket = socket
        self._options = (("grpc.max_receive_message_length", 16 << 20), *options)
        self.start()

    def start(self) -> None:
        """Listen, again after `stop`."""
        self._server = grpc.server(ThreadPoolExecutor(16), handlers=[self], options=self._options)
        self._server.add_insecure_port(f"unix:{self._socket}")
        self._server.start()

    def stop(self) -> None:
        """Go away."""
        self._server.stop(0).wait()
        self._socket.unlink(missing_ok=True)

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method.removeprefix("/corten.v1.")
        if name not in self.answers:
            return None
        request, streams_in, streams_out = _TYPES[name]
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[streams_in, streams_out]
        handler = self._streaming(name) if streams_out else self._single(name)
        return make(handler, request.FromString, lambda message: message.SerializeToString())

    def _begin(self, context: Any) -> None:
        self.namespaces.append(dict(context.invocation_metadata())["corten-namespace"])

    def _single(self, name: str) -> Callable[[Any, Any], Any]:
        def handle(request: Any, context: Any) -> Any:
            self._begin(context)
            try:
                return self.answers[name](request)
            except CortenError as error:
                _abort(context, error)

        return handle

    def _streaming(self, name: str) -> Callable[[Any, Any], Iterator[Any]]:
        def handle(request: Any, context: Any) -> Iterator[Any]:
            self._begin(context)
            context.add_callback(lambda: None if context.code() else self.cancelled.set())
            try:
                yield from self.answers[name](request)
            except CortenError as error:
                _abort(context, error)

        return handle


def _abort(context: Any, error: CortenError) -> None:
    context.set_trailing_metadata(((status.DETAIL_KEY, status.encode(error)),))
    code = next(each for each in grpc.StatusCode if each.value[0] == status.code_of(error))
    context.abort(code, str(error))


def no_image(request: Any) -> Any:
    """An answer: whatever is asked for is not here."""
    raise NotFound("image", request.reference, "is not here; täglich %41")
