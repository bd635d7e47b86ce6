"""From blobs to a stored image: checking what belongs together, unpacking, recording.

Owns what an image is accepted as, whichever way its blobs came. Fetches nothing; leases are the caller's.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from corten_api.errors import DataLoss, FailedPrecondition, InvalidArgument

from cortend.content.store import ContentStore
from cortend.db import images as rows
from cortend.db.database import Database, Transaction
from cortend.domain.images import Image, ImageName
from cortend.events.log import EventLog
from cortend.images.progress import Board, Phase
from cortend.layers.chain import ChainUnpacker, UnpackProgress
from cortend.oci import platform as platforms
from cortend.oci.digest import Digest
from cortend.oci.image_config import MAX_CONFIG_SIZE, ImageConfig, chain_ids
from cortend.oci.manifest import MAX_MANIFEST_SIZE, Descriptor, Index, Manifest, decode
from cortend.oci.platform import Platform
from cortend.snapshots.snapshotter import Snapshotter

_CREATED = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)")
_FOREIGN = ("foreign", "nondistributable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """An image whose manifest and configuration are here and fit each other."""

    target: Descriptor  # what its names point at: an index, or the manifest
    descriptor: Descriptor  # of the manifest
    manifest: Manifest
    config: ImageConfig

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """Digests of everything it consists of."""
        layers = (each.digest for each in self.manifest.layers)
        return (self.target.digest, self.descriptor.digest, self.manifest.config.digest, *layers)

    @property
    def chain(self) -> tuple[str, ...]:
        """The snapshots of its layers, the bottom one first."""
        return tuple(str(each) for each in chain_ids(self.config.diff_ids))


def check_manifest(manifest: Manifest, *, name: str) -> None:
    """Refuse what can be read but not run here. Raises InvalidArgument or Unimplemented naming the value."""
    for layer in (*manifest.layers, manifest.config):
        Digest.stored(str(layer.digest))
        if any(word in layer.media_type for word in _FOREIGN):
            detail = f'layer {layer.digest} is of media type "{layer.media_type}": foreign layers are not fetched'
            raise InvalidArgument("image", name, detail)
    if manifest.config.size > MAX_CONFIG_SIZE:
        raise InvalidArgument("image", name, f"its configuration is larger than {MAX_CONFIG_SIZE} bytes")


def check_config(manifest: Manifest, config: ImageConfig, wanted: Platform, *, name: str) -> None:
    """Refuse a configuration that does not fit its manifest, or is for another platform than was asked for."""
    if len(config.diff_ids) != len(manifest.layers):
        detail = f"its manifest has {len(manifest.layers)} layers but its configuration {len(config.diff_ids)}"
        raise InvalidArgument("image", name, detail)
    if platforms.rank(wanted, config.platform) is None:
        raise FailedPrecondition("image", name, f"there is no image for {wanted}; it is for {config.platform}")


class Assembler:
    """Turns blobs of the content store into images."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        snapshots: Snapshotter,
        chains: ChainUnpacker,
        events: EventLog,
    ) -> None:
        self.database = database
        self.content = content
        self._snapshots = snapshots
        self._chains = chains
        self._events = events
        self._locks: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()

    def blob_lock(self, digest: Digest) -> asyncio.Lock:
        """Held while one blob is brought here, so that two who want it do not do it twice."""
        return self._locks.setdefault(digest, asyncio.Lock())

    async def read_manifest(self, descriptor: Descriptor, *, name: str) -> Manifest | Index:
        """A manifest or index that is here. Raises NotFound, InvalidArgument."""
        data = await asyncio.to_thread(self.content.read_bytes, descriptor.digest, MAX_MANIFEST_SIZE)
        return decode(data, descriptor.media_type, name=name)

    async def read_config(self, descriptor: Descriptor) -> ImageConfig:
        """An image configuration that is here."""
        data = await asyncio.to_thread(self.content.read_bytes, descriptor.digest, MAX_CONFIG_SIZE)
        if len(data) != descriptor.size:
            detail = f"has {len(data)} bytes, not the {descriptor.size} it was announced with"
            raise DataLoss("image configuration", str(descriptor.digest), detail)
        return ImageConfig.decode(data, name=str(descriptor.digest))

    async def unpack(self, parts: Parts, count: int, board: Board) -> str:
        """Have the lowest `count` layers unpacked; returns the snapshot of the top one of them, "" for none."""

        def tell(progress: UnpackProgress) -> None:
            if board.phase_of(progress.layer) is Phase.COMPLETE:
                return
            if progress.done:
                board.post(Phase.COMPLETE, progress.layer, progress.layer.size)
            else:
                board.post(Phase.UNPACKING, progress.layer, progress.offset)

        return await self._chains.unpack_chain(parts.manifest.layers[:count], parts.config.diff_ids[:count], tell)

    async def unpacked(self, image: Image) -> str:
        """The snapshot of a stored image's layers, unpacked again where it is missing."""
        return await self._chains.unpack_chain(image.layers, image.diff_ids)

    def complete(self, image: Image) -> bool:
        """Whether every blob of a stored image is here. Blocks."""
        digests = (image.id, image.manifest.digest, *(each.digest for each in image.layers))
        return all(self.content.exists(each) for each in digests)

    async def record(self, parts: Parts, names: Sequence[ImageName], *, topic: str, namespace: str) -> Image:
        """Store the image and point the names at it, durably, with an event of that topic."""
        size = await asyncio.to_thread(self._unpacked_size, parts.chain)
        image = _image(parts, size)

        def write(tx: Transaction) -> Image:
            rows.put(tx, image)
            for name in names:
                rows.put_name(tx, image.id, name)
            shown = next((each.name for each in names), "")
            self._events.record(tx, topic, str(image.id), {"name": shown} if shown else {}, namespace)
            return rows.get(tx, image.id) or replace(image, names=tuple(names))

        return await self.database.write(write)

    def _unpacked_size(self, chain: Sequence[str]) -> int:
        return sum(self._snapshots.usage(name).size_bytes for name in chain)


def _image(parts: Parts, size: int) -> Image:
    manifest = parts.manifest
    return Image(
        id=manifest.config.digest,
        manifest=parts.descriptor,
        config=manifest.config,
        layers=manifest.layers,
        diff_ids=parts.config.diff_ids,
        chain_id=parts.chain[-1] if parts.chain else "",
        platform=parts.config.platform,
        created_at_ns=created_ns(parts.config.created),
        pulled_at_ns=time.time_ns(),
        size=size,
        content_size=parts.descriptor.size + manifest.config.size + sum(each.size for each in manifest.layers),
        labels=dict(parts.config.labels),
    )


def created_ns(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time; 0 for none, one that cannot be read, or one before 1970."""
    found = _CREATED.fullmatch(text.strip())
    if found is None:
        return 0
    try:
        moment = datetime.fromisoformat(found[1].upper() + (found[3] if found[3] not in "Zz" else "+00:00"))
        seconds = int(moment.astimezone(UTC).timestamp())
    except (ValueError, OverflowError):
        return 0
    return max(seconds * 10**9 + int((found[2] or "").ljust(9, "0")), 0)
