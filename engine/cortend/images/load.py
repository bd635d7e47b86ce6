"""Loading an archive: every image of it, or none.

Owns copying blobs from the archive into the content store, unpacking, and recording all images at the end. What the
archive holds is `layouts`' to say.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from typing import BinaryIO

from corten_api.errors import AlreadyExists

from cortend.content.ingest import Ingest
from cortend.domain.images import Image, ImageName
from cortend.gc import GarbageCollector
from cortend.images import layouts
from cortend.images.archive import Archive, Member
from cortend.images.assembly import Assembler
from cortend.images.layouts import ArchivedImage
from cortend.images.progress import Board, Phase
from cortend.images.spool import spool
from cortend.oci.manifest import Descriptor
from cortend.oci.platform import Platform
from cortend.registry.settled import settled

_CHUNK = 4 << 20


class Loader:
    """Performs loads."""

    def __init__(self, assembler: Assembler, collector: GarbageCollector) -> None:
        self._assembler = assembler
        self._content = assembler.content
        self._collector = collector

    async def load(
        self, stream: AsyncIterator[bytes], board: Board, *, namespace: str, platform: Platform
    ) -> tuple[Image, ...]:
        """Store every image of the archive, durably, for the platform that is wanted."""
        file = await spool(stream, self._content.root)
        try:
            archive, found = await settled(_described, file, platform)
            async with self._collector.lease(f"load {secrets.token_hex(8)}") as lease:
                for image in found:
                    await lease.blobs(*image.parts.blobs)
                    await lease.snapshots(*image.parts.chain)
                    await self._store(archive, image, board)
                loaded = []
                for image in found:
                    loaded.append(await self._record(image, namespace))
                return tuple(loaded)
        finally:
            file.close()

    async def _store(self, archive: Archive, image: ArchivedImage, board: Board) -> None:
        for document in image.documents:
            await settled(self._content.add, document)
        for layer, _ in image.members:
            board.post(Phase.WAITING, layer)
        for layer, member in image.members:
            await self._copy(archive, layer, member, board)
        await self._assembler.unpack(image.parts, len(image.members), board)

    async def _copy(self, archive: Archive, layer: Descriptor, member: Member, board: Board) -> None:
        async with self._assembler.blob_lock(layer.digest):
            try:
                ingest = await settled(self._content.writer, layer)
            except AlreadyExists:
                board.post(Phase.EXISTS, layer, layer.size)
                return
            await self._write(archive, ingest, layer, member, board)
        board.post(Phase.VERIFIED, layer, layer.size)

    async def _write(self, archive: Archive, ingest: Ingest, layer: Descriptor, member: Member, board: Board) -> None:
        with ingest:
            while data := await asyncio.to_thread(archive.chunk, member, ingest.offset, _CHUNK):
                await settled(ingest.write, data)
                board.post(Phase.DOWNLOADING, layer, ingest.offset)
            await settled(ingest.commit)

    async def _record(self, image: ArchivedImage, namespace: str) -> Image:
        target = image.parts.target
        names = [
            ImageName(namespace=namespace, name=each.tagged if each.tag else str(each), target=target)
            for each in image.names
        ]
        return await self._assembler.record(image.parts, names, topic="image.loaded", namespace=namespace)


def _described(file: BinaryIO, platform: Platform) -> tuple[Archive, list[ArchivedImage]]:
    archive = Archive(file.fileno(), os.fstat(file.fileno()).st_size)
    return archive, layouts.images(archive, platform)
