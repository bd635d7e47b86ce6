"""Containers: the use case. Create, find, list, rename, delete.

Owns what makes a record valid and whole. What runs is `cortend.tasks`; how a record ends is `containers.removal`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog
from corten_api.errors import AlreadyExists, CortenError, FailedPrecondition, InvalidArgument, NotFound

from cortend.containers.removal import Removal
from cortend.db import containers as rows
from cortend.db import images as image_rows
from cortend.db.database import Database, Transaction
from cortend.domain import ids, intent
from cortend.domain.containers import Container, ContainerConfig, Status
from cortend.domain.images import Image
from cortend.events.log import EventLog
from cortend.images import lookup
from cortend.images.service import ImageService
from cortend.oci.digest import Digest
from cortend.oci.image_config import ImageConfig
from cortend.oci.reference import Reference
from cortend.oci.runtime_spec import HostFacts, arguments
from cortend.snapshots.snapshotter import Snapshotter
from cortend.tasks import bundle
from cortend.tasks.manager import TaskManager
from cortend.tasks.records import attributes

log = structlog.get_logger()

_PAGE = 1000
_NAME_ATTEMPTS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    container: Container
    warnings: tuple[str, ...] = ()


class ContainerService:
    def __init__(
        self,
        *,
        database: Database,
        events: EventLog,
        images: ImageService,
        snapshotter: Snapshotter,
        tasks: TaskManager,
        removal: Removal,
        facts: HostFacts,
    ) -> None:
        self._database = database
        self._events = events
        self._images = images
        self._snapshotter = snapshotter
        self._tasks = tasks
        self._removal = removal
        self._facts = facts
        self._creating: dict[tuple[str, str], asyncio.Future[Created]] = {}

    def get(self, namespace: str, text: str) -> Container:
        """By id, name, or unique prefix of an id. Raises NotFound, InvalidArgument."""
        return self._database.read(lambda tx: rows.find(tx, namespace, text))

    def spec_of(self, container: Container) -> dict[str, Any] | None:
        """The runtime spec of the task that runs, None when none does."""
        try:
            return bundle.load_spec(self._tasks.layout.bundle(container.id))
        except FileNotFoundError:
            return None

    def list(
        self, namespace: str, *, all: bool, labels: Mapping[str, str], size: int = 0, token: str = ""
    ) -> tuple[list[Container], str]:
        """One page, the newest first, and the token of the next ("" at the end). Without `all` only what runs."""
        limit = min(size, _PAGE) if size > 0 else _PAGE
        found: list[Container] = []
        after = _parse_token(token)
        while len(found) <= limit:
            position = after
            batch = self._database.read(lambda tx, at=position: rows.page(tx, namespace, after=at, limit=limit + 1))  # type: ignore[misc]
            found += [each for each in batch if _wanted(each, all=all, labels=labels)]
            if len(batch) <= limit:
                break
            after = (batch[-1].created_at_ns, batch[-1].id)
        if len(found) <= limit:
            return found, ""
        return found[:limit], page_token(found[limit - 1])

    async def create(self, namespace: str, config: ContainerConfig, *, name: str = "", request_id: str = "") -> Created:
        """Make a container; durable when it returns, unless it is to remove itself.

        A retry with the same `request_id` joins the first one or gets its container. A failure leaves nothing.
        Raises InvalidArgument, NotFound (image, mount source), AlreadyExists (name), FailedPrecondition (platform).
        """
        if not request_id:
            return await self._create(namespace, config, name=name, request_id="")
        key = (namespace, ids.parse_request_id(request_id))
        running = self._creating.get(key)
        if running is None:
            made = self._database.read(lambda tx: rows.by_request(tx, namespace, request_id))
            if made is not None:
                return Created(container=made)
            work = self._create(namespace, config, name=name, request_id=request_id)
            running = self._creating[key] = asyncio.ensure_future(work)
            running.add_done_callback(lambda done: self._forget_request(key, done))
        return await asyncio.shield(running)

    async def rename(self, namespace: str, text: str, new_name: str) -> None:
        """Raises AlreadyExists when the name is in use."""
        name = ids.parse_name(new_name)

        def work(tx: Transaction) -> None:
            container = rows.find(tx, namespace, text)
            rows.rename(tx, container, name)
            told = attributes(container) | {"name": name, "old_name": container.name}
            self._events.record(tx, "container.renamed", container.id, told, namespace)

        await self._database.write(work)

    async def delete(self, namespace: str, text: str, *, force: bool) -> None:
        """Remove a container; with `force` one that runs is killed first, otherwise that is FailedPrecondition."""
        container = self.get(namespace, text)
        async with self._tasks.locks.holding(container.id):
            container = self._tasks.get(container.id)
            if container.status in (Status.RUNNING, Status.PAUSED) and not force:
                detail = f"it is {container.status.value}; stop it first, or remove it with force"
                raise FailedPrecondition("container", container.name, detail)
            await self._tasks.end(container)
            container = self._tasks.get(container.id)
            await self._removal.remove(container)
        self._tasks.removed(container)
        log.info("container.removed", container=container.id)

    async def _create(self, namespace: str, config: ContainerConfig, *, name: str, request_id: str) -> Created:
        wanted_name = ids.parse_name(name) if name else ""
        intent.check(config, host_cpus=self._facts.cpus)
        if not config.image:
            raise InvalidArgument("image", "", "a reference or an image id is needed")
        bundle.check_sources(config)
        image = self._images.get(config.image, namespace)
        self._images.refuse_foreign(image)
        said = await self._images.config(image)
        container = Container(
            id=ids.new_id(),
            name=wanted_name or ids.made_up_name(),
            namespace=namespace,
            config=config,
            image_id=str(image.id),
            image_name=_name_of(image, config.image),
            argv=arguments(config, said),
            created_at_ns=time.time_ns(),
            request_id=request_id,
        )
        if wanted_name:
            self._database.read(lambda tx: _refuse_taken(tx, namespace, wanted_name))
        # Everything that the first start would refuse is refused now.
        bundle.derive(container.id, config, said, layout=self._tasks.layout, facts=self._facts)
        durable = not config.auto_remove
        async with self._tasks.locks.holding(container.id):
            await self._prepare(container, image)
            try:
                container = await self._insert(container, said, named=bool(wanted_name), durable=durable)
            except BaseException:
                await asyncio.shield(asyncio.to_thread(self._snapshotter.remove, container.snapshot_key, durable=False))
                raise
        log.info("container.created", container=container.id, name=container.name, image=config.image)
        return Created(container=container)

    async def _prepare(self, container: Container, image: Image) -> None:
        """The container's snapshot on top of the image's, which is unpacked again where it is missing.

        It is on disk when the container's record is: one log holds both, in this order.
        """
        prepare = self._snapshotter.prepare
        key, parent = container.snapshot_key, image.chain_id or None
        try:
            await asyncio.to_thread(prepare, key, parent, durable=False)
        except NotFound:
            image = self._images.get(container.image_id, container.namespace)
            parent = await self._images.ensure_unpacked(image) or None
            await asyncio.to_thread(prepare, key, parent, durable=False)

    async def _insert(self, container: Container, image: ImageConfig, *, named: bool, durable: bool) -> Container:
        attempt = 0
        while True:
            candidate = container
            try:
                await self._database.write(lambda tx: self._record(tx, candidate, image), durable=durable)  # noqa: B023
            except AlreadyExists:
                attempt += 1
                if named or attempt == _NAME_ATTEMPTS:
                    raise
                container = replace(container, name=ids.made_up_name(attempt))
            else:
                return container

    def _record(self, tx: Transaction, container: Container, image: ImageConfig) -> None:
        if image_rows.get(tx, Digest.parse(container.image_id)) is None:
            raise NotFound("image", container.config.image, "was removed meanwhile; pull or load it again")
        rows.insert(tx, container, image)
        self._events.record(tx, "container.created", container.id, attributes(container), container.namespace)

    def _forget_request(self, key: tuple[str, str], done: asyncio.Future[Created]) -> None:
        self._creating.pop(key, None)
        if not done.cancelled() and isinstance(done.exception(), CortenError):
            log.debug("container.create-failed", request=key[1], error=str(done.exception()))


def _refuse_taken(tx: Transaction, namespace: str, name: str) -> None:
    holder = rows.by_name(tx, namespace, name)
    if holder is not None:
        raise AlreadyExists("name", name, f"container {holder.id[:12]} has it; remove or rename that one")


def _name_of(image: Image, text: str) -> str:
    """The full name that `text` stands for, "" when it is an id."""
    try:
        wanted = lookup.stored_name(Reference.parse(text))
    except InvalidArgument:
        return ""
    return wanted if wanted in image.tags or wanted in image.digests else ""


def _wanted(container: Container, *, all: bool, labels: Mapping[str, str]) -> bool:
    if not all and container.status not in (Status.RUNNING, Status.PAUSED):
        return False
    have = container.config.labels
    return all_match(have, labels)


def all_match(have: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether every wanted label is there; one with an empty value is wanted with any."""
    return not any(key not in have or (value and have[key] != value) for key, value in wanted.items())


def page_token(last: Container) -> str:
    """What the page behind `last` is asked with."""
    return f"{last.created_at_ns}-{last.id}"


def _parse_token(token: str) -> tuple[int, str] | None:
    if not token:
        return None
    created, _, container_id = token.partition("-")
    if not created.isdecimal() or not ids.is_id(container_id):
        raise InvalidArgument("page token", token, "a token that the page before returned is needed")
    return int(created), container_id
