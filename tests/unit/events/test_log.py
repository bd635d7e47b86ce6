"""The event log: in order, without gap or duplicate, for ever slow subscribers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
from cortend.db import events as rows
from cortend.db.database import Database
from cortend.domain.events import Event
from cortend.events.log import EventLog


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database.open(tmp_path / "meta.db")
    yield opened
    opened.close()


@pytest.fixture
async def events(database: Database) -> EventLog:
    return EventLog(database, retained=1000)


async def take(stream: AsyncGenerator[Event, None], count: int) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(5):
        async for event in stream:
            found.append(event)
            if len(found) == count:
                break
    await stream.aclose()
    return found


async def test_a_subscriber_gets_what_comes_after_it_subscribed(events: EventLog) -> None:
    await events.publish("a.before", "1")
    stream = events.follow()
    await events.publish("a.after", "2")
    assert [each.id for each in await take(stream, 1)] == ["2"]


async def test_a_cursor_replays_what_was_kept_and_goes_on_without_gap_or_duplicate(events: EventLog) -> None:
    for n in range(300):
        await events.publish("a.happened", str(n))
    first = await take(events.follow(since_ns=0), 1)
    stream = events.follow(after=first[0].cursor)

    async def publish() -> None:
        for n in range(300, 900):
            await events.publish("a.happened", str(n))

    publishing = asyncio.ensure_future(publish())
    found = await take(stream, 899)
    await publishing
    assert [each.id for each in found] == [str(n) for n in range(1, 900)]
    cursors = [each.cursor for each in found]
    assert cursors == sorted(set(cursors))


async def test_topics_are_prefixes_and_namespaces_are_apart(events: EventLog) -> None:
    stream = events.follow(topics=("container.", "image.pulled"), namespace="mine")
    for topic in ("task.started", "container.created", "image.pulled", "image.removed"):
        await events.publish(topic, "x", namespace="mine")
        await events.publish(topic, "y", namespace="theirs")
    found = await take(stream, 2)
    assert [(each.topic, each.id) for each in found] == [("container.created", "x"), ("image.pulled", "x")]


async def test_until_ends_the_stream(events: EventLog) -> None:
    await events.publish("a.one", "1")
    stream = events.follow(since_ns=0, until_ns=time.time_ns() + 50_000_000)
    async with asyncio.timeout(5):
        assert [each.id async for each in stream] == ["1"]


async def test_only_the_newest_are_kept_and_cursors_are_never_given_twice(database: Database) -> None:
    events = EventLog(database, retained=100)
    for n in range(600):
        await events.publish("a.happened", str(n))
    kept = database.read(lambda tx: rows.after(tx, 0, limit=10_000))
    assert 100 <= len(kept) <= 100 + 256
    assert kept[-1].id == "599"
    await database.write(lambda tx: tx.execute("DELETE FROM events"))
    await events.publish("a.happened", "again")
    assert database.read(rows.newest) == 601


async def test_a_subscriber_that_reads_nothing_costs_nothing_and_loses_nothing(events: EventLog) -> None:
    slow = events.follow()
    for n in range(700):
        await events.publish("a.happened", str(n), {"n": str(n)})
    found = await take(slow, 700)
    assert [each.attributes["n"] for each in found] == [str(n) for n in range(700)]


async def test_an_event_of_a_failed_change_never_happened(database: Database, events: EventLog) -> None:
    def fails(tx: object) -> None:
        events.record(tx, "a.lie", "1")  # type: ignore[arg-type]
        raise ValueError

    with pytest.raises(ValueError):
        await database.write(fails)
    assert database.read(lambda tx: rows.after(tx, 0, limit=10)) == []
