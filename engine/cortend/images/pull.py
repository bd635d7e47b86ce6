"""One pull: from a reference to a recorded image, its layers downloaded side by side and unpacked as they come.

Owns the order of work and the lease that protects it. Requests are `registry`'s, joining of callers is `flights`'.

    resolve -> [index: choose] -> manifest -> configuration -> layers: download (3 at a time)  -> record -> lease ends
                                                                  `-> unpack, bottom up, behind the downloads
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from corten_api.errors import InvalidArgument, ResourceExhausted, Unauthenticated, Unavailable

from cortend.domain.images import Image, ImageName
from cortend.gc import GarbageCollector, Lease
from cortend.images.assembly import Assembler, Parts, check_config, check_manifest
from cortend.images.progress import Board, Phase
from cortend.oci.digest import Digest
from cortend.oci.manifest import Descriptor, Index, Manifest, decode
from cortend.oci.platform import Platform
from cortend.oci.reference import Reference
from cortend.registry.credentials import Credentials
from cortend.registry.repository import Registry, Repository

_INDEX_DEPTH = 3
_WORTH_KEEPING = (asyncio.CancelledError, Unavailable, Unauthenticated)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What is pulled, for whom. Requests that are equal share the work."""

    reference: Reference
    namespace: str
    platform: Platform
    credentials: Credentials
    refresh: bool = False

    def names(self, target: Descriptor) -> tuple[ImageName, ...]:
        """What the image will be called: as pulled by digest, and by its tag where one was asked for."""
        reference = self.reference
        digest = reference.digest or target.digest
        found = [str(reference.with_digest(digest).without_tag())]
        if reference.digest is None:
            found.append(reference.tagged)
        return tuple(ImageName(namespace=self.namespace, name=name, target=target) for name in found)


