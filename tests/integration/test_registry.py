"""The registry client against servers that misbehave, each in its own way. All on loopback."""
# ruff: noqa: S106

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from corten_api import errors
from cortend.oci.digest import Digest
from cortend.oci.platform import Platform
from cortend.registry.credentials import Credentials

from tests.support.image_engine import Engine, engine, free_port

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor(data: bytes, media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


class FakeRegistry:
    """A registry whose every answer a test may replace: by path in `answers`, or all by `gate`."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.answers: dict[str, Handler] = {}
        self.gate: Handler | None = None
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.host = ""

    def image(self, tag: str = "latest", *, size: int = 0, architecture: str = "") -> dict[str, object]:
        """A one-layer image with a file of `size` random bytes; returns the descriptor of its manifest."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            member = tarfile.TarInfo("file")
            content = os.urandom(size) if size else b"hello"
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        layer = gzip.compress(buffer.getvalue(), 1)
        host = Platform.host()
        config = json.dumps(
            {
                "os": "linux",
                "architecture": architecture or host.architecture,
                "variant": "" if architecture else host.variant,
                "created": "2024-02-03T04:05:06.789Z",
                "config": {"Cmd": ["/file"], "Labels": {"a": "b"}},
                "rootfs": {"type": "layers", "diff_ids": [digest(buffer.getvalue())]},
            }
        ).encode()
        self.layer = layer
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
                "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar+gzip")],
            }
        ).encode()
        self.blobs |= {digest(layer): layer, digest(config): config}
        return self.put(tag, manifest, MANIFEST)

    def put(self, tag: str, manifest: bytes, media_type: str) -> dict[str, object]:
        self.manifests[tag] = self.manifests[digest(manifest)] = (media_type, manifest)
        return descriptor(manifest, media_type)

    def asked(self, part: str, method: str = "GET") -> list[dict[str, str]]:
        """Headers of every request whose path holds `part`."""
        return [headers for verb, path, headers in self.requests if part in path and verb == method]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, dict(request.headers)))
        if self.gate is not None:
            answer = await self.gate(request)
            if answer is not PASS:
                return answer
        for part, handler in self.answers.items():
            if part in request.path:
                return await handler(request)
        return await self.normal(request)

    async def normal(self, request: web.Request) -> web.StreamResponse:
        kind, name = request.path.rsplit("/", 2)[1:]
        if kind == "manifests" and name in self.manifests:
            media_type, data = self.manifests[name]
            return web.Response(body=data, headers={"Content-Type": media_type, "Docker-Content-Digest": digest(data)})
        if kind == "blobs" and name in self.blobs:
            data = self.blobs[name]
            start = int(request.headers.get("Range", "bytes=0-")[6:-1])
            headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
            return web.Response(body=data[start:], status=206 if start else 200, headers=headers)
        return web.json_response({"errors": [{"code": "NAME_UNKNOWN", "message": "no such thing"}]}, status=404)


PASS = web.Response(status=299)


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await runner.cleanup()


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
        with pytest.raises(errors.Unavailable, match="cannot be reached") as caught:
            await storage.pull(f"{host}/a")
    assert caught.value.name == host


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


async def test_a_redirect_takes_no_authorization_elsewhere(registry: FakeRegistry, storage: Engine) -> None:
    registry.image(size=100_000)
    elsewhere: list[dict[str, str]] = []

    async def store(request: web.Request) -> web.StreamResponse:
        elsewhere.append(dict(request.headers))
        return web.Response(body=registry.layer)

    async def password(request: web.Request) -> web.StreamResponse:
        if "Authorization" not in request.headers:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return PASS

    async with served(store) as other:

        async def redirect(request: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"http://{other}/blob?signature=abc")

        registry.gate = password
        registry.answers[digest(registry.layer)] = redirect
        credentials = Credentials(username="corten", password="hunter22")
        await storage.pull(f"{registry.host}/a", credentials=credentials)
    assert len(elsewhere) == 1
    assert "Authorization" not in elsewhere[0]
    assert "Authorization" in registry.asked("blobs/")[-1]


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


class TokenServer:
    """A bearer-token server that takes user "corten" with "hunter22", or the identity token "refresh-1"."""

    def __init__(self, *, key: str = "token", lifetime: int = 300, anonymous: bool = False) -> None:
        self.key = key
        self.lifetime = lifetime
        self.anonymous = anonymous
        self.issued: list[str] = []
        self.queries: list[dict[str, str]] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        basic = base64.b64encode(b"corten:hunter22").decode()
        form = dict(await request.post())
        self.queries.append({**request.query, **{name: str(value) for name, value in form.items()}})
        known = request.headers.get("Authorization") == f"Basic {basic}" or form.get("refresh_token") == "refresh-1"
        if not known and not self.anonymous:
            echoed = request.headers.get("Authorization", "")
            return web.json_response({"details": f"incorrect username or password {echoed}"}, status=401)
        self.issued.append(f"t-{len(self.issued)}")
        return web.json_response({self.key: self.issued[-1], "expires_in": self.lifetime})

    def gate(self, host: str) -> Handler:
        async def check(request: web.Request) -> web.StreamResponse:
            if request.headers.get("Authorization") in [f"Bearer {each}" for each in self.issued]:
                return PASS
            challenge = f'Bearer realm="http://{host}/token",service="test",scope="repository:a:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})

        return check


