"""What an image archive holds: `docker save`, classic and OCI-compatible, and OCI layouts, as one description.

Owns index.json, manifest.json and repositories' names in them. Copies no blobs: it says which member is which.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec
from corten_api.errors import DataLoss, FailedPrecondition, InvalidArgument

from cortend.images.archive import Archive, Member
from cortend.images.assembly import Parts, check_config, check_manifest
from cortend.oci import platform as platforms
from cortend.oci.digest import Digest
from cortend.oci.image_config import MAX_CONFIG_SIZE, ImageConfig
from cortend.oci.manifest import (
    ACCEPTED,
    MAX_MANIFEST_SIZE,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    decode,
)
from cortend.oci.platform import Platform
from cortend.oci.reference import Reference

_CONTAINERD_NAME = "io.containerd.image.name"
_REFERENCE_NAME = "org.opencontainers.image.ref.name"
_DIGEST_NAME = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?")
_MAX_IMAGES = 1000
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedImage:
    """One image of an archive: its parts, names, and where each blob's bytes are.

    `documents` are blobs that are at hand (the manifest, an index); `members` are those still to be copied.
    """

    parts: Parts
    names: tuple[Reference, ...]
    documents: tuple[bytes, ...]
    members: tuple[tuple[Descriptor, Member], ...]


class _Saved(msgspec.Struct):
    Config: str
    Layers: list[str] | None = None
    RepoTags: list[str] | None = None


def images(archive: Archive, wanted: Platform) -> list[ArchivedImage]:
    """Every image of the archive, for the platform that is wanted. Blocks.

    Raises InvalidArgument for what is no image archive, FailedPrecondition where an image is for other platforms only,
    DataLoss for members that are not what their digest says.
    """
    if archive.find("index.json") is not None:
        return _oci_images(archive, wanted)
    if archive.find("manifest.json") is not None:
        return [_saved_image(archive, each, wanted) for each in _saved(archive)]
    raise InvalidArgument("image archive", "", "has neither index.json nor manifest.json: it is not an image archive")


def _oci_images(archive: Archive, wanted: Platform) -> list[ArchivedImage]:
    index = decode(archive.read("index.json", MAX_MANIFEST_SIZE), OCI_INDEX, name="index.json")
    if not isinstance(index, Index):
        raise InvalidArgument("image archive", "", "its index.json is not an index")
    saved = _saved(archive) if archive.find("manifest.json") is not None else []
    tags = {_hex_of(each.Config): each.RepoTags or [] for each in saved}
    found: list[ArchivedImage] = []
    refused: list[tuple[tuple[Reference, ...], FailedPrecondition]] = []
    for entry in index.manifests:
        if entry.media_type not in ACCEPTED:
            continue
        names = _annotated(entry)
        try:
            image = _oci_image(archive, entry, wanted, names)
        except FailedPrecondition as error:
            refused.append((names, error))
            continue
        more = _references(tags.get(image.parts.manifest.config.digest.hex, ()))
        found.append(replace(image, names=_unique((*names, *more))))
    for names, refusal in refused:  # fine where the same names have an image that suits
        if not any(_annotated(each.parts.target) == names for each in found):
            raise refusal
    if not found:
        raise InvalidArgument("image archive", "", "its index.json names no image")
    return _merged(found)


def _oci_image(archive: Archive, entry: Descriptor, wanted: Platform, names: tuple[Reference, ...]) -> ArchivedImage:
    name = str(names[0]) if names else str(entry.digest)
    documents: list[bytes] = []
    descriptor = entry
    if entry.platform is not None and platforms.rank(wanted, entry.platform) is None:
        raise FailedPrecondition("image", name, f"there is no image for {wanted}; it has {entry.platform}")
    while True:
        data = archive.read(_blob(descriptor), MAX_MANIFEST_SIZE)
        _verify(data, descriptor)
        documents.append(data)
        document = decode(data, descriptor.media_type, name=name)
        if isinstance(document, Manifest):
            break
        if len(documents) > 3:
            raise InvalidArgument("image", name, "its indexes are nested more than 3 deep")
        present = tuple(each for each in document.manifests if archive.find(_blob(each)) is not None)
        descriptor = replace(document, manifests=present).select(wanted, name=name)
    check_manifest(document, name=name)
    data = archive.read(_blob(document.config), MAX_CONFIG_SIZE)
    _verify(data, document.config)
    config = ImageConfig.decode(data, name=str(document.config.digest))
    check_config(document, config, wanted, name=name)
    members = []
    for layer in document.layers:
        member = archive.member(_blob(layer))
        if member.size != layer.size:
            raise DataLoss("layer", str(layer.digest), f"has {member.size} bytes, not the {layer.size} it should have")
        members.append((layer, member))
    parts = Parts(target=entry, descriptor=descriptor, manifest=document, config=config)
    return ArchivedImage(parts=parts, names=names, documents=(*documents, data), members=tuple(members))


def _saved_image(archive: Archive, saved: _Saved, wanted: Platform) -> ArchivedImage:
    """An image of the classic layout: no manifest came with it, so one is made."""
    names = _references(saved.RepoTags or ())
    data = archive.read(saved.Config, MAX_CONFIG_SIZE)
    digest = Digest.of(data)
    if (said := _hex_of(saved.Config)) and said != digest.hex:
        raise DataLoss("image configuration", saved.Config, f"its bytes have the digest {digest}")
    config = ImageConfig.decode(data, name=str(digest))
    name = str(names[0]) if names else str(digest)
    paths = saved.Layers or []
    if len(paths) != len(config.diff_ids):
        detail = f"manifest.json names {len(paths)} layers but its configuration {len(config.diff_ids)}"
        raise InvalidArgument("image", name, detail)
    members = [_layer(archive, path, diff_id) for path, diff_id in zip(paths, config.diff_ids, strict=True)]
    manifest = Manifest(
        media_type=OCI_MANIFEST,
        config=Descriptor(media_type=OCI_CONFIG, digest=digest, size=len(data)),
        layers=tuple(layer for layer, _ in members),
    )
    check_config(manifest, config, wanted, name=name)
    encoded = _encoded(manifest)
    descriptor = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(encoded), size=len(encoded))
    parts = Parts(target=descriptor, descriptor=descriptor, manifest=manifest, config=config)
    return ArchivedImage(parts=parts, names=names, documents=(encoded, data), members=tuple(members))


def _layer(archive: Archive, path: str, diff_id: Digest) -> tuple[Descriptor, Member]:
    """A layer's descriptor: a plain one has its diff_id for a digest, a compressed one's is computed."""
    member = archive.member(path)
    magic = archive.chunk(member, 0, 4)
    suffix = "+gzip" if magic.startswith(b"\x1f\x8b") else "+zstd" if magic == b"\x28\xb5\x2f\xfd" else ""
    digest = _hashed(archive, member) if suffix else diff_id
    return Descriptor(media_type=f"{OCI_LAYER}{suffix}", digest=digest, size=member.size), member


def _hashed(archive: Archive, member: Member) -> Digest:
    found, offset = hashlib.sha256(), 0
    while data := archive.chunk(member, offset, _CHUNK):
        found.update(data)
        offset += len(data)
    return Digest("sha256", found.hexdigest())


def _saved(archive: Archive) -> list[_Saved]:
    try:
        found = msgspec.json.decode(archive.read("manifest.json", MAX_MANIFEST_SIZE), type=list[_Saved])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument("image archive", "", f"its manifest.json cannot be read: {error}") from None
    if not 0 < len(found) <= _MAX_IMAGES:
        raise InvalidArgument("image archive", "", f"its manifest.json names {len(found)} images")
    return found


def _encoded(manifest: Manifest) -> bytes:
    def wire(descriptor: Descriptor) -> dict[str, object]:
        return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}

    document = {
        "schemaVersion": 2,
        "mediaType": manifest.media_type,
        "config": wire(manifest.config),
        "layers": [wire(each) for each in manifest.layers],
    }
    return msgspec.json.encode(document)


def _annotated(entry: Descriptor) -> tuple[Reference, ...]:
    """The name that an index's entry carries. A reference name that is only a tag names nothing by itself."""
    name = entry.annotations.get(_CONTAINERD_NAME, "")
    if not name:
        short = entry.annotations.get(_REFERENCE_NAME, "")
        name = short if "/" in short or ":" in short else ""
    return _references([name] if name else [])


def _references(names: Iterable[str]) -> tuple[Reference, ...]:
    return tuple(Reference.parse(each) for each in names)


def _merged(found: list[ArchivedImage]) -> list[ArchivedImage]:
    """One entry per image: an index names it once per tag."""
    by_id: dict[Digest, ArchivedImage] = {}
    for each in found:
        digest = each.parts.manifest.config.digest
        before = by_id.get(digest)
        by_id[digest] = each if before is None else replace(before, names=_unique((*before.names, *each.names)))
    return list(by_id.values())


def _unique(names: Iterable[Reference]) -> tuple[Reference, ...]:
    return tuple(dict.fromkeys(names))


def _verify(data: bytes, descriptor: Descriptor) -> None:
    found = Digest.of(data)
    if found != descriptor.digest or len(data) != descriptor.size:
        raise DataLoss("blob", str(descriptor.digest), f"its {len(data)} bytes in the archive have the digest {found}")


def _blob(descriptor: Descriptor) -> str:
    return f"blobs/sha256/{Digest.stored(str(descriptor.digest)).hex}"


def _hex_of(path: str) -> str:
    """The digest that a file's name tells; "" where it tells none."""
    match = _DIGEST_NAME.fullmatch(path)
    return match[1] if match is not None else ""
