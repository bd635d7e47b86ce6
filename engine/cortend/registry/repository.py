"""One repository of a registry: its manifests and blobs, fetched and verified.

Owns the requests of the distribution protocol's pull half, and resuming. Where blobs go is the content store's; the
choice of a platform, and what an image is, is not looked at here.
Source: OCI distribution-spec, "Pull".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from corten_api.errors import AlreadyExists, CortenError, DataLoss, InvalidArgument, Unauthenticated

from cortend.content.ingest import Ingest
from cortend.content.store import ContentStore
from cortend.oci.digest import Digest
from cortend.oci.manifest import ACCEPTED, MAX_MANIFEST_SIZE, Descriptor
from cortend.oci.reference import Reference
from cortend.registry import challenges, endpoints, failures
from cortend.registry.authorization import Authorizer
from cortend.registry.credentials import ANONYMOUS, Credentials
from cortend.registry.failures import Transient
from cortend.registry.settled import settled
from cortend.registry.transport import Limits, Transport

_BATCH = 1 << 20
_ACCEPT = ", ".join((*ACCEPTED, "*/*;q=0.1"))

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A manifest or an index as it came, its digest verified."""

    descriptor: Descriptor
    data: bytes


class Registry:
    """The client of every registry: connections are shared, credentials are not. `close` it in its loop."""

    def __init__(self, *, limits: Limits | None = None, user_agent: str = "corten") -> None:
        self._transport = Transport(limits=limits, user_agent=user_agent)

    def repository(self, reference: Reference, credentials: Credentials = ANONYMOUS) -> Repository:
        """The repository that `reference` names, spoken to as whom `credentials` say."""
        return Repository(self._transport, reference, credentials)

    async def close(self) -> None:
        """End every connection."""
        await self._transport.close()


