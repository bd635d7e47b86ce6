"""How the registry client shows who it is: passwords, tokens, and to whom it shows neither. All on loopback."""
# ruff: noqa: S106

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from corten_api import errors
from cortend.registry.credentials import Credentials

from tests.support.fake_registry import PASS, FakeRegistry, TokenServer, digest, served
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
