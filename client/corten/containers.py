"""Containers: what a user asks for, what the engine keeps, and the calls. A running one is a task (`corten.tasks`)."""

from __future__ import annotations

from types import MappingProxyType

from corten_api.v1 import containers_pb2

from corten import _calls, _messages
from corten._blocks import Face, blocking
from corten._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_NONE: Mapping[str, str] = MappingProxyType({})


class MountPoint(Value):
    """A bind (`type` "bind") of an absolute host path, or a tmpfs (`type` "tmpfs").

    `create_source` makes a missing source directory; without it a missing source is refused. `options` are a tmpfs's:
    "size=...", "mode=...", "noexec", "exec".
    """

    type: str = "bind"
    source: str = ""
    target: str
    read_only: bool = False
    create_source: bool = False
    propagation: str = ""
    non_recursive: bool = False
    options: tuple[str, ...] = ()


class Resources(Value):
    """Limits. 0 is none; `cpu_nanos` is CPUs times a thousand million; `memory_swap_bytes` counts memory too."""

    memory_bytes: int = 0
    cpu_nanos: int = 0
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0
    memory_swap_bytes: int = 0
    memory_reservation_bytes: int = 0


class Security(Value):
    """What the container may do. `seccomp` is empty for the default profile, "unconfined", or a profile's JSON."""

    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    selinux: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    unmask_paths: bool = False


class Ulimit(Value):
    """An rlimit by its name without RLIMIT_: "nofile". -1 is unlimited."""

    name: str
    soft: int
    hard: int


class LogOptions(Value):
    """Rotation of the log. 0: the engine's defaults."""

    max_bytes: int = 0
    max_files: int = 0


class ContainerConfig(Value):
    """What the user asks for. Empty fields take what the image says.

    `entrypoint` replaces the image's, `clear_entrypoint` drops it. `environment` is "NAME=value"; `stop_timeout` is in
    seconds (None: 10); `network` is "none" or "host".
    """

    image: str
    entrypoint: tuple[str, ...] = ()
    clear_entrypoint: bool = False
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    working_directory: str = ""
    user: str = ""
    hostname: str = ""
    terminal: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    labels: Mapping[str, str] = _NONE
    annotations: Mapping[str, str] = _NONE
    stop_signal: str = ""
    stop_timeout: float | None = None
    mounts: tuple[MountPoint, ...] = ()
    network: str = "none"
    resources: Resources = Resources()
    security: Security = Security()
    ulimits: tuple[Ulimit, ...] = ()
    auto_remove: bool = False
    read_only: bool = False
    shm_size: int = 0
    oom_score_adj: int | None = None
    umask: int | None = None
    extra_hosts: tuple[str, ...] = ()
    domainname: str = ""
    log: LogOptions = LogOptions()


class ContainerState(Value):
    """`status` is "created", "running", "paused", "exited" or "removing"; the rest tells of the last task.

    `reason` is "", "oom", "shim-lost", "host-restart" or "start-failed"; `error` says why a start failed.
    """

    status: str
    pid: int
    shim_pid: int
    exit_code: int
    reason: str
    oom_killed: bool
    error: str
    started_at_ns: int
    finished_at_ns: int


class Container(Value):
    """A container as the engine keeps it. `argv` is entrypoint and command as they run.

    `runtime_spec_json` is the OCI spec of the last start; only from `get`, and empty before the first.
    """

    id: str
    name: str
    namespace: str
    config: ContainerConfig
    image_id: str
    image_name: str
    state: ContainerState
    created_at_ns: int
    snapshot_key: str
    log_directory: str
    argv: tuple[str, ...]
    runtime_spec_json: str = ""


class Created(Value):
    """A new container, and what the engine wants said about it."""

    container: Container
    warnings: tuple[str, ...]


class AsyncContainers:
    """Containers, as coroutines. `container` is an id, a name, or a unique prefix of an id."""

    def __init__(self, calls: _calls.Calls) -> None:
        self._calls = calls

    async def create(self, config: ContainerConfig, *, name: str = "", request_id: str = "") -> Created:
        """Keep a container; nothing runs yet. A retry with the same `request_id` joins the first.

        Raises NotFound for an image that is not here, AlreadyExists for a name in use.
        """
        request = containers_pb2.CreateContainerRequest(name=name, config=config_message(config), request_id=request_id)
        answer = await self._calls.unary("Containers/Create", request, containers_pb2.CreateContainerResponse)
        return Created(container=container_value(answer.container), warnings=tuple(answer.warnings))

    async def get(self, container: str) -> Container:
        """Raises NotFound."""
        request = containers_pb2.GetContainerRequest(container=container)
        answer = await self._calls.unary("Containers/Get", request, containers_pb2.GetContainerResponse)
        return container_value(answer.container).replace(runtime_spec_json=answer.runtime_spec_json)

    async def list(self, *, all: bool = False, labels: Mapping[str, str] = _NONE) -> tuple[Container, ...]:
        """The running ones; with `all` every one. Newest first."""

        async def page(page: Any) -> tuple[Iterable[Any], str]:
            request = containers_pb2.ListContainersRequest(all=all, labels=dict(labels), page=page)
            answer = await self._calls.unary("Containers/List", request, containers_pb2.ListContainersResponse)
            return answer.containers, answer.next_token

        found = [container_value(each) for each in await _messages.pages(page)]
        return tuple(sorted(found, key=lambda each: -each.created_at_ns))

    async def rename(self, container: str, new_name: str) -> None:
        """Raises NotFound, AlreadyExists."""
        request = containers_pb2.RenameContainerRequest(container=container, new_name=new_name)
        await self._calls.unary("Containers/Rename", request, containers_pb2.RenameContainerResponse)

    async def delete(self, container: str, *, force: bool = False) -> None:
        """Forget it and its files. A running one is killed with `force`, else FailedPrecondition."""
        request = containers_pb2.DeleteContainerRequest(container=container, force=force)
        await self._calls.unary("Containers/Delete", request, containers_pb2.DeleteContainerResponse)