class Repository:
    """Use `Registry.repository`. Errors name the reference; those of the network are Unavailable and name the host."""

    def __init__(self, transport: Transport, reference: Reference, credentials: Credentials) -> None:
        self._transport = transport
        self._reference = reference
        self._credentials = credentials
        self._base = endpoints.base_url(reference.domain)
        self.host = endpoints.shown(self._base)
        scope = f"repository:{reference.path}:pull"
        self._authorizer = Authorizer(transport, self._base, scope, credentials)

    async def resolve(self) -> Fetched:
        """What the reference points at: an index or a manifest. A digest in the reference is what must come."""
        reference = self._reference
        return await self._transport.retrying(lambda: self._manifest(reference.selector, reference.digest))

    async def digest(self) -> Digest | None:
        """The digest that the tag has now, by a request without a body; None where the registry tells none."""
        selector = self._reference.selector

        async def ask() -> Digest | None:
            async with self._request("HEAD", f"manifests/{selector}", {"Accept": _ACCEPT}) as response:
                return _said_digest(response)

        return await self._transport.retrying(ask)

    async def manifest(self, descriptor: Descriptor) -> Fetched:
        """The manifest that an index's entry points at."""
        found = await self._transport.retrying(lambda: self._manifest(str(descriptor.digest), descriptor.digest))
        if len(found.data) != descriptor.size:
            detail = f"has {len(found.data)} bytes, not the {descriptor.size} it was announced with"
            raise DataLoss("manifest", str(descriptor.digest), detail)
        return Fetched(descriptor=descriptor, data=found.data)

    async def blob(self, descriptor: Descriptor, content: ContentStore, progress: Progress | None = None) -> None:
        """Bring a blob into the content store, going on where an earlier try ended.

        `progress` is told the bytes that are here. Returns at once where the blob is stored. Partial blobs stay.
        """
        resumed = descriptor.digest in await settled(content.partial)
        try:
            await self._blob(descriptor, content, progress)
        except DataLoss:
            if not resumed or descriptor.digest in await settled(content.partial):
                raise
            await self._blob(descriptor, content, progress)  # the part that was here may have been the wrong one

    async def _blob(self, descriptor: Descriptor, content: ContentStore, progress: Progress | None) -> None:
        try:
            ingest = await settled(content.writer, descriptor)
        except AlreadyExists:
            return
        with ingest:
            attempt = 0
            while ingest.offset < descriptor.size:
                before = ingest.offset
                try:
                    await self._stream(descriptor, ingest, progress)
                except Transient as failure:
                    limits = self._transport.limits
                    attempt = 1 if ingest.offset - before >= limits.slow_bytes else attempt + 1
                    if attempt >= limits.attempts:
                        raise failure.error from None
                    await self._transport.pause(attempt, failure)
            await settled(ingest.commit)

    async def _stream(self, descriptor: Descriptor, ingest: Ingest, progress: Progress | None) -> None:
        """One request for what is missing. Raises Transient where the connection ends early."""
        headers = {"Range": f"bytes={ingest.offset}-"} if ingest.offset else {}
        async with self._request("GET", f"blobs/{descriptor.digest}", headers, subject="blob") as response:
            skip = self._check_range(response, descriptor, ingest)
            batch = bytearray()
            try:
                async for chunk in self._transport.chunks(response):
                    if skip:
                        skip, chunk = max(skip - len(chunk), 0), chunk[skip:]
                    batch += chunk
                    if len(batch) >= _BATCH:
                        written, batch = batch, bytearray()
                        await settled(ingest.write, written)
                        if progress is not None:
                            progress(ingest.offset)
            finally:
                if batch:
                    await settled(ingest.write, batch)
            if progress is not None:
                progress(ingest.offset)
        if ingest.offset < descriptor.size:
            raise Transient(self._short(descriptor, ingest.offset))

    def _check_range(self, response: aiohttp.ClientResponse, descriptor: Descriptor, ingest: Ingest) -> int:
        """How many bytes at the beginning of the body are here already. Refuses a body whose length is wrong."""
        whole = descriptor.size
        offset, expected = 0, whole
        if response.status == 206:
            offset, expected = ingest.offset, whole - ingest.offset
            said = response.headers.get("Content-Range", "")
            if not said.startswith(f"bytes {offset}-"):
                raise DataLoss("blob", str(descriptor.digest), f'{self.host} sent the range "{said[:60]}" instead')
        length = response.content_length
        if length is not None and length != expected:
            detail = f"{self.host} has {offset + length} bytes, not the {whole} it was announced with"
            raise DataLoss("blob", str(descriptor.digest), detail)
        return ingest.offset - offset

    def _short(self, descriptor: Descriptor, offset: int) -> CortenError:
        detail = f"{self.host} sent {offset} bytes of the {descriptor.size} it was announced with"
        return DataLoss("blob", str(descriptor.digest), detail)

    async def _manifest(self, selector: str, expected: Digest | None) -> Fetched:
        if expected is not None:
            Digest.stored(str(expected))
        async with self._request("GET", f"manifests/{selector}", {"Accept": _ACCEPT}) as response:
            name = str(self._reference)
            if (response.content_length or 0) > MAX_MANIFEST_SIZE:
                raise InvalidArgument("manifest", name, f"is larger than {MAX_MANIFEST_SIZE} bytes")
            data = await self._transport.read(response, MAX_MANIFEST_SIZE)
            said = _said_digest(response)
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        found = Digest.of(data)
        wanted = expected if expected is not None else said
        if wanted is not None and wanted.algorithm == "sha256" and wanted != found:
            raise DataLoss("manifest", name, f"its bytes have the digest {found}, not {wanted}")
        return Fetched(descriptor=Descriptor(media_type=media_type, digest=found, size=len(data)), data=data)

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, headers: dict[str, str], *, subject: str = "image"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The good answer (2xx) to one request of this repository, authorized as the registry demands."""
        url = self._base.join(self._base.with_path(f"/v2/{self._reference.path}/{path}"))
        name = str(self._reference) if subject == "image" else path.partition("/")[2]
        authorization = await self._authorizer.header()
        for again in (True, False):
            sent = {**headers, "Authorization": authorization} if authorization else headers
            async with self._transport.open(method, url, sent) as response:
                if response.status < 300:
                    yield response
                    return
                body = await self._transport.read(response, failures.MAX_ERROR_BODY) if method != "HEAD" else b""
                asked = challenges.parse(response.headers.getall("WWW-Authenticate", []))
                if not (response.status == 401 and again and asked):
                    raise self._failure(response, body, (subject, name))
            authorization = await self._authorizer.answer(asked, authorization)

    def _failure(
        self, response: aiohttp.ClientResponse, body: bytes, subject: tuple[str, str]
    ) -> CortenError | Transient:
        host = endpoints.shown(response.url)
        found = failures.from_answer(response.status, body, response.headers, host=host, subject=subject)
        if isinstance(found, Unauthenticated) and self._credentials:
            detail = self._credentials.redact(found.detail).replace("may need a login", "the login may be wrong")
            return Unauthenticated(found.kind, found.name, detail)
        return found


def _said_digest(response: aiohttp.ClientResponse) -> Digest | None:
    try:
        return Digest.parse(response.headers.get("Docker-Content-Digest", ""))
    except InvalidArgument:
        return None
