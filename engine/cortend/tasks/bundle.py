"""The OCI bundle of a live container: config.json and the files of /etc that the engine provides.

Owns what is in `STATE/shims/<id>` before the shim is there. What the spec says is the business of
`cortend.oci.runtime_spec`.
"""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from corten_api.errors import InvalidArgument, NotFound

from cortend.domain.containers import Container, ContainerConfig, MountType
from cortend.domain.layout import Layout
from cortend.oci.image_config import ImageConfig
from cortend.oci.runtime_spec import HostFacts, Placement, runtime_spec
from cortend.tasks import host

_LOOPBACK_NAMES = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    path: Path
    spec: dict[str, Any]


def hostname_of(container_id: str, config: ContainerConfig) -> str:
    """As docker: what was asked for; with the host's network its name; otherwise the short id."""
    if config.hostname:
        return config.hostname
    return socket.gethostname() if config.network == "host" else container_id[:12]


def derive(
    container_id: str, config: ContainerConfig, image: ImageConfig, *, layout: Layout, facts: HostFacts
) -> dict[str, Any]:
    """The runtime spec of one start. Raises InvalidArgument or NotFound naming what cannot be honoured."""
    process_label, mount_label = host.selinux_labels(config.security, facts)
    placement = Placement(
        container_id=container_id,
        bundle=layout.bundle(container_id),
        cgroup_path=layout.cgroup(container_id),
        hostname=hostname_of(container_id, config),
        devices=host.devices(config.security),
        selinux_process_label=process_label,
        selinux_mount_label=mount_label,
    )
    return runtime_spec(config=config, image=image, placement=placement, host=facts)


def check_sources(config: ContainerConfig) -> None:
    """Raises NotFound for a bind source that is not there and is not to be made."""
    for mount in config.mounts:
        if mount.type is MountType.BIND and not mount.create_source and not os.path.exists(mount.source):
            raise NotFound("mount source", mount.source, "there is no such file or directory on the host")


def make(container: Container, image: ImageConfig, *, layout: Layout, facts: HostFacts) -> Bundle:
    """Write the bundle; what an earlier start left is replaced. Blocks on the disk. Leaves nothing when it raises."""
    config = container.config
    check_sources(config)
    for mount in config.mounts:
        if mount.type is MountType.BIND and mount.create_source:
            _make_source(mount.source)
    spec = derive(container.id, config, image, layout=layout, facts=facts)
    path = layout.bundle(container.id)
    remove(path)
    layout.exit_record(container.id).unlink(missing_ok=True)
    layout.log_directory(container.id).mkdir(mode=0o700, parents=True, exist_ok=True)
    hostname = hostname_of(container.id, config)
    try:
        path.mkdir(mode=0o700)
        _write(path / "config.json", msgspec.json.encode(spec), mode=0o600)
        _write(path / "hostname", f"{hostname}\n".encode())
        _write(path / "hosts", hosts(config, hostname=hostname))
        _write(path / "resolv.conf", resolv_conf(config))
    except BaseException:
        remove(path)
        raise
    return Bundle(path=path, spec=spec)


def load_spec(path: Path) -> dict[str, Any]:
    """The spec that the bundle's container was started with."""
    spec: dict[str, Any] = msgspec.json.decode((path / "config.json").read_bytes())
    return spec


def remove(path: Path) -> None:
    """Remove the bundle; fine when there is none."""
    shutil.rmtree(path, ignore_errors=True)


def hosts(config: ContainerConfig, *, hostname: str) -> bytes:
    """The text of /etc/hosts: with the host's network the host's own, and what was asked for."""
    text = _host_file("/etc/hosts") if config.network == "host" else b""
    if not text:
        names = f"{hostname}.{config.domainname} {hostname}" if config.domainname else hostname
        text = f"{_LOOPBACK_NAMES}127.0.1.1\t{names}\n".encode()
    lines = [entry.partition(":") for entry in config.extra_hosts]
    extra = "".join(f"{address.strip('[]')}\t{name}\n" for name, _, address in lines)
    return text + extra.encode()


def resolv_conf(config: ContainerConfig) -> bytes:
    """The host's /etc/resolv.conf; in an own network namespace without the servers on the host's loopback."""
    text = _host_file("/etc/resolv.conf")
    if config.network == "host":
        return text
    return b"".join(line for line in text.splitlines(keepends=True) if not _is_loopback_server(line))


def _is_loopback_server(line: bytes) -> bool:
    words = line.split()
    return len(words) > 1 and words[0] == b"nameserver" and (words[1].startswith(b"127.") or words[1] == b"::1")


def _host_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _make_source(source: str) -> None:
    try:
        os.makedirs(source, mode=0o755, exist_ok=True)
    except FileExistsError:
        return  # a file is as good a source
    except OSError as error:
        detail = f"it is not there and cannot be made: {error.strerror}"
        raise InvalidArgument("mount source", source, detail) from error


def _write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
