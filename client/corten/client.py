"""The clients: a connection to one engine, and the nouns it serves.

Owns which nouns there are. Each is loaded when it is first asked for, so that a command pays for what it uses.
"""

from __future__ import annotations

from functools import cached_property

from corten import _calls, _channel
from corten._blocks import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.containers import AsyncContainers, Containers
    from corten.content import AsyncContent, Content
    from corten.events import AsyncEvents, Events
    from corten.images import AsyncImages, Images
    from corten.snapshots import AsyncSnapshots, Snapshots
    from corten.system import AsyncSystem, System
    from corten.tasks import AsyncTasks, Tasks


class AsyncClient:
    """An engine, for an event loop. Use it as `async with`.

    `address` is unix:///path or tcp://host:port (default: CORTEN_ADDRESS, then the local engine); `namespace` holds the
    containers meant; `timeout` is the deadline in seconds of every call that does not take its own.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        namespace: str | None = None,
        timeout: float | None = _calls.DEFAULT_TIMEOUT,
        transport: _calls.Transport | None = None,
    ) -> None:
        self.address = _channel.address_of(address)
        self.namespace = _channel.namespace_of(namespace)
        self._transport = transport or _channel.open_async(self.address)
        self._calls = _calls.Calls(self._transport, namespace=self.namespace, timeout=timeout)

    @cached_property
    def images(self) -> AsyncImages:
        from corten.images import AsyncImages

        return AsyncImages(self._calls)

    @cached_property
    def containers(self) -> AsyncContainers:
        from corten.containers import AsyncContainers

        return AsyncContainers(self._calls)

    @cached_property
    def tasks(self) -> AsyncTasks:
        from corten.tasks import AsyncTasks

        return AsyncTasks(self._calls)

    @cached_property
    def events(self) -> AsyncEvents:
        from corten.events import AsyncEvents

        return AsyncEvents(self._calls)

    @cached_property
    def system(self) -> AsyncSystem:
        from corten.system import AsyncSystem

        return AsyncSystem(self._calls)

    @cached_property
    def content(self) -> AsyncContent:
        from corten.content import AsyncContent

        return AsyncContent(self._calls)

    @cached_property
    def snapshots(self) -> AsyncSnapshots:
        from corten.snapshots import AsyncSnapshots

        return AsyncSnapshots(self._calls)

    async def close(self) -> None:
        """End every call."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Client:
    """An engine, blocking. Use it as `with`; threads may share it. The arguments are AsyncClient's."""

    def __init__(
        self,
        address: str | None = None,
        *,
        namespace: str | None = None,
        timeout: float | None = _calls.DEFAULT_TIMEOUT,
    ) -> None:
        transport = _channel.open_blocking(_channel.address_of(address))
        self._flow = AsyncClient(address, namespace=namespace, timeout=timeout, transport=transport)
        self.address = self._flow.address
        self.namespace = self._flow.namespace

    @cached_property
    def images(self) -> Images:
        from corten.images import Images

        return Images(self._flow.images)

    @cached_property
    def containers(self) -> Containers:
        from corten.containers import Containers

        return Containers(self._flow.containers)

    @cached_property
    def tasks(self) -> Tasks:
        from corten.tasks import Tasks

        return Tasks(self._flow.tasks)

    @cached_property
    def events(self) -> Events:
        from corten.events import Events

        return Events(self._flow.events)

    @cached_property
    def system(self) -> System:
        from corten.system import System

        return System(self._flow.system)

    @cached_property
    def content(self) -> Content:
        from corten.content import Content

        return Content(self._flow.content)

    @cached_property
    def snapshots(self) -> Snapshots:
        from corten.snapshots import Snapshots

        return Snapshots(self._flow.snapshots)

    def close(self) -> None:
        """End every call."""
        run(self._flow.close())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
