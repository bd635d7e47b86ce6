"""Descriptors, manifests and indexes, of OCI and of docker's schema 2.

Owns the media types, their decoding with size limits, and the choice of a manifest from an index. What is not one of
these (docker schema 1, artifacts, anything else) is refused by its name.
Source: OCI image-spec manifest.md, image-index.md, descriptor.md; distribution "Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from corten_api.errors import FailedPrecondition, InvalidArgument

from cortend.oci import platform as platforms
from cortend.oci.digest import Digest
from cortend.oci.image_config import MAX_LAYERS
from cortend.oci.platform import Platform

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)
ACCEPTED = (*INDEX_TYPES, *MANIFEST_TYPES)  # for a registry's Accept header

MAX_MANIFEST_SIZE = 4 << 20
MAX_INDEX_ENTRIES = 1000

_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs"


class Compression(enum.Enum):
    """How a layer blob is packed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


_LAYERS = {
    OCI_LAYER: Compression.NONE,
    f"{OCI_LAYER}+gzip": Compression.GZIP,
    f"{OCI_LAYER}+zstd": Compression.ZSTD,
    "application/vnd.oci.image.layer.nondistributable.v1.tar": Compression.NONE,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": Compression.GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": Compression.ZSTD,
    f"{_DOCKER_LAYER}.diff.tar": Compression.NONE,
    f"{_DOCKER_LAYER}.diff.tar.gzip": Compression.GZIP,
    f"{_DOCKER_LAYER}.diff.tar.zstd": Compression.ZSTD,
    f"{_DOCKER_LAYER}.foreign.diff.tar": Compression.NONE,
    f"{_DOCKER_LAYER}.foreign.diff.tar.gzip": Compression.GZIP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What points at a blob: its type, digest and size in bytes."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image of one platform: its configuration and its layers, the bottom one first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Several images under one name."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    def select(self, wanted: Platform, *, name: str = "") -> Descriptor:
        """The entry that suits `wanted` best. Raises FailedPrecondition naming what is offered where none does.

        Entries without a platform are taken only where they are the single one (their configuration tells it).
        Attestations and other entries that are no image are passed over.
        """
        images = [each for each in self.manifests if each.media_type in ACCEPTED and not _is_attestation(each)]
        chosen = platforms.best(wanted, [each.platform for each in images])
        if chosen is not None:
            return images[chosen]
        if len(images) == 1 and images[0].platform is None:
            return images[0]
        offered = ", ".join(sorted({str(each.platform) for each in images if each.platform})) or "nothing"
        raise FailedPrecondition("image", name, f"there is no image for {wanted}; it has {offered}")


def decode(data: bytes, media_type: str | None = None, *, name: str = "") -> Manifest | Index:
    """Decode a manifest or an index. `media_type` is what the registry or descriptor called it, `name` its digest.

    Raises InvalidArgument for wrong media types (naming them), sizes, and documents that are none.
    """
    if len(data) > MAX_MANIFEST_SIZE:
        raise _bad(name, f"is larger than {MAX_MANIFEST_SIZE} bytes")
    try:
        head = msgspec.json.decode(data, type=_Head)
        kind = _kind(head, (media_type or "").partition(";")[0].strip(), name)
        wire = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _bad(name, f"cannot be read: {error}") from None
    if kind in INDEX_TYPES:
        return _index(wire, kind, name)
    return _manifest(wire, kind, name)


def layer_compression(media_type: str) -> Compression:
    """How a layer of that type is packed. Raises InvalidArgument for what is no layer, or an encrypted one."""
    found = _LAYERS.get(media_type)
    if found is None:
        hint = "encrypted layers are not supported" if media_type.endswith("+encrypted") else "it is not a layer's"
        raise InvalidArgument("media type", media_type, f"{hint}; tar, tar+gzip and tar+zstd layers are")
    return found


class _Platform(msgspec.Struct):
    architecture: str = ""
    os: str = ""
    variant: str | None = None


class _Descriptor(msgspec.Struct, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    platform: _Platform | None = None
    annotations: dict[str, str] | None = None


class _Head(msgspec.Struct, rename="camel"):
    """What says what the document is, before the rest of it is held to that."""

    schema_version: int | None = None
    media_type: str | None = None
    manifests: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    fs_layers: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="fsLayers", default=msgspec.UNSET)


class _Document(msgspec.Struct, rename="camel"):
    artifact_type: str | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    annotations: dict[str, str] | None = None


def _kind(wire: _Head, said: str, name: str) -> str:
    """The media type that counts: the document's own, which must be the one it was announced as."""
    own = wire.media_type or ""
    for each in (said, own):
        if each.startswith(_SCHEMA1):
            raise _bad(name, f'media type "{each}" is docker schema 1, which is obsolete; push the image again')
    if wire.schema_version == 1 or wire.fs_layers is not msgspec.UNSET:
        raise _bad(name, "is a docker schema 1 manifest, which is obsolete; push the image again")
    if wire.schema_version != 2:
        raise _bad(name, f"schemaVersion is {wire.schema_version}, not 2")
    generic = said in ("", "application/json", "application/octet-stream", "text/plain")
    if own and not generic and own != said:
        raise _bad(name, f'says that it is "{own}" but was announced as "{said}"')
    kind = own or ("" if generic else said)
    if not kind:
        kind = OCI_INDEX if wire.manifests not in (msgspec.UNSET, msgspec.Raw(b"null")) else OCI_MANIFEST
    if kind not in ACCEPTED:
        raise _bad(name, f'media type "{kind}" is not that of an image; it must be one of {", ".join(ACCEPTED)}')
    return kind


def _index(wire: _Document, kind: str, name: str) -> Index:
    if wire.manifests is None:
        raise _bad(name, 'is an index without "manifests"')
    if wire.layers is not None or wire.config is not None:
        raise _bad(name, "is an index that has layers or a configuration too")
    if len(wire.manifests) > MAX_INDEX_ENTRIES:
        raise _bad(name, f"has more than {MAX_INDEX_ENTRIES} entries")
    manifests = tuple(_descriptor(each, name) for each in wire.manifests)
    return Index(media_type=kind, manifests=manifests, annotations=wire.annotations or {})


def _manifest(wire: _Document, kind: str, name: str) -> Manifest:
    if wire.manifests is not None:
        raise _bad(name, 'is a manifest that has "manifests" too')
    if wire.config is None or wire.layers is None:
        raise _bad(name, 'is a manifest without "config" or "layers"')
    if len(wire.layers) > MAX_LAYERS:
        raise _bad(name, f"has more than {MAX_LAYERS} layers")
    config = _descriptor(wire.config, name)
    if config.media_type not in CONFIG_TYPES:
        raise _bad(name, f'its configuration is of media type "{config.media_type}": this is not a container image')
    layers = tuple(_descriptor(each, name) for each in wire.layers)
    for layer in layers:
        layer_compression(layer.media_type)
    return Manifest(media_type=kind, config=config, layers=layers, annotations=wire.annotations or {})


def _descriptor(wire: _Descriptor, name: str) -> Descriptor:
    if not 0 <= wire.size < 1 << 50:
        raise _bad(name, f"says that {wire.digest} has {wire.size} bytes")
    platform = None
    if wire.platform is not None and wire.platform.os:
        found = wire.platform
        platform = Platform(found.os, found.architecture, found.variant or "")
    return Descriptor(
        media_type=wire.media_type,
        digest=Digest.parse(wire.digest),
        size=wire.size,
        platform=platform,
        annotations=wire.annotations or {},
    )


def _is_attestation(entry: Descriptor) -> bool:
    return entry.annotations.get("vnd.docker.reference.type") == "attestation-manifest"


def _bad(name: str, detail: str) -> InvalidArgument:
    return InvalidArgument("manifest", name, detail)
