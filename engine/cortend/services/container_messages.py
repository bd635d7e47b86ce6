"""Containers between `corten.v1` and the domain.

Owns nothing but the conversion, both ways.
"""

from __future__ import annotations

from typing import Any

from corten_api.errors import InvalidArgument
from corten_api.v1 import containers_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from cortend.domain.containers import (
    Container,
    ContainerConfig,
    LogOptions,
    MountPoint,
    MountType,
    Resources,
    Security,
    State,
    Status,
    Ulimit,
)

_STATUS = {
    Status.CREATED: pb.CONTAINER_STATUS_CREATED,
    Status.RUNNING: pb.CONTAINER_STATUS_RUNNING,
    Status.PAUSED: pb.CONTAINER_STATUS_PAUSED,
    Status.EXITED: pb.CONTAINER_STATUS_EXITED,
    Status.REMOVING: pb.CONTAINER_STATUS_REMOVING,
}
_MOUNT_TYPES = {pb.MountPoint.TYPE_BIND: MountType.BIND, pb.MountPoint.TYPE_TMPFS: MountType.TMPFS}
_MOUNT_NUMBERS = {value: key for key, value in _MOUNT_TYPES.items()}
_RESOURCES = (
    *("memory_bytes", "cpu_nanos", "cpu_shares", "cpuset_cpus", "cpuset_mems", "pids_limit", "memory_swap_bytes"),
    "memory_reservation_bytes",
)


def timestamp(time_ns: int) -> Timestamp | None:
    """None for 0: the field stays absent."""
    if not time_ns:
        return None
    return Timestamp(seconds=time_ns // 1_000_000_000, nanos=time_ns % 1_000_000_000)


def duration_ns(duration: Any) -> int:
    return int(duration.seconds) * 1_000_000_000 + int(duration.nanos)


def config_of(message: Any) -> ContainerConfig:
    """The intent in a `ContainerConfig` message."""
    security = message.security
    return ContainerConfig(
        image=message.image,
        entrypoint=tuple(message.entrypoint),
        clear_entrypoint=message.clear_entrypoint,
        command=tuple(message.command),
        environment=tuple(message.environment),
        working_directory=message.working_directory,
        user=message.user,
        hostname=message.hostname,
        terminal=message.terminal,
        open_stdin=message.open_stdin,
        stdin_once=message.stdin_once,
        labels=dict(message.labels),
        annotations=dict(message.annotations),
        stop_signal=message.stop_signal,
        stop_timeout_ns=duration_ns(message.stop_timeout) if message.HasField("stop_timeout") else None,
        mounts=tuple(_mount(each) for each in message.mounts),
        network=message.network,
        resources=Resources(**{name: getattr(message.resources, name) for name in _RESOURCES}),
        security=Security(
            cap_add=tuple(security.cap_add),
            cap_drop=tuple(security.cap_drop),
            privileged=security.privileged,
            no_new_privileges=security.no_new_privileges,
            seccomp=security.seccomp,
            apparmor=security.apparmor,
            selinux=tuple(security.selinux),
            devices=tuple(security.devices),
            unmask_paths=security.unmask_paths,
        ),
        ulimits=tuple(Ulimit(name=each.name.lower(), soft=each.soft, hard=each.hard) for each in message.ulimits),
        auto_remove=message.auto_remove,
        read_only=message.read_only,
        shm_size=message.shm_size,
        oom_score_adj=message.oom_score_adj if message.HasField("oom_score_adj") else None,
        umask=message.umask if message.HasField("umask") else None,
        extra_hosts=tuple(message.extra_hosts),
        domainname=message.domainname,
        log=LogOptions(max_bytes=message.log.max_bytes, max_files=message.log.max_files),
    )


def _mount(message: Any) -> MountPoint:
    kind = _MOUNT_TYPES.get(message.type)
    if kind is None:
        raise InvalidArgument("mount type", str(message.type), "bind or tmpfs is needed")
    return MountPoint(
        type=kind,
        source=message.source,
        target=message.target,
        read_only=message.read_only,
        create_source=message.create_source,
        propagation=message.propagation,
        non_recursive=message.non_recursive,
        options=tuple(message.options),
    )


def config_message(config: ContainerConfig) -> Any:
    message = pb.ContainerConfig(
        image=config.image,
        entrypoint=config.entrypoint,
        clear_entrypoint=config.clear_entrypoint,
        command=config.command,
        environment=config.environment,
        working_directory=config.working_directory,
        user=config.user,
        hostname=config.hostname,
        terminal=config.terminal,
        open_stdin=config.open_stdin,
        stdin_once=config.stdin_once,
        labels=config.labels,
        annotations=config.annotations,
        stop_signal=config.stop_signal,
        mounts=[_mount_message(each) for each in config.mounts],
        network=config.network,
        resources=pb.Resources(**{name: getattr(config.resources, name) for name in _RESOURCES}),
        security=_security_message(config.security),
        ulimits=[pb.Ulimit(name=each.name, soft=each.soft, hard=each.hard) for each in config.ulimits],
        auto_remove=config.auto_remove,
        read_only=config.read_only,
        shm_size=config.shm_size,
        oom_score_adj=config.oom_score_adj,
        umask=config.umask,
        extra_hosts=config.extra_hosts,
        domainname=config.domainname,
        log=pb.LogOptions(max_bytes=config.log.max_bytes, max_files=config.log.max_files),
    )
    if config.stop_timeout_ns is not None:
        seconds, nanos = divmod(config.stop_timeout_ns, 1_000_000_000)
        message.stop_timeout.CopyFrom(Duration(seconds=seconds, nanos=nanos))
    return message


def _mount_message(mount: MountPoint) -> Any:
    return pb.MountPoint(
        type=_MOUNT_NUMBERS[mount.type],
        source=mount.source,
        target=mount.target,
        read_only=mount.read_only,
        create_source=mount.create_source,
        propagation=mount.propagation,
        non_recursive=mount.non_recursive,
        options=mount.options,
    )


def _security_message(security: Security) -> Any:
    return pb.Security(
        cap_add=security.cap_add,
        cap_drop=security.cap_drop,
        privileged=security.privileged,
        no_new_privileges=security.no_new_privileges,
        seccomp=security.seccomp,
        apparmor=security.apparmor,
        selinux=security.selinux,
        devices=security.devices,
        unmask_paths=security.unmask_paths,
    )


def state_message(state: State) -> Any:
    ended = state.exit
    message = pb.ContainerState(
        status=_STATUS[state.status],
        pid=state.pid,
        shim_pid=state.shim_pid,
        error=state.error,
        started_at=timestamp(state.started_at_ns),
    )
    if ended is not None:
        message.exit_code = ended.exit_code
        message.reason = ended.reason
        message.oom_killed = ended.oom_killed
        message.error = state.error or ended.error
        finished = timestamp(ended.exited_at_ns)
        if finished is not None:
            message.finished_at.CopyFrom(finished)
    return message


def container_message(container: Container, *, log_directory: str) -> Any:
    return pb.Container(
        id=container.id,
        name=container.name,
        namespace=container.namespace,
        config=config_message(container.config),
        image_id=container.image_id,
        state=state_message(container.state),
        created_at=timestamp(container.created_at_ns),
        snapshot_key=container.snapshot_key,
        log_directory=log_directory,
        argv=container.argv,
        image_name=container.image_name,
    )
