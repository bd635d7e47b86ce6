"""Events: what happened, in order, with a cursor that survives both ends."""

from __future__ import annotations

from corten_api.v1 import events_pb2

from corten import _calls, _messages
from corten._blocks import Face, iterating
from corten._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


class Event(Value):
    """`topic` is for example "container.created" or "task.exited"; `id` names the container or image."""

    cursor: int
    time_ns: int
    namespace: str
    topic: str
    id: str
    attributes: Mapping[str, str]


class AsyncEvents:
    """Events, as coroutines."""

    def __init__(self, calls: _calls.Calls) -> None:
        self._calls = calls

    async def subscribe(
        self,
        *,
        after: int = 0,
        topics: tuple[str, ...] = (),
        since_ns: int | None = None,
        until_ns: int | None = None,
        all_namespaces: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[Event]:
        """Those after a cursor or a moment first, then those that come, until `until_ns`. `topics` are prefixes."""
        request = events_pb2.SubscribeRequest(after=after, topics=topics, all_namespaces=all_namespaces)
        for name, value in (("since", since_ns), ("until", until_ns)):
            if value is not None:
                getattr(request, name).CopyFrom(_messages.moment(value))
        exchange = await self._calls.stream("Events/Subscribe", request, events_pb2.Event, timeout=timeout)
        try:
            while (message := await exchange.receive()) is not None:
                yield Event(
                    cursor=message.cursor,
                    time_ns=_messages.nanoseconds(message, "time"),
                    namespace=message.namespace,
                    topic=message.topic,
                    id=message.id,
                    attributes=dict(message.attributes),
                )
        finally:
            exchange.cancel()


class Events(Face[AsyncEvents]):
    """Events, blocking."""

    subscribe = iterating(AsyncEvents.subscribe)
