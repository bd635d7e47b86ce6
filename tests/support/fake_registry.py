"""A registry and a token server that do as a test tells them. No assertions here."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from cortend.oci.platform import Platform

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
