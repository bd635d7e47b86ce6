"""The engine put together: every part made once, in order, from the configuration; closed in the opposite order.

Owns who gets whom. No part looks another one up.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog
from corten_api.errors import DataLoss
from corten_api.v1 import (
    containers_pb2_grpc,
    content_pb2_grpc,
    events_pb2_grpc,
    images_pb2_grpc,
    snapshots_pb2_grpc,
    system_pb2_grpc,
    tasks_pb2_grpc,
)

from cortend.config import Config
from cortend.containers.removal import Removal
from cortend.containers.service import ContainerService
from cortend.content.store import ContentStore
from cortend.db import containers as rows
from cortend.db import meta
from cortend.db.database import Database, Transaction
from cortend.domain.containers import LogOptions, Status
from cortend.domain.layout import Layout
from cortend.events.log import EventLog
from cortend.gc import GarbageCollector
from cortend.images.assembly import Assembler
from cortend.images.load import Loader
from cortend.images.pull import Puller
from cortend.images.service import ImageService
from cortend.layers.chain import ChainUnpacker, remove_abandoned
from cortend.layers.unpacker import Unpacker
from cortend.oci.runtime_spec import HostFacts
from cortend.registry.repository import Registry
from cortend.services.containers import ContainersService
from cortend.services.content import ContentService
from cortend.services.events import EventsService
from cortend.services.images import ImagesService
from cortend.services.server import Server
from cortend.services.snapshots import SnapshotsService
from cortend.services.system import EngineFacts, SystemService, cgroup_version, engine_version
from cortend.services.tasks import TasksService
from cortend.snapshots.copying import CopyingSnapshotter
from cortend.snapshots.overlay import OverlaySnapshotter
from cortend.snapshots.snapshotter import Snapshotter
from cortend.tasks import apparmor, host
from cortend.tasks.execs import Execs
from cortend.tasks.facade import Tasks
from cortend.tasks.manager import TaskManager
from cortend.tasks.reconcile import Reconciler
from cortend.tasks.records import TaskRecords
from cortend.tasks.starting import Defaults, Starter
from cortend.tasks.zygote import Zygote

log = structlog.get_logger()


class Engine:
    """From `start` to `stop`. Made inside the event loop; its caller holds both directory locks."""

    def __init__(self, config: Config, server: Server, parts: AsyncExitStack) -> None:
        """Use `start`."""
        self._config = config
        self._server = server
        self._parts = parts

    @classmethod
    async def start(cls, config: Config) -> Engine:
        """Everything is reconciled and the doors are open when it returns. Raises what keeps it from that."""
        parts = AsyncExitStack()
        try:
            server = await _build(config, parts)
            await server.start()
        except BaseException:
            await parts.aclose()
            raise
        return cls(config, server, parts)

    async def stop(self) -> None:
        """Close the doors, let what runs finish for a while, and let go of the containers: they run on."""
        await self._server.stop(self._config.drain_seconds)
        await self._parts.aclose()


async def _build(config: Config, parts: AsyncExitStack) -> Server:
    """Everything that serves, reconciled with what is there; `parts` closes it."""
    layout = Layout(root=config.root, state=config.state, cgroup_parent=config.cgroup_parent)
    for directory in (layout.shims, layout.containers, layout.seccomp_cache):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    storage = _storage(config, layout, parts)
    images = _images(storage, parts)
    facts = host.read_facts(apparmor_profile=await apparmor.load())
    runtime = await _runtime(config, layout, storage, facts, parts)
    containers = ContainerService(
        database=storage.database,
        events=storage.events,
        images=images,
        snapshotter=storage.snapshotter,
        tasks=runtime.manager,
        removal=runtime.removal,
        facts=facts,
    )
    remove_abandoned(storage.snapshotter)
    await Reconciler(runtime.manager, runtime.tasks.execs, runtime.removal.remove).run()
    storage.collector.start()
    parts.push_async_callback(storage.collector.close)
    server = Server(config.socket)
    engine_facts = EngineFacts(
        store_id=await storage.database.write(meta.store_id),
        config=config,
        host=facts,
        cgroup_version=cgroup_version(),
        started_at_ns=time.time_ns(),
    )
    for add, service, name in (
        (containers_pb2_grpc.add_ContainersServicer_to_server, ContainersService(containers, layout), "Containers"),
        (tasks_pb2_grpc.add_TasksServicer_to_server, TasksService(runtime.tasks), "Tasks"),
        (images_pb2_grpc.add_ImagesServicer_to_server, ImagesService(images), "Images"),
        (content_pb2_grpc.add_ContentServicer_to_server, ContentService(storage.content), "Content"),
        (snapshots_pb2_grpc.add_SnapshotsServicer_to_server, SnapshotsService(storage.snapshotter), "Snapshots"),
        (events_pb2_grpc.add_EventsServicer_to_server, EventsService(storage.events), "Events"),
        (system_pb2_grpc.add_SystemServicer_to_server, SystemService(storage.database, engine_facts), "System"),
    ):
        server.register(add, service, f"corten.v1.{name}")
    log.info("engine.built", version=engine_version(), root=str(config.root), state=str(config.state))
    return server


@dataclass(frozen=True, slots=True, kw_only=True)
class _Storage:
    """What keeps state on disk."""

    database: Database
    events: EventLog
    content: ContentStore
    snapshotter: Snapshotter
    collector: GarbageCollector


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runtime:
    """What runs containers, and what ends their records."""

    manager: TaskManager
    tasks: Tasks
    removal: Removal


def _storage(config: Config, layout: Layout, parts: AsyncExitStack) -> _Storage:
    _refuse_emptied(layout)
    database = Database.open(layout.database)
    parts.callback(database.close)
    kind = CopyingSnapshotter if config.snapshotter == "copying" else OverlaySnapshotter
    snapshotter: Snapshotter = kind(layout.root / "snapshots", database)
    parts.callback(snapshotter.close)
    content = ContentStore(layout.root / "content")
    collector = GarbageCollector(
        database,
        content,
        snapshotter,
        container_snapshots=lambda: _snapshot_keys(database),
        used_images=lambda tx, image_id: bool(_users(tx, image_id)),
    )
    return _Storage(
        database=database,
        events=EventLog(database, retained=config.events_retained),
        content=content,
        snapshotter=snapshotter,
        collector=collector,
    )


def _refuse_emptied(layout: Layout) -> None:
    """Raise DataLoss for a database that lost its bytes: taken for a new one, it would have everything collected."""
    kept = [layout.root / name for name in ("content/blobs/sha256", "snapshots", "containers")]
    emptied = layout.database.exists() and layout.database.stat().st_size == 0
    if emptied and any(each.is_dir() and any(each.iterdir()) for each in kept):
        detail = f"it is empty, though {layout.root} is not; restore it from a copy or move it away"
        raise DataLoss("database", str(layout.database), detail)


def _images(storage: _Storage, parts: AsyncExitStack) -> ImageService:
    chains = ChainUnpacker(Unpacker(storage.content), storage.snapshotter)
    assembler = Assembler(storage.database, storage.content, storage.snapshotter, chains, storage.events)
    registry = Registry()
    parts.push_async_callback(registry.close)
    images = ImageService(
        storage.database,
        assembler,
        Puller(assembler, registry, storage.collector),
        Loader(assembler, storage.collector),
        storage.collector,
        storage.events,
        in_use=_users,
    )
    parts.push_async_callback(images.close)
    return images


async def _runtime(
    config: Config, layout: Layout, storage: _Storage, facts: HostFacts, parts: AsyncExitStack
) -> _Runtime:
    zygote = Zygote(layout.state, config.cgroup_parent)
    await zygote.start()
    parts.push_async_callback(zygote.close)
    database, events, snapshotter = storage.database, storage.events, storage.snapshotter
    removal = Removal(database=database, events=events, snapshotter=snapshotter, layout=layout)
    manager = TaskManager(
        database=database,
        records=TaskRecords(database, events),
        snapshotter=snapshotter,
        layout=layout,
        remover=removal.remove,
    )
    parts.push_async_callback(manager.close)
    defaults = Defaults(
        log=LogOptions(max_bytes=config.container_log_max_bytes, max_files=config.container_log_max_files),
        attach_stall_ms=config.attach_stall_seconds * 1000,
    )
    tasks = Tasks(manager=manager, starter=Starter(manager, zygote, facts, defaults), execs=Execs(manager, facts))
    return _Runtime(manager=manager, tasks=tasks, removal=removal)


def _users(tx: Transaction, image_id: str) -> list[tuple[str, str, bool]]:
    """The containers made from an image: id, name, whether it runs."""
    return [
        (each.id, each.name, each.status in (Status.RUNNING, Status.PAUSED)) for each in rows.using_image(tx, image_id)
    ]


def _snapshot_keys(database: Database) -> Iterable[str]:
    return [each.snapshot_key for each in database.read(rows.everything)]
