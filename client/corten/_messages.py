"""Small things between messages and values: times and pages."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any

_SECOND = 1_000_000_000


def nanoseconds(message: Any, field: str) -> int:
    """A timestamp since 1970; 0 where it is absent."""
    if not message.HasField(field):
        return 0
    moment = getattr(message, field)
    return int(moment.seconds) * _SECOND + int(moment.nanos)


def moment(time_ns: int | None) -> Any:
    """A Timestamp; None for None, which leaves the field absent."""
    if time_ns is None:
        return None
    from google.protobuf.timestamp_pb2 import Timestamp

    return Timestamp(seconds=time_ns // _SECOND, nanos=time_ns % _SECOND)


def duration(seconds: float | None) -> Any:
    """A Duration; None for None, which leaves the field absent."""
    if seconds is None:
        return None
    from google.protobuf.duration_pb2 import Duration

    whole, nanos = divmod(round(seconds * _SECOND), _SECOND)
    return Duration(seconds=whole, nanos=nanos)


async def pages(page: Callable[[Any], Awaitable[tuple[Iterable[Any], str]]]) -> list[Any]:
    """Every item of a list; `page` gives the items of one page and the token of the next."""
    from corten_api.v1 import common_pb2

    items: list[Any] = []
    token = ""
    while True:
        some, token = await page(common_pb2.Page(token=token))
        items.extend(some)
        if not token:
            return items
