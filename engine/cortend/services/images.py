"""The Images service: corten.v1 messages to calls of the images use case and back. Owns no rule about images."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from corten_api.errors import InvalidArgument
from corten_api.v1 import common_pb2, images_pb2, images_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp

from cortend.domain.images import Image
from cortend.images.progress import Phase, Progress
from cortend.images.service import ImageService
from cortend.oci.manifest import Descriptor
from cortend.oci.platform import Platform
from cortend.registry.credentials import Credentials
from cortend.services.context import namespace_of

_PHASES = {phase: getattr(images_pb2.PullImageProgress, f"PHASE_{phase.name}") for phase in Phase}


class ImagesService(images_pb2_grpc.ImagesServicer):
    """Images over gRPC."""

    def __init__(self, images: ImageService) -> None:
        self._images = images

    async def Pull(
        self, request: images_pb2.PullImageRequest, context: Any
    ) -> AsyncIterator[images_pb2.PullImageProgress]:
        namespace = namespace_of(context)
        steps = self._images.pull(
            request.reference,
            namespace=namespace,
            platform=_platform(request.platform) if request.HasField("platform") else None,
            credentials=Credentials(
                username=request.auth.username,
                password=request.auth.password,
                identity_token=request.auth.identity_token,
            ),
            refresh=request.refresh,
        )
        async with aclosing(steps):
            async for step in steps:
                if isinstance(step, Progress):
                    yield progress_message(step)
                else:
                    done = image_message(step, namespace)
                    yield images_pb2.PullImageProgress(phase=_PHASES[Phase.COMPLETE], done=done)

    async def List(self, request: images_pb2.ListImagesRequest, context: Any) -> images_pb2.ListImagesResponse:
        namespace = namespace_of(context)
        page = self._images.list(size=request.page.size, token=request.page.token)
        images = [image_message(each, namespace) for each in page.images]
        return images_pb2.ListImagesResponse(images=images, next_token=page.next_token)

    async def Get(self, request: images_pb2.GetImageRequest, context: Any) -> images_pb2.GetImageResponse:
        namespace = namespace_of(context)
        image = self._images.get(request.reference, namespace)
        message = image_message(image, namespace)
        message.config_json = await self._images.config_json(image)
        message.layers.extend(descriptor_message(each) for each in image.layers)
        message.diff_ids.extend(str(each) for each in image.diff_ids)
        return images_pb2.GetImageResponse(image=message)

    async def Tag(self, request: images_pb2.TagImageRequest, context: Any) -> images_pb2.TagImageResponse:
        namespace = namespace_of(context)
        image = await self._images.tag(request.source, request.target, namespace)
        return images_pb2.TagImageResponse(image=image_message(image, namespace))

    async def Remove(self, request: images_pb2.RemoveImageRequest, context: Any) -> images_pb2.RemoveImageResponse:
        removed = await self._images.remove(request.reference, namespace_of(context), force=request.force)
        return images_pb2.RemoveImageResponse(untagged=removed.untagged, deleted=removed.deleted)

    async def Load(
        self, request_iterator: AsyncIterator[images_pb2.LoadImageRequest], context: Any
    ) -> AsyncIterator[images_pb2.LoadImageResponse]:
        namespace = namespace_of(context)
        first = await anext(aiter(request_iterator), images_pb2.LoadImageRequest())
        steps = self._images.load(
            _chunks(first, request_iterator),
            namespace=namespace,
            platform=_platform(first.platform) if first.HasField("platform") else None,
        )
        async with aclosing(steps):
            async for step in steps:
                if isinstance(step, Progress):
                    yield images_pb2.LoadImageResponse(progress=progress_message(step))
                else:
                    yield images_pb2.LoadImageResponse(loaded=image_message(step, namespace))


async def _chunks(
    first: images_pb2.LoadImageRequest, others: AsyncIterator[images_pb2.LoadImageRequest]
) -> AsyncIterator[bytes]:
    yield first.data
    async for request in others:
        yield request.data


def image_message(image: Image, namespace: str) -> images_pb2.Image:
    """An image as lists show it."""
    return images_pb2.Image(
        id=str(image.id),
        names=image.tags,
        digests=image.digests,
        target=descriptor_message(image.target),
        manifest=descriptor_message(image.manifest),
        platform=platform_message(image.platform),
        created_at=_timestamp(image.created_at_ns),
        pulled_at=_timestamp(image.pulled_at_ns),
        size=image.size,
        content_size=image.content_size,
        labels=dict(image.labels),
        pinned=image.pinned(namespace),
    )


def progress_message(progress: Progress) -> images_pb2.PullImageProgress:
    """One step of a pull or a load."""
    return images_pb2.PullImageProgress(
        phase=_PHASES[progress.phase],
        blob=descriptor_message(progress.blob) if progress.blob is not None else None,
        offset=progress.offset,
    )


def descriptor_message(descriptor: Descriptor) -> common_pb2.Descriptor:
    """A descriptor on the wire."""
    return common_pb2.Descriptor(
        media_type=descriptor.media_type,
        digest=str(descriptor.digest),
        size=descriptor.size,
        platform=platform_message(descriptor.platform) if descriptor.platform is not None else None,
        annotations=dict(descriptor.annotations),
    )


def platform_message(platform: Platform) -> common_pb2.Platform:
    """A platform on the wire."""
    return common_pb2.Platform(os=platform.os, architecture=platform.architecture, variant=platform.variant)


def _platform(message: common_pb2.Platform) -> Platform:
    if not message.architecture:
        raise InvalidArgument("platform", message.os, "has no architecture; write for example linux/arm64")
    return Platform(message.os or "linux", message.architecture, message.variant).normalised()


def _timestamp(nanoseconds: int) -> Timestamp | None:
    if not nanoseconds:
        return None
    return Timestamp(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)
