"""corten.v1.Containers."""

from __future__ import annotations

from typing import Any

import msgspec
from corten_api.v1 import containers_pb2 as pb
from corten_api.v1 import containers_pb2_grpc

from cortend.containers.service import ContainerService, page_token
from cortend.domain.containers import Container
from cortend.domain.layout import Layout
from cortend.services.container_messages import config_of, container_message
from cortend.services.context import namespace_of

_PAGE_BYTES = 2 << 20  # of one page: clients take 4 MiB where nobody told them otherwise


class ContainersService(containers_pb2_grpc.ContainersServicer):
    def __init__(self, containers: ContainerService, layout: Layout) -> None:
        self._containers = containers
        self._layout = layout

    async def Create(self, request: Any, context: Any) -> Any:
        made = await self._containers.create(
            namespace_of(context), config_of(request.config), name=request.name, request_id=request.request_id
        )
        return pb.CreateContainerResponse(container=self._message(made.container), warnings=made.warnings)

    async def Get(self, request: Any, context: Any) -> Any:
        container = self._containers.get(namespace_of(context), request.container)
        spec = self._containers.spec_of(container)
        text = "" if spec is None else msgspec.json.encode(spec).decode()
        return pb.GetContainerResponse(container=self._message(container), runtime_spec_json=text)

    async def List(self, request: Any, context: Any) -> Any:
        found, token = self._containers.list(
            namespace_of(context),
            all=request.all,
            labels=dict(request.labels),
            size=request.page.size,
            token=request.page.token,
        )
        messages: list[Any] = []
        size = 0
        for each in found:
            message = self._message(each)
            size += message.ByteSize()
            if messages and size > _PAGE_BYTES:
                token = page_token(found[len(messages) - 1])
                break
            messages.append(message)
        return pb.ListContainersResponse(containers=messages, next_token=token)

    async def Rename(self, request: Any, context: Any) -> Any:
        await self._containers.rename(namespace_of(context), request.container, request.new_name)
        return pb.RenameContainerResponse()

    async def Delete(self, request: Any, context: Any) -> Any:
        await self._containers.delete(namespace_of(context), request.container, force=request.force)
        return pb.DeleteContainerResponse()

    def _message(self, container: Container) -> Any:
        return container_message(container, log_directory=str(self._layout.log_directory(container.id)))
