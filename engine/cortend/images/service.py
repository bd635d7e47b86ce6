"""The images use case: what the doors call.

Owns the rules around names, joining of pulls, and what may be removed. Blobs, layers and requests are done by the parts
it is given. Reads (`list`, `get`) come from committed state and wait for nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from corten_api.errors import (
    CortenError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)

from cortend.db import images as rows
from cortend.db.database import Database, Transaction
from cortend.domain.images import Image, ImageName, ImageUser
from cortend.events.log import EventLog
from cortend.gc import GarbageCollector
from cortend.images import lookup, removal
from cortend.images.assembly import Assembler
from cortend.images.flights import Flights
from cortend.images.load import Loader
from cortend.images.progress import Board, Phase, Progress
from cortend.images.pull import Puller, PullRequest
from cortend.images.removal import Removal, Removed
from cortend.oci import platform as platforms
from cortend.oci.digest import Digest
from cortend.oci.image_config import MAX_CONFIG_SIZE, ImageConfig
from cortend.oci.platform import Platform
from cortend.oci.reference import Reference
from cortend.registry.credentials import ANONYMOUS, Credentials

T = TypeVar("T")

_MAX_PAGE = 1000
_CONFIGS_KEPT = 64

InUse = Callable[[Transaction, str], Iterable[tuple[str, str, bool]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePage:
    """Some images, and the token that the next page is asked with ("" on the last)."""

    images: tuple[Image, ...]
    next_token: str


class ImageService:
    """Images of every namespace. Made once per engine, used in its event loop."""

    def __init__(
        self,
        database: Database,
        assembler: Assembler,
        puller: Puller,
        loader: Loader,
        collector: GarbageCollector,
        events: EventLog,
        *,
        in_use: InUse = lambda tx, image_id: (),
    ) -> None:
        """`in_use` tells which containers use the image of an id ("sha256:..."): id, name, and whether it runs."""
        self.in_use = in_use
        self._database = database
        self._assembler = assembler
        self._puller = puller
        self._loader = loader
        self._collector = collector
        self._events = events
        self._pulls: Flights[Image] = Flights()
        self._loads: Flights[tuple[Image, ...]] = Flights()
        self._configs: OrderedDict[Digest, ImageConfig] = OrderedDict()

    async def close(self) -> None:
        """Give up what is under way; partial blobs stay for the next try."""
        await self._pulls.close()
        await self._loads.close()

    async def pull(
        self,
        reference: str,
        *,
        namespace: str,
        platform: Platform | None = None,
        credentials: Credentials = ANONYMOUS,
        refresh: bool = False,
    ) -> AsyncGenerator[Progress | Image, None]:
        """Every step, and the image last: it is on disk, unpacked and recorded then. Close the iterator to give up.

        Without `refresh` an image that is here is taken as it is.
        """
        request = PullRequest(
            reference=Reference.parse(reference),
            namespace=namespace,
            platform=(platform or Platform.host()).normalised(),
            credentials=credentials,
            refresh=refresh,
        )
        steps = self._pulls.join(request, lambda board: self._pull(request, board))
        try:
            async for step in steps:
                yield step
        finally:
            await steps.aclose()

    async def load(
        self, stream: AsyncIterator[bytes], *, namespace: str, platform: Platform | None = None
    ) -> AsyncGenerator[Progress | Image, None]:
        """Every step, and the images of the archive last: all of them, or an error and none."""
        wanted = (platform or Platform.host()).normalised()
        steps = self._loads.join(
            object(),
            lambda board: self._cleanly(self._loader.load(stream, board, namespace=namespace, platform=wanted)),
        )
        try:
            async for step in steps:
                if isinstance(step, Progress):
                    yield step
                else:
                    for image in step:
                        yield image
        finally:
            await steps.aclose()

    def list(self, *, size: int = 0, token: str = "") -> ImagePage:
        """Images by id. Raises InvalidArgument for a token that no page gave."""
        limit = min(size, _MAX_PAGE) if size > 0 else _MAX_PAGE
        after = _position(token)
        found = self._database.read(lambda tx: rows.page(tx, after=after, limit=limit + 1))
        page = found[:limit]
        return ImagePage(images=tuple(page), next_token=_token(str(page[-1].id)) if len(found) > limit else "")

    def count(self) -> int:
        """How many images there are."""
        return self._database.read(rows.count)

    def get(self, reference: str, namespace: str) -> Image:
        """By name, name@digest, id, or the unique beginning of an id. Raises NotFound."""
        return self._database.read(lambda tx: lookup.find(tx, reference, namespace))

    resolve = get

    async def config(self, image: Image) -> ImageConfig:
        """The decoded configuration, from memory where it was asked for lately."""
        found = self._configs.get(image.id)
        if found is None:
            found = await self._assembler.read_config(image.config)
            self._configs[image.id] = found
            while len(self._configs) > _CONFIGS_KEPT:
                self._configs.popitem(last=False)
        self._configs.move_to_end(image.id)
        return found

    async def config_json(self, image: Image) -> str:
        """The configuration byte for byte, as far as it is text."""
        content = self._assembler.content
        data = await asyncio.to_thread(content.read_bytes, image.id, MAX_CONFIG_SIZE)
        return data.decode("utf-8", "replace")

    async def ensure_unpacked(self, image: Image) -> str:
        """The name of the snapshot of its layers ("" without layers), unpacked again where it is missing."""
        if not image.layers:
            return ""
        async with self._collector.lease(f"unpack {image.id}") as lease:
            await lease.snapshots(image.chain_id)
            return await self._assembler.unpacked(image)

    def refuse_foreign(self, image: Image, wanted: Platform | None = None) -> None:
        """Raise FailedPrecondition for an image that this machine (or `wanted`) does not run."""
        host = (wanted or Platform.host()).normalised()
        if platforms.rank(host, image.platform) is None:
            name = image.tags[0] if image.tags else str(image.id)
            raise FailedPrecondition("image", name, f"is for {image.platform}, this machine is {host}")

    async def tag(self, source: str, target: str, namespace: str) -> Image:
        """Give an image one more name, taking it from the image that had it."""
        reference = Reference.parse(target)
        if reference.digest is not None:
            raise InvalidArgument("image reference", target, "a name with a digest cannot be given, only pulled")

        def write(tx: Transaction) -> Image:
            image = lookup.find(tx, source, namespace)
            if image.removed:
                raise NotFound("image", source, "was removed")
            name = ImageName(namespace=namespace, name=reference.tagged, target=image.target)
            rows.put_name(tx, image.id, name)
            self._events.record(tx, "image.tagged", str(image.id), {"name": name.name}, namespace)
            return rows.get(tx, image.id) or image

        return await self._database.write(write)

    async def remove(self, reference: str, namespace: str, *, force: bool = False) -> Removed:
        """Drop a name, or an image by its id; what nothing needs any more is off the disk when this returns."""

        def write(tx: Transaction) -> Removed:
            image = lookup.find(tx, reference, namespace)
            users = [ImageUser(id=each[0], name=each[1], running=each[2]) for each in self.in_use(tx, str(image.id))]
            if lookup.is_id(reference, image):
                plan = removal.plan_by_id(image, reference, namespace, users, force=force)
            else:
                name = lookup.stored_name(Reference.parse(reference))
                plan = removal.plan_by_name(image, name, namespace, users, force=force)
            return self._perform(tx, image, plan, namespace)

        removed = await self._database.write(write)
        if removed.deleted:
            await self._collector.collect()
        return removed

    def _perform(self, tx: Transaction, image: Image, plan: Removal, namespace: str) -> Removed:
        rows.delete_names(tx, namespace, plan.untagged)
        for name in plan.untagged:
            self._events.record(tx, "image.untagged", str(image.id), {"name": name}, namespace)
        if not plan.deletes:
            return Removed(untagged=plan.untagged)
        if plan.later:
            rows.mark_removed(tx, image.id)
        else:
            rows.delete(tx, image.id)
        self._events.record(tx, "image.removed", str(image.id), {}, namespace)
        return Removed(untagged=plan.untagged, deleted=(str(image.id),))

    async def _pull(self, request: PullRequest, board: Board) -> Image:
        board.post(Phase.RESOLVING)
        here = await self._here(request)
        if here is not None:
            board.post(Phase.EXISTS, here.manifest, here.manifest.size)
            return here
        return await self._cleanly(self._puller.pull(request, board))

    async def _cleanly(self, work: Awaitable[T]) -> T:
        """The result of `work`; where it fails, what it left goes at once (what it leased for a next try stays)."""
        try:
            return await work
        except CortenError:
            await self._collector.collect()
            raise

    async def _here(self, request: PullRequest) -> Image | None:
        """The image that makes a pull unnecessary, by the name that was asked for."""
        reference, namespace = request.reference, request.namespace
        image = self._database.read(lambda tx: lookup.by_name(tx, reference, namespace))
        if image is None or platforms.rank(request.platform, image.platform) is None:
            return None
        name = next(each for each in image.names if each.name == lookup.stored_name(reference))
        if request.refresh and reference.digest is None and not await self._is_current(request, name):
            return None
        if not await asyncio.to_thread(self._assembler.complete, image):
            return None
        await self.ensure_unpacked(image)
        return await self._adopted(image, request)

    async def _is_current(self, request: PullRequest, name: ImageName) -> bool:
        """Whether the registry still has the same under that tag. Where it does not say, it is asked in full."""
        try:
            return await self._puller.current(request) == name.target.digest
        except (Unavailable, Unauthenticated, PermissionDenied):
            raise
        except CortenError:
            return False

    async def _adopted(self, image: Image, request: PullRequest) -> Image:
        """The image under a name of the caller's namespace too, where only others had it."""
        wanted = request.names(image.target)
        have = {(each.namespace, each.name) for each in image.names}
        missing = [each for each in wanted if (each.namespace, each.name) not in have and not each.by_digest]
        if not missing:
            return image

        def write(tx: Transaction) -> Image:
            for name in missing:
                rows.put_name(tx, image.id, name)
            return rows.get(tx, image.id) or image

        return await self._database.write(write)


def _token(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode()


def _position(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidArgument("page token", token[:80], "is not one that a list returned") from None
