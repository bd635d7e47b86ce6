"""Values that several nouns share: descriptors, platforms, mounts, pages."""

from __future__ import annotations

from collections.abc import Mapping

from corten._values import INT, LABELS, NOTHING, TEXT, TEXTS, Time, Value, one

__all__ = ["Descriptor", "Mount", "Page", "Platform", "Time"]


class Platform(Value):
    """An OCI platform: what an image was built for."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    WIRE = {1: ("os", TEXT), 2: ("architecture", TEXT), 3: ("variant", TEXT)}

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """`linux/arm64/v8`; a lone word is an architecture of linux."""
        parts = text.split("/")
        if len(parts) == 1:
            parts = ["linux", *parts]
        if len(parts) > 3 or not all(parts):
            raise ValueError(f'"{text}" is no platform: use OS/ARCHITECTURE[/VARIANT], such as linux/arm64')
        return cls(os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) > 2 else "")


class Descriptor(Value):
    """An OCI content descriptor: what a blob is, its digest and its size in bytes."""

    media_type: str = ""
    digest: str = ""
    size: int = 0
    platform: Platform | None = None
    annotations: Mapping[str, str] = NOTHING
    WIRE = {
        1: ("media_type", TEXT),
        2: ("digest", TEXT),
        3: ("size", INT),
        4: ("platform", one(Platform)),
        5: ("annotations", LABELS),
    }


class Mount(Value):
    """A filesystem to mount, as mount(2) takes it."""

    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    WIRE = {1: ("type", TEXT), 2: ("source", TEXT), 3: ("options", TEXTS)}


class Page(Value):
    """One page of a list; the engine's size where none is given."""

    size: int = 0
    token: str = ""
    WIRE = {1: ("size", INT), 2: ("token", TEXT)}
