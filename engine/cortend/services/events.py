"""corten.v1.Events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from corten_api.v1 import events_pb2 as pb
from corten_api.v1 import events_pb2_grpc

from cortend.domain.events import Event
from cortend.events.log import EventLog
from cortend.services.container_messages import timestamp
from cortend.services.context import namespace_of
from cortend.services.task_messages import nanoseconds


class EventsService(events_pb2_grpc.EventsServicer):
    def __init__(self, events: EventLog) -> None:
        self._events = events

    async def Subscribe(self, request: Any, context: Any) -> AsyncIterator[Any]:
        following = self._events.follow(
            after=request.after,
            since_ns=nanoseconds(request.since) if request.HasField("since") else None,
            until_ns=nanoseconds(request.until) if request.HasField("until") else None,
            topics=tuple(request.topics),
            namespace=None if request.all_namespaces else namespace_of(context),
        )
        await context.send_initial_metadata(())  # the subscription stands: what happens from now on comes
        async with aclosing(following) as events:
            async for event in events:
                yield _message(event)


def _message(event: Event) -> Any:
    return pb.Event(
        cursor=event.cursor,
        time=timestamp(event.time_ns),
        namespace=event.namespace,
        topic=event.topic,
        id=event.id,
        attributes=event.attributes,
    )