@pytest.mark.parametrize("key", ["token", "access_token"])
async def test_a_token_is_fetched_once_and_used_for_everything(
    key: str, registry: FakeRegistry, storage: Engine
) -> None:
    registry.image()
    tokens = TokenServer(key=key, anonymous=True)
    async with served(tokens.serve) as host:
        registry.gate = tokens.gate(host)
        await storage.pull(f"{registry.host}/a")
    assert len(tokens.issued) == 1
    assert tokens.queries == [{"service": "test", "scope": "repository:a:pull"}]


async def test_a_password_buys_a_token(registry: FakeRegistry, storage: Engine) -> None:
    registry.image()
    tokens = TokenServer()
    async with served(tokens.serve) as host:
        registry.gate = tokens.gate(host)
        await storage.pull(f"{registry.host}/a", credentials=Credentials(username="corten", password="hunter22"))
    assert tokens.queries[0]["account"] == "corten"
    assert not any("Basic" in each.get("Authorization", "") for each in registry.asked("/v2/"))


async def test_an_identity_token_is_posted(registry: FakeRegistry, storage: Engine) -> None:
    registry.image()
    tokens = TokenServer(key="access_token")
    async with served(tokens.serve) as host:
        registry.gate = tokens.gate(host)
        await storage.pull(f"{registry.host}/a", credentials=Credentials(identity_token="refresh-1"))
    assert tokens.queries[0]["grant_type"] == "refresh_token"
    assert tokens.queries[0]["scope"] == "repository:a:pull"


async def test_a_wrong_password_is_unauthenticated_and_not_quoted(registry: FakeRegistry, storage: Engine) -> None:
    registry.image()
    tokens = TokenServer()
    async with served(tokens.serve) as host:
        registry.gate = tokens.gate(host)
        with pytest.raises(errors.Unauthenticated, match="incorrect username or password") as caught:
            await storage.pull(
                f"{registry.host}/a", credentials=Credentials(username="corten", password="not-hunter22")
            )
    encoded = base64.b64encode(b"corten:not-hunter22").decode()
    assert "not-hunter22" not in str(caught.value)
    assert encoded not in str(caught.value)


async def test_a_token_that_ends_during_a_pull_is_renewed(registry: FakeRegistry, storage: Engine) -> None:
    registry.image()
    tokens = TokenServer(anonymous=True)
    async with served(tokens.serve) as host:
        check = tokens.gate(host)

        async def gate(request: web.Request) -> web.StreamResponse:
            if "blobs" in request.path and len(tokens.issued) == 1:
                tokens.issued[0] = "ended"
            return await check(request)

        registry.gate = gate
        await storage.pull(f"{registry.host}/a")
    assert len(tokens.issued) == 2


async def test_a_token_server_in_plain_http_elsewhere_gets_nothing(registry: FakeRegistry, storage: Engine) -> None:
    async def challenge(request: web.Request) -> web.StreamResponse:
        header = 'Bearer realm="http://auth.example/token"'
        return web.Response(status=401, headers={"WWW-Authenticate": header})

    registry.gate = challenge
    with pytest.raises(errors.Unavailable, match=r"auth\.example speaks plain HTTP"):
        await storage.pull(f"{registry.host}/a", credentials=Credentials(username="corten", password="hunter22"))


async def test_a_registry_that_asks_for_a_login_says_so(registry: FakeRegistry, storage: Engine) -> None:
    async def challenge(request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    registry.gate = challenge
    with pytest.raises(errors.Unauthenticated, match="log in"):
        await storage.pull(f"{registry.host}/a")


async def test_a_blob_too_big_for_the_disk_is_refused_at_once(registry: FakeRegistry, storage: Engine) -> None:
    registry.image()
    _, data = registry.manifests["latest"]
    document = json.loads(data)
    document["layers"][0]["size"] = 1 << 49
    registry.put("latest", json.dumps(document).encode(), MANIFEST)
    with pytest.raises(errors.ResourceExhausted, match="are free at"):
        await storage.pull(f"{registry.host}/a")
    assert Digest.parse(str(document["layers"][0]["digest"])) not in storage.content.partial()
