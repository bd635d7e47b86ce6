"""Blobs that break off, lie, trickle or never end. All on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from corten_api import errors
from cortend.oci.digest import Digest

from tests.support.fake_registry import MANIFEST, FakeRegistry, digest, served
from tests.support.image_engine import Engine, engine


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    fake = FakeRegistry()
    async with served(fake.serve) as host:
        fake.host = host
        yield fake


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Engine]:
    async with engine(tmp_path / "root") as made:
        yield made


async def test_a_cut_connection_goes_on_where_it_ended(registry: FakeRegistry, storage: Engine) -> None:
    registry.image(size=3_000_000)
    cuts = 0

    async def cut(request: web.Request) -> web.StreamResponse:
        nonlocal cuts
        if cuts == 2:
            return await registry.normal(request)
        cuts += 1
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        total = len(registry.layer)
        response = web.StreamResponse(status=206 if start else 200)
        response.content_length = total - start
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        await response.prepare(request)
        await response.write(registry.layer[start : start + 1_000_000])
        assert request.transport is not None
        request.transport.close()
        return response

    registry.answers[digest(registry.layer)] = cut
    await storage.pull(f"{registry.host}/a")
    ranges = [each.get("Range") for each in registry.asked(digest(registry.layer))]
    assert len(ranges) == 3
    assert ranges[0] is None
    assert 0 < int(str(ranges[1])[6:-1]) < int(str(ranges[2])[6:-1])


async def test_a_pull_that_was_given_up_is_resumed_by_the_next_engine(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.image(size=3_000_000)

    async def stall(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(registry.layer)
        await response.prepare(request)
        await response.write(registry.layer[:2_000_000])
        await asyncio.sleep(60)
        return response

    registry.answers[digest(registry.layer)] = stall
    async with engine(tmp_path / "root") as first:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await first.pull(f"{registry.host}/a")
        await first.collector.collect()
        assert sum(first.content.partial().values()) > 1_000_000
    registry.answers.clear()
    async with engine(tmp_path / "root") as second:
        await second.pull(f"{registry.host}/a")
    assert "Range" in registry.asked(digest(registry.layer))[-1]


async def test_what_two_pulls_share_is_fetched_once(registry: FakeRegistry, storage: Engine) -> None:
    registry.image("1", size=1_000_000)
    first, second = await asyncio.gather(storage.pull(f"{registry.host}/a:1"), storage.pull(f"{registry.host}/b:1"))
    assert first.id == second.id
    assert len(registry.asked(digest(registry.layer))) == 1
    assert len(storage.images.get(str(first.id), "default").tags) == 2


async def test_a_registry_without_ranges_is_read_from_the_beginning(registry: FakeRegistry, storage: Engine) -> None:
    registry.image(size=1_000_000)
    first = True

    async def no_range(request: web.Request) -> web.StreamResponse:
        nonlocal first
        response = web.StreamResponse()
        response.content_length = len(registry.layer)
        await response.prepare(request)
        await response.write(registry.layer[: 500_000 if first else None])
        if first:
            assert request.transport is not None
            request.transport.close()
        first = False
        return response

    registry.answers[digest(registry.layer)] = no_range
    await storage.pull(f"{registry.host}/a")


async def test_a_blob_that_lies_about_its_digest_is_refused(registry: FakeRegistry, storage: Engine) -> None:
    registry.image()
    registry.blobs[digest(registry.layer)] = b"x" * len(registry.layer)
    with pytest.raises(errors.DataLoss, match="digest") as caught:
        await storage.pull(f"{registry.host}/a")
    assert caught.value.name == digest(registry.layer)
    assert digest(registry.layer) not in storage.blobs()
    assert storage.content.partial() == {}
    assert storage.images.list().images == ()


@pytest.mark.parametrize("change", [-1, +1])
async def test_a_blob_that_lies_about_its_size_is_refused(change: int, registry: FakeRegistry, storage: Engine) -> None:
    registry.image()
    lie = registry.layer[:-1] if change < 0 else registry.layer + b"x"
    registry.blobs[digest(registry.layer)] = lie
    with pytest.raises(errors.DataLoss, match=f"not the {len(registry.layer)} it was announced with"):
        await storage.pull(f"{registry.host}/a")


async def test_a_blob_that_goes_on_and_on_is_cut_off(registry: FakeRegistry, storage: Engine) -> None:
    registry.image()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionError:
            return response

    registry.answers[digest(registry.layer)] = endless
    with pytest.raises(errors.DataLoss, match="longer than"):
        await storage.pull(f"{registry.host}/a")


@pytest.mark.parametrize("pace", ["silent", "trickling"])
async def test_a_blob_that_hardly_comes_is_given_up(pace: str, registry: FakeRegistry, storage: Engine) -> None:
    registry.image(size=100_000)

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        if start:
            response.set_status(206)
            total = len(registry.layer)
            response.headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        response.content_length = len(registry.layer) - start
        await response.prepare(request)
        try:
            for position in range(start, len(registry.layer)):
                await response.write(registry.layer[position : position + 1] if pace == "trickling" else b"")
                await asyncio.sleep(0.05)
        except ConnectionError:
            return response
        return response

    registry.answers[digest(registry.layer)] = slow
    async with asyncio.timeout(30):
        with pytest.raises(errors.Unavailable, match="stopped answering") as caught:
            await storage.pull(f"{registry.host}/a")
    assert caught.value.name == registry.host


async def test_a_blob_too_big_for_the_disk_is_refused_at_once(registry: FakeRegistry, storage: Engine) -> None:
    registry.image()
    _, data = registry.manifests["latest"]
    document = json.loads(data)
    document["layers"][0]["size"] = 1 << 49
    registry.put("latest", json.dumps(document).encode(), MANIFEST)
    with pytest.raises(errors.ResourceExhausted, match="are free at"):
        await storage.pull(f"{registry.host}/a")
    assert Digest.parse(str(document["layers"][0]["digest"])) not in storage.content.partial()