class Puller:
    """Performs pulls."""

    def __init__(
        self, assembler: Assembler, registry: Registry, collector: GarbageCollector, *, parallel_layers: int = 3
    ) -> None:
        """`parallel_layers` of one pull are downloaded at once."""
        self._assembler = assembler
        self._content = assembler.content
        self._registry = registry
        self._collector = collector
        self._parallel_layers = parallel_layers

    async def current(self, request: PullRequest) -> Digest | None:
        """The digest that the registry has for the request's tag now, None where it tells none."""
        return await self._registry.repository(request.reference, request.credentials).digest()

    async def pull(self, request: PullRequest, board: Board) -> Image:
        """Pull, and return the image once it is on disk and recorded."""
        purpose = f"pull {request.namespace} {request.reference} {request.platform}"
        async with self._collector.lease(purpose, keep=_worth_keeping) as lease:
            board.post(Phase.RESOLVING)
            repository = self._registry.repository(request.reference, request.credentials)
            parts = await self._parts(request, repository, lease, board)
            await lease.blobs(*parts.blobs)
            await lease.snapshots(*parts.chain)
            await asyncio.to_thread(self._check_space, parts)
            await self._layers(parts, repository, board)
            names = request.names(parts.target)
            return await self._assembler.record(parts, names, topic="image.pulled", namespace=request.namespace)

    async def _parts(self, request: PullRequest, repository: Repository, lease: Lease, board: Board) -> Parts:
        """Manifest and configuration, fetched and checked."""
        name = str(request.reference)
        fetched = await repository.resolve()
        await self._keep(fetched.descriptor, fetched.data, lease)
        document = decode(fetched.data, fetched.descriptor.media_type, name=name)
        target = descriptor = _typed(fetched.descriptor, document)
        for _ in range(_INDEX_DEPTH):
            if isinstance(document, Manifest):
                break
            descriptor = document.select(request.platform, name=name)
            document = await self._entry(descriptor, repository, lease, name)
        if isinstance(document, Index):
            raise InvalidArgument("image", name, f"its indexes are nested more than {_INDEX_DEPTH} deep")
        check_manifest(document, name=name)
        await lease.blobs(document.config.digest)
        await self._blob(document.config, repository, board)
        config = await self._assembler.read_config(document.config)
        check_config(document, config, request.platform, name=name)
        return Parts(target=target, descriptor=descriptor, manifest=document, config=config)

    async def _entry(self, descriptor: Descriptor, repository: Repository, lease: Lease, name: str) -> Manifest | Index:
        """What an index's entry points at, from here or from the registry."""
        await lease.blobs(Digest.stored(str(descriptor.digest)))
        if not await asyncio.to_thread(self._content.exists, descriptor.digest):
            fetched = await repository.manifest(descriptor)
            await self._keep(descriptor, fetched.data, lease)
        return await self._assembler.read_manifest(descriptor, name=name)

    async def _keep(self, descriptor: Descriptor, data: bytes, lease: Lease) -> None:
        await lease.blobs(descriptor.digest)
        await asyncio.to_thread(self._content.add, data)

    async def _layers(self, parts: Parts, repository: Repository, board: Board) -> None:
        """Download and unpack every layer. The first failure ends the rest."""
        layers = parts.manifest.layers
        for layer in layers:
            board.post(Phase.WAITING, layer)
        slots = asyncio.Semaphore(self._parallel_layers)

        async def download(layer: Descriptor) -> None:
            async with slots:
                await self._blob(layer, repository, board)

        downloads = [asyncio.ensure_future(download(layer)) for layer in layers]
        unpacking = asyncio.ensure_future(self._unpack_behind(parts, downloads, board))
        try:
            await asyncio.gather(unpacking, *downloads)
        finally:
            for each in (unpacking, *downloads):
                each.cancel()
            await asyncio.wait([unpacking, *downloads])

    async def _unpack_behind(self, parts: Parts, downloads: Sequence[asyncio.Future[None]], board: Board) -> None:
        """Unpack from the bottom as far as layers are here, again and again until all are."""
        ready = 0
        while ready < len(downloads):
            await asyncio.shield(downloads[ready])
            while ready < len(downloads) and downloads[ready].done() and not downloads[ready].cancelled():
                downloads[ready].result()
                ready += 1
            await self._assembler.unpack(parts, ready, board)

    async def _blob(self, descriptor: Descriptor, repository: Repository, board: Board) -> None:
        """Have one blob here. Pulls that want the same one wait for each other and go on where the other ended."""
        async with self._assembler.blob_lock(descriptor.digest):
            if await asyncio.to_thread(self._content.exists, descriptor.digest):
                info = await asyncio.to_thread(self._content.info, descriptor.digest)
                if info.size != descriptor.size:
                    detail = f"{descriptor.digest} has {info.size} bytes, not the {descriptor.size} the manifest says"
                    raise InvalidArgument("image", str(descriptor.digest), detail)
                board.post(Phase.EXISTS, descriptor, descriptor.size)
                return
            board.post(Phase.DOWNLOADING, descriptor)
            await repository.blob(
                descriptor, self._content, lambda offset: board.post(Phase.DOWNLOADING, descriptor, offset)
            )
            board.post(Phase.VERIFIED, descriptor, descriptor.size)

    def _check_space(self, parts: Parts) -> None:
        """Refuse at once what cannot fit on the disk."""
        partial = self._content.partial()
        missing = {
            each.digest: max(each.size - partial.get(each.digest, 0), 0)
            for each in parts.manifest.layers
            if not self._content.exists(each.digest)
        }
        free = shutil.disk_usage(self._content.root).free
        if (needed := sum(missing.values())) > free:
            detail = f"its layers take {needed} bytes and {free} are free at {self._content.root}"
            raise ResourceExhausted("image", str(parts.descriptor.digest), detail)


def _worth_keeping(error: BaseException) -> bool:
    """Whether what was fetched is right, and another try goes on from it. A full disk gets its space back instead."""
    if isinstance(error, ResourceExhausted):
        return error.kind == "registry"
    return isinstance(error, _WORTH_KEEPING)


def _typed(descriptor: Descriptor, document: Manifest | Index) -> Descriptor:
    """The descriptor with the media type that the document turned out to have."""
    return Descriptor(media_type=document.media_type, digest=descriptor.digest, size=descriptor.size)
