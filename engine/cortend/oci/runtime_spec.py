"""The OCI runtime spec of a container, derived from its record, its image and the host at every start.

Owns what a container sees and may do by default. Pure: facts of the host come in as `HostFacts`, files in the bundle
as paths. Keeps to the OCI runtime specification 1.2 but for `process.user.username`, which carries the user as
docker writes it; the native runtime looks it up in the container's own files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corten_api.errors import InvalidArgument

from cortend.domain.containers import ContainerConfig, ExecConfig, Security
from cortend.oci import capabilities, seccomp_profile
from cortend.oci.image_config import ImageConfig
from cortend.oci.linux_resources import linux_resources
from cortend.oci.mount_table import mount_table

OCI_VERSION = "1.2.0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
VOLATILE_ANNOTATION = "dev.corten.rootfs.volatile"

MASKED_PATHS = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# Inside an own network namespace an unprivileged process may bind low ports and ping, as in docker.
NETWORK_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device node to make in the container. `kind` is "c" or "b", `mode` the permission bits."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    access: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What the host has: read once by the caller, never by this module."""

    architecture: str  # GOARCH name
    kernel: tuple[int, int]
    capabilities: frozenset[str]  # what the engine itself holds
    apparmor_profile: str  # the profile for containers, empty where the host has no AppArmor
    selinux: bool
    cpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where this start of the container lives on the host."""

    container_id: str
    bundle: Path  # holds hosts, hostname and resolv.conf
    cgroup_path: str  # below the cgroup mounts: "/corten/<id>"
    hostname: str
    devices: tuple[Device, ...] = ()  # asked for by --device, or all of the host's when privileged
    selinux_process_label: str = ""
    selinux_mount_label: str = ""


def arguments(config: ContainerConfig, image: ImageConfig) -> tuple[str, ...]:
    """Entrypoint and command as they run, by docker's rules.

    An entrypoint of the user's makes the image's command void; a command of the user's replaces the image's.
    Raises InvalidArgument when nothing is left to run.
    """
    overridden = bool(config.entrypoint) or config.clear_entrypoint
    entrypoint = config.entrypoint if overridden else tuple(image.entrypoint)
    command = config.command or (() if overridden else tuple(image.command))
    argv = (*entrypoint, *command)
    if not argv:
        raise InvalidArgument("command", "", "neither the image nor the request says what to run")
    return argv


def environment(config: ContainerConfig, image: ImageConfig, *, hostname: str) -> list[str]:
    """ "NAME=value" entries: defaults, then the image's, then the user's; a later one replaces an earlier in place."""
    merged: dict[str, str] = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if config.terminal:
        merged["TERM"] = "xterm"
    for entry in (*image.environment, *config.environment):
        name, separator, value = entry.partition("=")
        if separator:
            merged[name] = value
        else:
            merged.pop(name, None)
    return [f"{name}={value}" for name, value in merged.items()]


def runtime_spec(
    *, config: ContainerConfig, image: ImageConfig, placement: Placement, host: HostFacts
) -> dict[str, Any]:
    """The `config.json` of one start. Raises InvalidArgument naming the value that cannot be honoured."""
    security = config.security
    granted = _granted(security, host)
    spec: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": config.terminal,
            "user": {"uid": 0, "gid": 0, "username": config.user or image.user},
            "args": list(arguments(config, image)),
            "env": environment(config, image, hostname=placement.hostname),
            "cwd": config.working_directory or image.working_directory or "/",
            "capabilities": _capability_sets(granted),
            "noNewPrivileges": security.no_new_privileges,
        },
        "root": {"path": "rootfs", "readonly": config.read_only},
        "hostname": placement.hostname,
        "mounts": mount_table(config, bundle=placement.bundle),
        "linux": {
            "namespaces": _namespaces(config),
            "cgroupsPath": placement.cgroup_path,
            "resources": linux_resources(config.resources, placement.devices, privileged=security.privileged),
            "devices": [_device(device) for device in placement.devices],
            "rootfsPropagation": "rprivate",
        },
        "annotations": dict(config.annotations),
    }
    if config.domainname:
        spec["domainname"] = config.domainname
    if config.auto_remove:
        spec["annotations"][VOLATILE_ANNOTATION] = "true"
    _add_process_options(spec["process"], config)
    _add_confinement(spec, config, placement, host, granted)
    return spec


def exec_process(base: dict[str, Any], request: ExecConfig, host: HostFacts) -> dict[str, Any]:
    """The OCI process of an exec in a container that was started with spec `base`; `base` is not changed."""
    container = base["process"]
    process = {key: value for key, value in container.items() if key not in ("terminal", "args")}
    process["terminal"] = request.terminal
    process["args"] = list(request.argv)
    merged = dict(entry.partition("=")[::2] for entry in container["env"])
    if request.terminal:
        merged.setdefault("TERM", "xterm")
    for entry in request.environment:
        name, separator, value = entry.partition("=")
        if separator:
            merged[name] = value
        else:
            merged.pop(name, None)
    process["env"] = [f"{name}={value}" for name, value in merged.items()]
    if request.user:
        process["user"] = {"uid": 0, "gid": 0, "username": request.user}
    if request.working_directory:
        process["cwd"] = request.working_directory
    if request.privileged:
        everything = capabilities.effective(add=(), drop=(), privileged=True, available=host.capabilities)
        process["capabilities"] = _capability_sets(everything)
        process.pop("apparmorProfile", None)
    return process


def _granted(security: Security, host: HostFacts) -> tuple[str, ...]:
    return capabilities.effective(
        add=security.cap_add,
        drop=security.cap_drop,
        privileged=security.privileged,
        available=host.capabilities,
    )


def _capability_sets(granted: tuple[str, ...]) -> dict[str, list[str]]:
    # Neither inheritable nor ambient: a process that leaves uid 0 loses them (CVE-2022-24769).
    return {name: list(granted) for name in ("bounding", "effective", "permitted")}


def _namespaces(config: ContainerConfig) -> list[dict[str, str]]:
    kinds = ["pid", "mount", "uts", "ipc", "cgroup"]
    if config.network != "host":
        kinds.append("network")
    return [{"type": kind} for kind in kinds]


def _device(device: Device) -> dict[str, Any]:
    return {
        "path": device.path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": device.uid,
        "gid": device.gid,
    }


def _add_process_options(process: dict[str, Any], config: ContainerConfig) -> None:
    if config.ulimits:
        process["rlimits"] = [
            {"type": f"RLIMIT_{limit.name.upper()}", "soft": _rlimit(limit.soft), "hard": _rlimit(limit.hard)}
            for limit in config.ulimits
        ]
    if config.oom_score_adj is not None:
        process["oomScoreAdj"] = config.oom_score_adj
    if config.umask is not None:
        process["user"]["umask"] = config.umask


def _rlimit(value: int) -> int:
    return 2**64 - 1 if value < 0 else value  # RLIM_INFINITY as the spec's uint64


def _add_confinement(
    spec: dict[str, Any],
    config: ContainerConfig,
    placement: Placement,
    host: HostFacts,
    granted: tuple[str, ...],
) -> None:
    security, linux, process = config.security, spec["linux"], spec["process"]
    if config.network != "host":
        linux["sysctl"] = dict(NETWORK_SYSCTLS)
    if not (security.privileged or security.unmask_paths):
        linux["maskedPaths"] = list(MASKED_PATHS)
        linux["readonlyPaths"] = list(READONLY_PATHS)
    section = _seccomp(security, granted, host)
    if section is not None:
        linux["seccomp"] = section
    apparmor = security.apparmor or ("" if security.privileged else host.apparmor_profile)
    if apparmor and apparmor != "unconfined":
        if not host.apparmor_profile:
            raise InvalidArgument("apparmor profile", apparmor, "this host has no AppArmor")
        process["apparmorProfile"] = apparmor
    if placement.selinux_process_label:
        process["selinuxLabel"] = placement.selinux_process_label
        linux["mountLabel"] = placement.selinux_mount_label


def _seccomp(security: Security, granted: tuple[str, ...], host: HostFacts) -> dict[str, Any] | None:
    if security.seccomp == "unconfined" or (security.privileged and not security.seccomp):
        return None
    if not security.seccomp:
        return seccomp_profile.default(granted, host.architecture)
    return seccomp_profile.from_user(
        security.seccomp, capabilities=granted, architecture=host.architecture, kernel=host.kernel
    )
