"""corten.v1.System."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from corten_api.v1 import system_pb2 as pb
from corten_api.v1 import system_pb2_grpc
from corten_shim.cgroups import select

from cortend.config import Config
from cortend.db import containers as rows
from cortend.db import images as image_rows
from cortend.db.database import Database
from cortend.domain.containers import Status
from cortend.oci.runtime_spec import HostFacts
from cortend.services.container_messages import timestamp

API = "corten.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What does not change while the engine runs."""

    store_id: str
    config: Config
    host: HostFacts
    cgroup_version: str
    started_at_ns: int
    warnings: tuple[str, ...] = ()


class SystemService(system_pb2_grpc.SystemServicer):
    def __init__(self, database: Database, facts: EngineFacts) -> None:
        self._database = database
        self._facts = facts

    async def Ping(self, request: Any, context: Any) -> Any:
        return pb.PingResponse()

    async def Version(self, request: Any, context: Any) -> Any:
        return pb.VersionResponse(
            version=engine_version(),
            api=API,
            python=platform.python_version(),
            kernel=os.uname().release,
            os="linux",
            architecture=self._facts.host.architecture,
        )

    async def Info(self, request: Any, context: Any) -> Any:
        facts, config = self._facts, self._facts.config
        counts, images = self._database.read(lambda tx: (rows.counts(tx), image_rows.count(tx)))
        return pb.InfoResponse(
            id=facts.store_id,
            root=str(config.root),
            state=str(config.state),
            snapshotter=config.snapshotter,
            cgroup_version=facts.cgroup_version,
            cgroup_parent=config.cgroup_parent,
            containers=sum(counts.values()),
            containers_running=counts.get(Status.RUNNING, 0),
            containers_paused=counts.get(Status.PAUSED, 0),
            containers_stopped=counts.get(Status.EXITED, 0) + counts.get(Status.CREATED, 0),
            images=images,
            cpus=facts.host.cpus,
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            security=_security(facts.host),
            warnings=facts.warnings,
            hostname=socket.gethostname(),
            operating_system=_operating_system(),
            started_at=timestamp(facts.started_at_ns),
            pid=os.getpid(),
        )


def engine_version() -> str:
    try:
        return version("corten")
    except PackageNotFoundError:
        return "0+unknown"


def _security(host: HostFacts) -> list[str]:
    found = ["seccomp"]
    if host.apparmor_profile:
        found.append("apparmor")
    if host.selinux:
        found.append("selinux")
    return found


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def cgroup_version() -> str:
    """ "2" on a unified host, "1" on a legacy or hybrid one."""
    return str(select.version())
