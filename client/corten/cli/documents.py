"""Containers and images as the JSON documents that users of `docker inspect` know.

Owns the shape of `corten inspect`. What docker has and Corten does not is left out, except where scripts look for it.
"""

from __future__ import annotations

import json
from typing import Any

from corten.cli import moments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.containers import Container, ContainerConfig
    from corten.images import Image

_NEVER = "0001-01-01T00:00:00Z"


def container_document(container: Container) -> dict[str, Any]:
    """One container, with the OCI spec of its last start."""
    config = container.config
    argv = container.argv
    return {
        "Id": container.id,
        "Created": moments.rfc3339(container.created_at_ns),
        "Path": argv[0] if argv else "",
        "Args": list(argv[1:]),
        "State": _state(container),
        "Image": container.image_id,
        "ImageName": container.image_name,
        "LogPath": f"{container.log_directory}/log" if container.log_directory else "",
        "Name": f"/{container.name}",
        "Namespace": container.namespace,
        "RestartCount": 0,
        "Driver": "overlay",
        "Platform": "linux",
        "SnapshotKey": container.snapshot_key,
        "HostConfig": _host_config(config),
        "Mounts": [
            {
                "Type": mount.type,
                "Source": mount.source,
                "Destination": mount.target,
                "Mode": ",".join(mount.options),
                "RW": not mount.read_only,
                "Propagation": mount.propagation,
            }
            for mount in config.mounts
        ],
        "Config": {
            "Hostname": config.hostname or container.id[:12],
            "Domainname": config.domainname,
            "User": config.user,
            "AttachStdin": config.open_stdin,
            "Tty": config.terminal,
            "OpenStdin": config.open_stdin,
            "StdinOnce": config.stdin_once,
            "Env": list(config.environment),
            "Cmd": list(config.command) or None,
            "Image": config.image,
            "WorkingDir": config.working_directory,
            "Entrypoint": list(config.entrypoint) or None,
            "Labels": dict(config.labels),
            "StopSignal": config.stop_signal,
            "StopTimeout": config.stop_timeout,
        },
        "NetworkSettings": {"Networks": {config.network: {}}, "Ports": {}, "IPAddress": ""},
        "RuntimeSpec": json.loads(container.runtime_spec_json) if container.runtime_spec_json else None,
    }


def _state(container: Container) -> dict[str, Any]:
    state = container.state
    return {
        "Status": state.status,
        "Running": state.status in ("running", "paused"),
        "Paused": state.status == "paused",
        "Restarting": False,
        "OOMKilled": state.oom_killed,
        "Dead": False,
        "Pid": state.pid,
        "ShimPid": state.shim_pid,
        "ExitCode": state.exit_code,
        "Reason": state.reason,
        "Error": state.error,
        "StartedAt": moments.rfc3339(state.started_at_ns) or _NEVER,
        "FinishedAt": moments.rfc3339(state.finished_at_ns) or _NEVER,
    }


def _host_config(config: ContainerConfig) -> dict[str, Any]:
    resources, security = config.resources, config.security
    options = ["no-new-privileges"] if security.no_new_privileges else []
    options += [f"seccomp={security.seccomp}"] if security.seccomp else []
    options += [f"apparmor={security.apparmor}"] if security.apparmor else []
    options += [f"label={label}" for label in security.selinux]
    binds = [mount for mount in config.mounts if mount.type == "bind"]
    return {
        "Binds": [f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}" for mount in binds] or None,
        "NetworkMode": config.network,
        "AutoRemove": config.auto_remove,
        "CapAdd": list(security.cap_add) or None,
        "CapDrop": list(security.cap_drop) or None,
        "ExtraHosts": list(config.extra_hosts) or None,
        "OomScoreAdj": config.oom_score_adj or 0,
        "Privileged": security.privileged,
        "ReadonlyRootfs": config.read_only,
        "SecurityOpt": options or None,
        "Tmpfs": {mount.target: ",".join(mount.options) for mount in config.mounts if mount.type == "tmpfs"},
        "ShmSize": config.shm_size,
        "Memory": resources.memory_bytes,
        "MemorySwap": resources.memory_swap_bytes,
        "MemoryReservation": resources.memory_reservation_bytes,
        "NanoCpus": resources.cpu_nanos,
        "CpuShares": resources.cpu_shares,
        "CpusetCpus": resources.cpuset_cpus,
        "CpusetMems": resources.cpuset_mems,
        "PidsLimit": resources.pids_limit,
        "Devices": list(security.devices),
        "Ulimits": [{"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in config.ulimits],
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    }


def image_document(image: Image) -> dict[str, Any]:
    """One image, with its configuration as the registry has it."""
    from corten.cli.images import familiar

    said = json.loads(image.config_json) if image.config_json else {}
    return {
        "Id": image.id,
        "RepoTags": [familiar(name) for name in image.names],
        "RepoDigests": [familiar(digest) for digest in image.digests],
        "Created": moments.rfc3339(image.created_at_ns),
        "PulledAt": moments.rfc3339(image.pulled_at_ns),
        "Author": said.get("author", ""),
        "Config": said.get("config") or {},
        "Architecture": image.platform.architecture,
        "Variant": image.platform.variant,
        "Os": image.platform.os,
        "Size": image.size,
        "ContentSize": image.content_size,
        "Pinned": image.pinned,
        "Target": _descriptor(image.target),
        "Manifest": _descriptor(image.manifest),
        "Layers": [_descriptor(layer) for layer in image.layers],
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
    }


def _descriptor(descriptor: Any) -> dict[str, Any]:
    return {"MediaType": descriptor.media_type, "Digest": descriptor.digest, "Size": descriptor.size}
