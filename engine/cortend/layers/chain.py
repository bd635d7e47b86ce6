"""Chains: an image's layers unpacked one upon the other, as committed snapshots named by their OCI chain ids.

Owns the order of work, the sharing of what is unpacked already, and the joining of concurrent requests for one chain.
Unpacking a single layer is `layers.unpacker`'s.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corten_api.errors import AlreadyExists, InvalidArgument, NotFound

from cortend.layers.unpacker import Unpacker
from cortend.oci.digest import Digest
from cortend.oci.image_config import chain_ids
from cortend.oci.manifest import Descriptor
from cortend.snapshots.snapshotter import Kind, Snapshotter

UNPACK_KEY_PREFIX = "unpack-"  # active snapshots of this name are an unpack in flight, or what a crash left of one


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackProgress:
    """How far a layer is: `offset` compressed bytes of `layer.size`; `done` once it is committed (or was before)."""

    layer: Descriptor
    offset: int
    done: bool = False


Progress = Callable[[UnpackProgress], None]


class ChainUnpacker:
    """Unpacks chains into one snapshotter."""

    def __init__(self, unpacker: Unpacker, snapshots: Snapshotter) -> None:
        """`unpacker` does the single layers."""
        self._unpacker = unpacker
        self._snapshots = snapshots
        self._running: dict[str, asyncio.Task[None]] = {}

    async def unpack_chain(
        self, layers: Sequence[Descriptor], diff_ids: Sequence[Digest], progress: Progress | None = None
    ) -> str:
        """Have every layer unpacked; returns the name of the top snapshot, "" for an image without layers.

        `layers` are the manifest's, `diff_ids` the configuration's, the bottom one first; the blobs must be in the
        content store. Layers that are unpacked are skipped; concurrent calls share the work. Raises what
        `Unpacker.unpack` raises; a refused layer leaves nothing, the layers below it stay.
        """
        if len(layers) != len(diff_ids):
            detail = f"the manifest has {len(layers)} layers but the configuration {len(diff_ids)}"
            raise InvalidArgument("image", "", detail)
        parent = ""
        for layer, diff_id, chain_id in zip(layers, diff_ids, chain_ids(tuple(diff_ids)), strict=True):
            name = str(chain_id)
            await self._one(layer, diff_id, name, parent, progress)
            parent = name
        return parent

    async def _one(self, layer: Descriptor, diff_id: Digest, name: str, parent: str, progress: Progress | None) -> None:
        while not await asyncio.to_thread(self._committed, name):
            running = self._running.get(name)
            if running is None:
                running = asyncio.create_task(self._unpack(layer, diff_id, name, parent, progress))
                self._running[name] = running
                running.add_done_callback(lambda _: self._running.pop(name, None))
                await _owned(running)
                break
            try:
                await asyncio.shield(running)
            except asyncio.CancelledError:
                if not running.cancelled():
                    raise
                continue  # whoever did the work gave up: look again, and do it ourselves
        if progress is not None:
            progress(UnpackProgress(layer=layer, offset=layer.size, done=True))

    async def _unpack(
        self, layer: Descriptor, diff_id: Digest, name: str, parent: str, progress: Progress | None
    ) -> None:
        key = f"{UNPACK_KEY_PREFIX}{secrets.token_hex(8)}"
        await asyncio.to_thread(self._snapshots.prepare, key, parent or None, durable=False)
        try:

            def report(offset: int) -> None:
                if progress is not None:
                    progress(UnpackProgress(layer=layer, offset=offset))

            target = await asyncio.to_thread(self._snapshots.unpack_target, key)
            await self._unpacker.unpack(layer, diff_id, target, report)
            await asyncio.to_thread(self._snapshots.commit, key, name)
        except AlreadyExists:
            await asyncio.to_thread(self._snapshots.remove, key)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._remove_quietly, key))
            raise

    def _committed(self, name: str) -> bool:
        try:
            return self._snapshots.stat(name).kind is Kind.COMMITTED
        except NotFound:
            return False

    def _remove_quietly(self, key: str) -> None:
        try:
            self._snapshots.remove(key)
        except NotFound:
            return  # it became the committed snapshot while we were being cancelled


def remove_abandoned(snapshots: Snapshotter) -> int:
    """Remove what unpacks of an earlier process left half-made; returns how many. For start-up only."""
    found = [each for each in snapshots.list(after=UNPACK_KEY_PREFIX, limit=10_000) if _is_unpack(each.name)]
    for each in found:
        snapshots.remove(each.name)
    return len(found)


def _is_unpack(name: str) -> bool:
    return name.startswith(UNPACK_KEY_PREFIX)


async def _owned(running: asyncio.Task[None]) -> None:
    """Wait for work that is ours: cancelling us cancels it, and its clean-up is awaited."""
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # seen, though nobody is left to tell
        raise
