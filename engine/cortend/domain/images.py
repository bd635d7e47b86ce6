"""Images as values: one image of one platform, and the names that point at it.

Owns what is stored about an image. Blobs, snapshots and rules about removing are elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cortend.oci.digest import Digest
from cortend.oci.manifest import Descriptor
from cortend.oci.platform import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageName:
    """A name that `namespace` gave: "docker.io/library/busybox:latest", or with "@sha256:..." as it was pulled."""

    namespace: str
    name: str
    target: Descriptor  # an index or a manifest

    @property
    def by_digest(self) -> bool:
        """True for a name that holds a digest; it never moves to another image."""
        return "@" in self.name

    @property
    def repository(self) -> str:
        """The name without its tag or digest."""
        if self.by_digest:
            return self.name.partition("@")[0]
        return self.name.rpartition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """`id` is the digest of the configuration; `chain_id` names the snapshot of its layers ("" without layers)."""

    id: Digest
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]
    chain_id: str
    platform: Platform
    created_at_ns: int  # by the image's own account, 0 where it tells none
    pulled_at_ns: int
    size: int  # bytes of the unpacked layers, as du counts them
    content_size: int  # bytes of the blobs
    labels: Mapping[str, str] = field(default_factory=dict)
    names: tuple[ImageName, ...] = ()
    removed: bool = False  # forced away while a stopped container uses it: goes with that container

    @property
    def tags(self) -> tuple[str, ...]:
        """Names with a tag, each once."""
        return tuple(sorted({each.name for each in self.names if not each.by_digest}))

    @property
    def digests(self) -> tuple[str, ...]:
        """Names with a digest, each once."""
        return tuple(sorted({each.name for each in self.names if each.by_digest}))

    @property
    def target(self) -> Descriptor:
        """What the names point at; the manifest where there is no name."""
        return self.names[0].target if self.names else self.manifest

    def pinned(self, namespace: str) -> bool:
        """True where it has names and all are others'."""
        return bool(self.names) and all(each.namespace != namespace for each in self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUser:
    """A container that uses an image."""

    id: str
    name: str
    running: bool
