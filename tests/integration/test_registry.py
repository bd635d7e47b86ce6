"""The registry client against servers that misbehave, each in its own way. All on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from corten_api import errors
from cortend.oci.platform import Platform

from tests.support.fake_registry import INDEX, MANIFEST, PASS, FakeRegistry, digest, served
from tests.support.image_engine import Engine, engine, free_port


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


async def test_an_image_comes_whole_and_is_recorded(registry: FakeRegistry, storage: Engine) -> None:
    registry.image(size=3_000_000)
    image = await storage.pull(f"{registry.host}/team/app")
    assert image.tags == (f"{registry.host}/team/app:latest",)
    assert image.digests == (f"{registry.host}/team/app@{image.manifest.digest}",)
    assert dict(image.labels) == {"a": "b"}
    assert image.created_at_ns == 1_706_933_106_789_000_000
    assert storage.images.get(f"{registry.host}/team/app", "default") == image
    assert str(image.layers[0].digest) in storage.blobs()


async def test_an_unknown_image_is_not_found_by_its_full_name(registry: FakeRegistry, storage: Engine) -> None:
    with pytest.raises(errors.NotFound, match="no such thing") as caught:
        await storage.pull(f"{registry.host}/absent")
    assert caught.value.name == f"{registry.host}/absent:latest"
    assert storage.blobs() == set()


async def test_nobody_there_is_unavailable_soon(storage: Engine) -> None:
    host = f"127.0.0.1:{free_port()}"
    async with asyncio.timeout(2):
        with pytest.raises(errors.Unavailable, match="cannot be reached: Connection refused") as caught:
            await storage.pull(f"{host}/a")
    assert caught.value.name == host


async def test_a_tag_whose_bytes_are_not_what_the_header_says_is_refused(
    registry: FakeRegistry, storage: Engine
) -> None:
    registry.image()
    _, manifest = registry.manifests["latest"]

    async def lie(request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=manifest, headers={"Content-Type": MANIFEST, "Docker-Content-Digest": digest(b"other")}
        )

    registry.answers["manifests/latest"] = lie
    with pytest.raises(errors.DataLoss, match=digest(b"other")):
        await storage.pull(f"{registry.host}/a")


async def test_a_digest_in_the_reference_is_what_must_come(registry: FakeRegistry, storage: Engine) -> None:
    wanted = str(registry.image()["digest"])
    image = await storage.pull(f"{registry.host}/a:ignored@{wanted}")
    assert image.tags == ()
    assert image.digests == (f"{registry.host}/a@{wanted}",)
    registry.manifests[digest(b"y")] = (MANIFEST, registry.manifests["latest"][1])
    with pytest.raises(errors.DataLoss):
        await storage.pull(f"{registry.host}/a@{digest(b'y')}")


async def test_a_digest_that_cannot_be_verified_here_is_not_asked_for(registry: FakeRegistry, storage: Engine) -> None:
    with pytest.raises(errors.Unimplemented, match="sha256 only"):
        await storage.pull(f"{registry.host}/a@sha512:{'0' * 128}")
    assert registry.requests == []


@pytest.mark.parametrize(
    ("document", "media_type", "words"),
    [
        (
            {"schemaVersion": 1, "fsLayers": [], "history": []},
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "schema 1",
        ),
        ({"schemaVersion": 2, "layers": []}, "application/vnd.example.thing+json", "application/vnd.example.thing"),
        (
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": digest(b""), "size": 0},
                "layers": [],
            },
            MANIFEST,
            "not a container image",
        ),
        (
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": digest(b""),
                    "size": 0,
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                        "digest": digest(b""),
                        "size": 0,
                        "urls": ["https://example/"],
                    }
                ],
            },
            MANIFEST,
            "foreign layers",
        ),
    ],
)
async def test_what_is_no_image_is_refused_by_its_media_type(
    document: dict[str, object], media_type: str, words: str, registry: FakeRegistry, storage: Engine
) -> None:
    registry.put("latest", json.dumps(document).encode(), media_type)
    with pytest.raises(errors.InvalidArgument, match=words):
        await storage.pull(f"{registry.host}/a")


@pytest.mark.parametrize("announced", [True, False])
async def test_a_huge_manifest_is_not_read(announced: bool, registry: FakeRegistry, storage: Engine) -> None:
    async def huge(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": MANIFEST})
        if announced:
            response.content_length = 1 << 40
        await response.prepare(request)
        try:
            for _ in range(100):
                await response.write(b" " * (1 << 20))
        except ConnectionError:
            return response
        return response

    registry.answers["manifests/latest"] = huge
    with pytest.raises(errors.InvalidArgument, match="4194304 bytes"):
        await storage.pull(f"{registry.host}/a")


async def test_another_platform_is_refused_naming_both(registry: FakeRegistry, storage: Engine) -> None:
    entry = registry.image("arm", architecture="s390x")
    with pytest.raises(errors.FailedPrecondition, match=f"no image for {Platform.host()}; it is for linux/s390x"):
        await storage.pull(f"{registry.host}/a:arm")
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{**entry, "platform": {"os": "linux", "architecture": "s390x"}}],
    }
    registry.put("latest", json.dumps(index).encode(), INDEX)
    with pytest.raises(errors.FailedPrecondition, match=f"no image for {Platform.host()}; it has linux/s390x"):
        await storage.pull(f"{registry.host}/a")
    image = await storage.pull(f"{registry.host}/a", platform=Platform.parse("linux/s390x"))
    assert image.target.media_type == INDEX
    with pytest.raises(errors.FailedPrecondition, match="is for linux/s390x"):
        storage.images.refuse_foreign(image)


async def test_redirects_without_end_are_given_up(registry: FakeRegistry, storage: Engine) -> None:
    async def around(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(request.path)

    registry.answers["manifests/latest"] = around
    with pytest.raises(errors.Unavailable, match="redirects more than 10 times"):
        await storage.pull(f"{registry.host}/a")


async def test_too_many_requests_waits_as_long_as_it_is_told(registry: FakeRegistry, storage: Engine) -> None:
    registry.image()
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def busy(request: web.Request) -> web.StreamResponse:
        times.append(loop.time())
        if len(times) < 3:
            return web.Response(status=429, headers={"Retry-After": "1" if len(times) == 1 else "0"})
        return PASS

    registry.gate = busy
    await storage.pull(f"{registry.host}/a")
    assert times[1] - times[0] >= 1.0


async def test_a_server_error_that_stays_is_told_in_the_end(registry: FakeRegistry, storage: Engine) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        return web.json_response({"errors": [{"code": "UNKNOWN", "message": "out of cheese"}]}, status=503)

    registry.gate = broken
    with pytest.raises(errors.Unavailable, match="503: unknown: out of cheese"):
        await storage.pull(f"{registry.host}/a")
    assert len(registry.requests) == 4


@pytest.mark.parametrize(("status", "kind"), [(403, errors.PermissionDenied), (401, errors.Unauthenticated)])
async def test_a_refusal_is_not_tried_again(
    status: int, kind: type[errors.CortenError], registry: FakeRegistry, storage: Engine
) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.json_response({"errors": [{"code": "DENIED", "message": "not for you"}]}, status=status)

    registry.gate = refuse
    with pytest.raises(kind, match="not for you"):
        await storage.pull(f"{registry.host}/a")
    assert len(registry.requests) == 1
