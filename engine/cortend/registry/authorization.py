"""Answering a registry's challenges: basic, and bearer tokens from the token server that it names.

Owns one pull's tokens and their expiry. Credentials go to the realm only over TLS or within this machine,
and never into an error. Source: distribution "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from corten_api.errors import CortenError, PermissionDenied, Unauthenticated, Unavailable
from yarl import URL

from cortend.registry import endpoints, failures
from cortend.registry.challenges import Challenge
from cortend.registry.credentials import Credentials
from cortend.registry.failures import Transient
from cortend.registry.transport import Transport

_CLIENT_ID = "corten"
_DEFAULT_LIFETIME = 60.0
_MARGIN = 10.0
_MAX_TOKEN = 1 << 20


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


@dataclass(frozen=True, slots=True, repr=False)
class _Header:
    """The value of an Authorization header and when it ends (monotonic seconds)."""

    value: str
    ends: float


class Authorizer:
    """Authorization for one repository on one registry."""

    def __init__(self, transport: Transport, registry: URL, scope: str, credentials: Credentials) -> None:
        self._transport = transport
        self._registry = registry
        self._scope = scope
        self._credentials = credentials
        self._header: _Header | None = None
        self._challenge: Challenge | None = None
        self._lock = asyncio.Lock()

    async def header(self) -> str:
        """What to send; "" as long as the registry has asked for nothing. Renews a token that is about to end."""
        found = self._header
        if found is None:
            return ""
        if time.monotonic() < found.ends or self._challenge is None:
            return found.value
        return await self._renew(found.value, self._challenge)

    async def answer(self, challenges: Sequence[Challenge], refused: str) -> str:
        """The header that answers a 401 to a request that carried `refused`.

        Raises Unauthenticated where it cannot be answered.
        """
        host = endpoints.shown(self._registry)
        chosen = next((each for each in challenges if each.scheme == "bearer" and each.parameters.get("realm")), None)
        chosen = chosen or next((each for each in challenges if each.scheme == "basic"), None)
        if chosen is None:
            asked = ", ".join(each.scheme for each in challenges) or "nothing"
            raise Unauthenticated("registry", host, f"asks for {asked}; basic and bearer are understood")
        return await self._renew(refused, chosen)

    async def _renew(self, stale: str, challenge: Challenge) -> str:
        async with self._lock:
            current = self._header
            if current is not None and current.value != stale and time.monotonic() < current.ends:
                return current.value  # another layer's request renewed it meanwhile
            if challenge.scheme == "basic":
                self._header = _Header(self._basic(), float("inf"))
            else:
                self._header = await self._transport.retrying(lambda: self._fetch(challenge))
            self._challenge = challenge
            return self._header.value

    def _basic(self) -> str:
        host = endpoints.shown(self._registry)
        if not self._credentials.basic:
            raise Unauthenticated("registry", host, "asks for a user name and a password; log in to it")
        if not endpoints.may_carry_secrets(self._registry):
            raise Unauthenticated("registry", host, "asks for a password over plain HTTP; none is sent there")
        return self._credentials.basic

    async def _fetch(self, challenge: Challenge) -> _Header:
        """A token from the realm: by POST for an identity token, by GET with the password or anonymously otherwise."""
        realm = self._realm(challenge)
        service = challenge.parameters.get("service", "")
        scope = challenge.parameters.get("scope") or self._scope
        headers: dict[str, str] = {}
        form: dict[str, str] | None = None
        if self._credentials.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": self._credentials.identity_token}
            form |= {"service": service, "scope": scope, "client_id": _CLIENT_ID}
        else:
            query = {"service": service} if service else {}
            if self._credentials.basic:
                headers["Authorization"] = self._credentials.basic
                query |= {"account": self._credentials.username, "client_id": _CLIENT_ID}
            realm = realm.extend_query(query).extend_query([("scope", each) for each in scope.split(" ")])
        asked_at = time.monotonic()
        host = endpoints.shown(realm)
        async with self._transport.open("POST" if form else "GET", realm, headers, form=form) as response:
            body = await self._transport.read(response, _MAX_TOKEN)
            if response.status != 200:
                raise self._refused(response.status, body, response.headers.get("Retry-After", ""), host)
        return _header(body, asked_at, host)

    def _realm(self, challenge: Challenge) -> URL:
        host = endpoints.shown(self._registry)
        try:
            realm = URL(challenge.parameters["realm"])
        except (ValueError, KeyError):
            raise Unavailable("registry", host, "names no token server that can be understood") from None
        if realm.scheme not in ("http", "https") or not realm.host:
            raise Unavailable("registry", host, "names no token server that can be understood")
        if not endpoints.may_carry_secrets(realm):
            detail = f"its token server {endpoints.shown(realm)} speaks plain HTTP; tokens are fetched over HTTPS only"
            raise Unavailable("registry", host, detail)
        return realm.with_user(None) if realm.user is not None else realm

    def _refused(self, status: int, body: bytes, retry_after: str, host: str) -> CortenError | Transient:
        registry = endpoints.shown(self._registry)
        if status in (400, 401, 403, 404):
            said = self._credentials.redact(failures.message_of(body))
            detail = f"its token server {host} answered {status}" + (f": {said}" if said else "")
            kind = PermissionDenied if status == 403 else Unauthenticated
            return kind("registry", registry, detail)
        return failures.from_answer(
            status, body, {"Retry-After": retry_after}, host=host, subject=("registry", registry)
        )


def _header(body: bytes, asked_at: float, host: str) -> _Header:
    try:
        wire = msgspec.json.decode(body, type=_Token)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unavailable("registry", host, "its token cannot be read") from None
    token = wire.token or wire.access_token
    if not token or not token.isascii() or not token.isprintable():
        raise Unavailable("registry", host, "answered without a token")
    lifetime = wire.expires_in if wire.expires_in is not None and wire.expires_in > 0 else _DEFAULT_LIFETIME
    return _Header(f"Bearer {token}", asked_at + max(lifetime - _MARGIN, lifetime / 2))
