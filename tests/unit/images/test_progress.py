"""Watchers of work, fast and slow, and the joining of callers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from corten_api.errors import NotFound
from cortend.images.assembly import created_ns
from cortend.images.flights import Flights
from cortend.images.progress import Board, Phase, Progress
from cortend.oci.digest import Digest
from cortend.oci.manifest import Descriptor

BLOB = Descriptor(media_type="x", digest=Digest.of(b"blob"), size=100)


async def told(board: Board) -> list[tuple[Phase, int]]:
    watch = board.watch()
    board.close()
    return [(each.phase, each.offset) async for each in watch]


async def test_a_late_watcher_gets_the_state_of_every_blob() -> None:
    board = Board()
    board.post(Phase.RESOLVING)
    board.post(Phase.DOWNLOADING, BLOB, 10)
    board.post(Phase.VERIFIED, BLOB, 100)
    assert await told(board) == [(Phase.RESOLVING, 0), (Phase.VERIFIED, 100)]


async def test_steps_are_paced_but_changes_of_phase_are_not() -> None:
    board = Board()
    watch = board.watch()
    seen: list[Progress] = []

    async def collect() -> None:
        async for each in watch:
            seen.append(each)

    collecting = asyncio.ensure_future(collect())
    for offset in range(1000):
        board.post(Phase.DOWNLOADING, BLOB, offset)
        await asyncio.sleep(0)
    board.post(Phase.VERIFIED, BLOB, 100)
    board.close()
    await collecting
    assert len(seen) <= 4
    assert seen[-1].phase is Phase.VERIFIED


async def test_a_failure_reaches_every_caller() -> None:
    flights: Flights[int] = Flights()

    async def fail(board: Board) -> int:
        await asyncio.sleep(0.01)
        raise NotFound("image", "x", "is not here")

    async def call() -> None:
        async for _ in flights.join("key", fail):
            continue

    outcomes = await asyncio.gather(call(), call(), return_exceptions=True)
    assert [type(each) for each in outcomes] == [NotFound, NotFound]


async def test_the_last_caller_that_leaves_ends_the_work() -> None:
    flights: Flights[int] = Flights()
    ended = asyncio.Event()

    async def work(board: Board) -> int:
        board.post(Phase.RESOLVING)
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return 1

    first, second = flights.join("key", work), flights.join("key", work)
    await anext(first)
    await anext(second)
    await first.aclose()
    assert not ended.is_set()
    await second.aclose()
    assert ended.is_set()


async def test_what_has_ended_is_not_joined() -> None:
    flights: Flights[int] = Flights()
    results = iter((1, 2))

    async def work(board: Board) -> int:
        return next(results)

    for wanted in (1, 2):
        async with aclosing(flights.join("key", work)) as steps:
            assert [each async for each in steps] == [wanted]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("0001-01-01T00:00:00Z", 0),
        ("yesterday", 0),
        ("", 0),
        ("2024-02-31T00:00:00Z", 0),
    ],
)
def test_the_creation_time_is_read_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    assert created_ns(text) == nanoseconds
