"""Images: values and calls. Owns no transport (`corten._channel`)."""

from __future__ import annotations

from corten_api.v1 import common_pb2, images_pb2

from corten import _calls, _messages
from corten._blocks import Face, blocking, iterating
from corten._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from typing import Any

_CHUNK = 1 << 20


class Platform(Value):
    """An OCI platform. `architecture` is a GOARCH name."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """From "linux/arm64/v8", "linux/arm64" or "arm64"; what is wrong with it is the engine's to say."""
        parts = text.split("/")
        if len(parts) == 1:
            return cls(os="linux", architecture=text)
        return cls(os=parts[0], architecture=parts[1], variant="/".join(parts[2:]))


class Descriptor(Value):
    """An OCI content descriptor. `size` is in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str]


class Image(Value):
    """One image of one platform. `layers`, `diff_ids` and `config_json` are there only from `get`."""

    id: str
    names: tuple[str, ...]
    digests: tuple[str, ...]
    target: Descriptor
    manifest: Descriptor
    platform: Platform
    created_at_ns: int
    pulled_at_ns: int
    size: int
    content_size: int
    labels: Mapping[str, str]
    config_json: str
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    pinned: bool


class Progress(Value):
    """A step of a pull or a load.

    `phase` is "resolving", "waiting", "downloading", "verified", "unpacking", "complete" or "exists"; `blob` is absent
    while resolving; `offset` counts the bytes done of it. `image` is set in the last step, and in a load once an image.
    """

    phase: str
    blob: Descriptor | None = None
    offset: int = 0
    image: Image | None = None


class Removed(Value):
    """What `remove` took away: names, and ids of images that are gone."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]


class Credentials(Value):
    """For one pull; never stored."""

    username: str = ""
    password: str = ""
    identity_token: str = ""


class AsyncImages:
    """Images, as coroutines."""

    def __init__(self, calls: _calls.Calls) -> None:
        self._calls = calls

    async def pull(
        self,
        reference: str,
        *,
        platform: Platform | None = None,
        credentials: Credentials | None = None,
        refresh: bool = True,
        timeout: float | None = None,
    ) -> AsyncIterator[Progress]:
        """Have the engine pull; the last step carries the image. `refresh=False`: not where the image is here."""
        request = images_pb2.PullImageRequest(reference=reference, refresh=refresh)
        if platform is not None:
            request.platform.CopyFrom(_platform_message(platform))
        if credentials is not None:
            request.auth.CopyFrom(images_pb2.RegistryAuth(**credentials.as_dict()))
        exchange = await self._calls.stream("Images/Pull", request, images_pb2.PullImageProgress, timeout=timeout)
        try:
            while (message := await exchange.receive()) is not None:
                yield progress(message)
        finally:
            exchange.cancel()

    async def load(self, chunks: Iterable[bytes], *, timeout: float | None = None) -> AsyncIterator[Progress]:
        """Load a `docker save` or OCI-layout archive, plain, gzip or zstd. `chunks` are its bytes in order."""
        exchange = await self._calls.open("Images/Load", images_pb2.LoadImageResponse, timeout=timeout)
        try:
            for chunk in chunks:
                for start in range(0, len(chunk), _CHUNK):
                    await exchange.send(images_pb2.LoadImageRequest(data=chunk[start : start + _CHUNK]))
            await exchange.half_close()
            while (message := await exchange.receive()) is not None:
                if message.HasField("loaded"):
                    yield Progress(phase="complete", image=image(message.loaded))
                else:
                    yield progress(message.progress)
        finally:
            exchange.cancel()

    async def list(self) -> tuple[Image, ...]:
        """Every image."""

        async def page(page: common_pb2.Page) -> tuple[Iterable[Any], str]:
            request = images_pb2.ListImagesRequest(page=page)
            answer = await self._calls.unary("Images/List", request, images_pb2.ListImagesResponse)
            return answer.images, answer.next_token

        return tuple([image(each) for each in await _messages.pages(page)])

    async def get(self, reference: str) -> Image:
        """By name, name@digest, id or unique prefix of an id. Raises NotFound."""
        request = images_pb2.GetImageRequest(reference=reference)
        return image((await self._calls.unary("Images/Get", request, images_pb2.GetImageResponse)).image)

    async def tag(self, source: str, target: str) -> Image:
        """Give an image another name; a name in use moves."""
        request = images_pb2.TagImageRequest(source=source, target=target)
        return image((await self._calls.unary("Images/Tag", request, images_pb2.TagImageResponse)).image)

    async def remove(self, reference: str, *, force: bool = False) -> Removed:
        """A name drops that name; an id the image where it has one name. Raises NotFound, FailedPrecondition."""
        request = images_pb2.RemoveImageRequest(reference=reference, force=force)
        answer = await self._calls.unary("Images/Remove", request, images_pb2.RemoveImageResponse)
        return Removed(untagged=tuple(answer.untagged), deleted=tuple(answer.deleted))


class Images(Face[AsyncImages]):
    """Images, blocking."""

    pull = iterating(AsyncImages.pull)
    load = iterating(AsyncImages.load)
    list = blocking(AsyncImages.list)
    get = blocking(AsyncImages.get)
    tag = blocking(AsyncImages.tag)
    remove = blocking(AsyncImages.remove)


def progress(message: Any) -> Progress:
    """A step as a value."""
    return Progress(
        phase=images_pb2.PullImageProgress.Phase.Name(message.phase).removeprefix("PHASE_").lower(),
        blob=_descriptor(message.blob) if message.HasField("blob") else None,
        offset=message.offset,
        image=image(message.done) if message.HasField("done") else None,
    )


def image(message: Any) -> Image:
    """An image as a value."""
    return Image(
        id=message.id,
        names=tuple(message.names),
        digests=tuple(message.digests),
        target=_descriptor(message.target),
        manifest=_descriptor(message.manifest),
        platform=_platform(message.platform),
        created_at_ns=_messages.nanoseconds(message, "created_at"),
        pulled_at_ns=_messages.nanoseconds(message, "pulled_at"),
        size=message.size,
        content_size=message.content_size,
        labels=dict(message.labels),
        config_json=message.config_json,
        layers=tuple(_descriptor(each) for each in message.layers),
        diff_ids=tuple(message.diff_ids),
        pinned=message.pinned,
    )


def _descriptor(message: Any) -> Descriptor:
    return Descriptor(
        media_type=message.media_type,
        digest=message.digest,
        size=message.size,
        platform=_platform(message.platform) if message.HasField("platform") else None,
        annotations=dict(message.annotations),
    )


def _platform(message: Any) -> Platform:
    return Platform(os=message.os, architecture=message.architecture, variant=message.variant)


def _platform_message(platform: Platform) -> common_pb2.Platform:
    return common_pb2.Platform(**platform.as_dict())
