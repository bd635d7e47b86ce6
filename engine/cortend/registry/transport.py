"""HTTP exchanges with registries: connections, time limits, redirects and further tries.

Owns the one aiohttp session. Authorization headers never follow a redirect to another origin, a redirect never leads
from TLS to plain HTTP, and no cookies or netrc files are used. Knows nothing of tokens or manifests.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
from corten_api.errors import InvalidArgument, Unavailable
from yarl import URL

from cortend.registry import endpoints, failures
from cortend.registry.failures import Transient

T = TypeVar("T")

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Time limits in seconds, and how often something is tried."""

    connect: float = 10.0
    stall: float = 30.0  # without a byte
    answer: float = 60.0  # until the headers are complete, and for a whole manifest or token
    slow_window: float = 60.0  # a blob must bring `slow_bytes` in each such window
    slow_bytes: int = 64 << 10
    attempts: int = 5
    first_delay: float = 0.5
    longest_delay: float = 15.0


class Transport:
    """One per engine. `close` it in the loop that used it."""

    def __init__(self, *, limits: Limits | None = None, user_agent: str = "corten") -> None:
        self.limits = limits or Limits()
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None
        self._answered: set[str] = set()

    async def close(self) -> None:
        """Close every connection. Calling it again is fine."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def open(
        self, method: str, url: URL, headers: Mapping[str, str], *, form: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to one request, after redirects; its body is the caller's to read while the context lasts.

        Raises Transient or an error of the closed set where the exchange itself fails, reading the body included.
        """
        response = await self._follow(method, url, headers, form)
        try:
            yield response
        finally:
            response.close()

    async def read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """The whole body. One of more than `limit` bytes is Unavailable, and none of it is kept."""
        host = endpoints.shown(response.url)
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.answer):
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > limit:
                        break
        except (aiohttp.ClientError, OSError) as error:
            raise failures.from_exception(error, host=host, answered=True) from None
        if len(body) > limit:
            raise InvalidArgument("registry", host, f"sent a document of more than {limit} bytes")
        return bytes(body)

    async def chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body as it comes, in pieces of any size. Raises Transient where it breaks, stalls or only trickles."""
        host = endpoints.shown(response.url)
        loop = asyncio.get_running_loop()
        window_ends, in_window = loop.time() + self.limits.slow_window, 0
        try:
            async for chunk in response.content.iter_any():
                in_window += len(chunk)
                yield chunk
                if (now := loop.time()) >= window_ends:
                    if in_window < self.limits.slow_bytes:
                        raise TimeoutError
                    window_ends, in_window = now + self.limits.slow_window, 0
        except (aiohttp.ClientError, OSError) as error:
            raise failures.from_exception(error, host=host, answered=True) from None

    async def retrying(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The result of `operation`, which is tried again, later each time, as long as it raises Transient."""
        for attempt in range(1, self.limits.attempts + 1):
            try:
                return await operation()
            except Transient as failure:
                if attempt == self.limits.attempts:
                    raise failure.error from None
                await self.pause(attempt, failure)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def pause(self, attempt: int, failure: Transient) -> None:
        """Wait before the try that follows the `attempt`-th one: what the server asked for, or longer each time."""
        limits = self.limits
        delay = min(limits.first_delay * 2 ** (attempt - 1), limits.longest_delay) * random.uniform(0.75, 1.25)
        await asyncio.sleep(delay if failure.retry_after is None else max(failure.retry_after, 0.01))

    async def _follow(
        self, method: str, url: URL, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        """The answer at the end of the redirects."""
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._send(method, url, headers, form)
            try:
                target = _redirect(response, url)
            except BaseException:
                response.close()
                raise
            if target is None:
                return response
            response.close()
            if target.origin() != url.origin():
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = target
        raise Unavailable("registry", endpoints.shown(url), f"redirects more than {_MAX_REDIRECTS} times")

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        proxy = endpoints.proxy_for(url)
        try:
            async with asyncio.timeout(self.limits.connect + self.limits.answer):
                response = await self._opened().request(
                    method, url, headers=headers, data=form, allow_redirects=False, proxy=proxy
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            known = url.authority in self._answered
            raise failures.from_exception(error, host=endpoints.shown(url), answered=known) from None
        self._answered.add(url.authority)
        return response

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            limits = self.limits
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=30),
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=limits.connect + 5, sock_connect=limits.connect, sock_read=limits.stall
                ),
                headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=1 << 20,
            )
        return self._session


def _redirect(response: aiohttp.ClientResponse, url: URL) -> URL | None:
    """Where the answer sends us; None where it is the answer itself."""
    location = response.headers.get("Location")
    if response.status not in _REDIRECTS or not location:
        return None
    host = endpoints.shown(url)
    try:
        target = url.join(URL(location, encoded=True))
    except ValueError:
        raise Unavailable("registry", host, "redirects to what is not a URL") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise Unavailable(
            "registry", host, f'redirects to a "{target.scheme}" address; only http and https are followed'
        )
    if target.user is not None or target.password is not None:
        target = target.with_user(None)
    if url.scheme == "https" and target.scheme == "http":
        raise Unavailable("registry", host, f"redirects from HTTPS to plain HTTP at {endpoints.shown(target)}")
    return target