class Containers(Face[AsyncContainers]):
    """Containers, blocking."""

    create = blocking(AsyncContainers.create)
    get = blocking(AsyncContainers.get)
    list = blocking(AsyncContainers.list)
    rename = blocking(AsyncContainers.rename)
    delete = blocking(AsyncContainers.delete)


_MESSAGES = {
    "resources": containers_pb2.Resources,
    "security": containers_pb2.Security,
    "log": containers_pb2.LogOptions,
}


def config_message(config: ContainerConfig) -> containers_pb2.ContainerConfig:
    """What goes to the engine."""
    fields = {name: value for name, value in config.as_dict().items() if value}
    fields |= {name: getattr(config, name) for name in ("oom_score_adj", "umask")}
    for name, kind in _MESSAGES.items():
        fields[name] = kind(**getattr(config, name).as_dict())
    fields["labels"] = dict(config.labels)
    fields["annotations"] = dict(config.annotations)
    fields["stop_timeout"] = _messages.duration(config.stop_timeout)
    fields["mounts"] = [_mount_message(each) for each in config.mounts]
    fields["ulimits"] = [containers_pb2.Ulimit(**each.as_dict()) for each in config.ulimits]
    return containers_pb2.ContainerConfig(**fields)


def _mount_message(mount: MountPoint) -> containers_pb2.MountPoint:
    kind = containers_pb2.MountPoint.Type.Value(f"TYPE_{mount.type.upper()}")
    return containers_pb2.MountPoint(**{**mount.as_dict(), "type": kind})


def container_value(message: Any) -> Container:
    """A container as a value."""
    return Container(
        id=message.id,
        name=message.name,
        namespace=message.namespace,
        config=_config(message.config),
        image_id=message.image_id,
        image_name=message.image_name,
        state=_state(message.state),
        created_at_ns=_messages.nanoseconds(message, "created_at"),
        snapshot_key=message.snapshot_key,
        log_directory=message.log_directory,
        argv=tuple(message.argv),
    )


def _state(message: Any) -> ContainerState:
    status = containers_pb2.ContainerStatus.Name(message.status).removeprefix("CONTAINER_STATUS_").lower()
    return ContainerState(
        status=status,
        pid=message.pid,
        shim_pid=message.shim_pid,
        exit_code=message.exit_code,
        reason=message.reason,
        oom_killed=message.oom_killed,
        error=message.error,
        started_at_ns=_messages.nanoseconds(message, "started_at"),
        finished_at_ns=_messages.nanoseconds(message, "finished_at"),
    )


_PLAIN = (
    *("image", "clear_entrypoint", "working_directory", "user", "hostname", "terminal", "open_stdin", "stdin_once"),
    *("stop_signal", "network", "auto_remove", "read_only", "shm_size", "domainname"),
)
_LISTS = ("entrypoint", "command", "environment", "extra_hosts")


def _config(message: Any) -> ContainerConfig:
    fields = {name: getattr(message, name) for name in _PLAIN}
    fields |= {name: tuple(getattr(message, name)) for name in _LISTS}
    fields |= {name: getattr(message, name) if message.HasField(name) else None for name in ("oom_score_adj", "umask")}
    timeout = message.stop_timeout
    return ContainerConfig(
        **fields,
        labels=dict(message.labels),
        annotations=dict(message.annotations),
        stop_timeout=timeout.seconds + timeout.nanos / 1e9 if message.HasField("stop_timeout") else None,
        mounts=tuple(_mount(each) for each in message.mounts),
        resources=Resources(**_same(Resources, message.resources)),
        security=Security(**_same(Security, message.security)),
        ulimits=tuple(Ulimit(**_same(Ulimit, each)) for each in message.ulimits),
        log=LogOptions(**_same(LogOptions, message.log)),
    )


def _mount(message: Any) -> MountPoint:
    kind = containers_pb2.MountPoint.Type.Name(message.type).removeprefix("TYPE_").lower()
    return MountPoint(**{**_same(MountPoint, message), "type": kind})


def _same(kind: type[Value], message: Any) -> dict[str, Any]:
    """The fields that a value and its message have under the same names."""
    fields = {name: getattr(message, name) for name in kind._fields}
    return {name: value if isinstance(value, (str, int, bool)) else tuple(value) for name, value in fields.items()}
