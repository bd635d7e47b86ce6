"""Image configurations: what an image says about how it is to be run, and the digests of its unpacked layers.

Owns decoding of `application/vnd.oci.image.config.v1+json` and docker's `container.image.v1+json`. What a container
makes of it is `runtime_spec`'s business. Keeps to image-spec config.md; unknown fields are ignored, as it demands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from corten_api.errors import InvalidArgument

from cortend.oci.digest import Digest
from cortend.oci.platform import Platform

MAX_CONFIG_SIZE = 8 << 20
MAX_LAYERS = 256  # docker stops at 127; more paths do not fit into one page of mount options


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """docker's `Healthcheck`; durations in nanoseconds, 0 where the image leaves them to the engine."""

    test: tuple[str, ...] = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One step of how the image was made."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """A decoded configuration. Absent lists and strings are empty."""

    platform: Platform
    created: str = ""  # RFC 3339, by the image's own account
    author: str = ""
    user: str = ""
    environment: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed_ports: tuple[str, ...] = ()  # "80/tcp", sorted
    volumes: tuple[str, ...] = ()  # paths, sorted
    shell: tuple[str, ...] = ()
    health_check: HealthCheck | None = None
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()

    @classmethod
    def decode(cls, data: bytes, *, name: str = "") -> ImageConfig:
        """Decode and check a configuration; `name` (its digest) is what an InvalidArgument names."""
        if len(data) > MAX_CONFIG_SIZE:
            raise InvalidArgument("image configuration", name, f"is larger than {MAX_CONFIG_SIZE} bytes")
        try:
            wire = msgspec.json.decode(data, type=_Config)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidArgument("image configuration", name, f"cannot be read: {error}") from None
        if wire.rootfs.type != "layers":
            raise InvalidArgument("image configuration", name, f'rootfs.type is "{wire.rootfs.type}", not "layers"')
        if len(wire.rootfs.diff_ids) > MAX_LAYERS:
            raise InvalidArgument("image configuration", name, f"has more than {MAX_LAYERS} layers")
        return _from_wire(wire)


def chain_ids(diff_ids: tuple[Digest, ...]) -> tuple[Digest, ...]:
    """The OCI chain id of every prefix of `diff_ids`, the bottom layer's first (image-spec config.md, "ChainID")."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)


class _Health(msgspec.Struct):
    Test: list[str] | None = None
    Interval: int = 0
    Timeout: int = 0
    StartPeriod: int = 0
    StartInterval: int = 0
    Retries: int = 0


class _Run(msgspec.Struct):
    User: str | None = None
    ExposedPorts: dict[str, object] | None = None
    Env: list[str] | None = None
    Entrypoint: list[str] | None = None
    Cmd: list[str] | None = None
    Volumes: dict[str, object] | None = None
    WorkingDir: str | None = None
    Labels: dict[str, str] | None = None
    StopSignal: str | None = None
    Shell: list[str] | None = None
    Healthcheck: _Health | None = None


class _Rootfs(msgspec.Struct):
    type: str = "layers"
    diff_ids: list[str] = []


class _Step(msgspec.Struct):
    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class _Config(msgspec.Struct):
    rootfs: _Rootfs
    architecture: str = ""
    os: str = ""
    variant: str | None = None
    created: str | None = None
    author: str | None = None
    config: _Run | None = None
    history: list[_Step] | None = None


def _from_wire(wire: _Config) -> ImageConfig:
    run = wire.config or _Run()
    return ImageConfig(
        platform=Platform(wire.os or "linux", wire.architecture, wire.variant or "").normalised(),
        created=wire.created or "",
        author=wire.author or "",
        user=run.User or "",
        environment=tuple(run.Env or ()),
        entrypoint=tuple(run.Entrypoint or ()),
        command=tuple(run.Cmd or ()),
        working_directory=run.WorkingDir or "",
        stop_signal=run.StopSignal or "",
        labels=run.Labels or {},
        exposed_ports=tuple(sorted(run.ExposedPorts or ())),
        volumes=tuple(sorted(run.Volumes or ())),
        shell=tuple(run.Shell or ()),
        health_check=_health(run.Healthcheck),
        diff_ids=tuple(Digest.stored(each) for each in wire.rootfs.diff_ids),
        history=tuple(
            History(
                created=step.created or "",
                created_by=step.created_by or "",
                author=step.author or "",
                comment=step.comment or "",
                empty_layer=bool(step.empty_layer),
            )
            for step in wire.history or ()
        ),
    )


def _health(wire: _Health | None) -> HealthCheck | None:
    if wire is None:
        return None
    return HealthCheck(
        test=tuple(wire.Test or ()),
        interval_ns=wire.Interval,
        timeout_ns=wire.Timeout,
        start_period_ns=wire.StartPeriod,
        start_interval_ns=wire.StartInterval,
        retries=wire.Retries,
    )
