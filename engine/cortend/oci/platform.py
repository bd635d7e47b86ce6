"""Platforms: what an image runs on, and which of an index's entries suits a machine.

Owns names (GOARCH), normalisation and the order of preference. Knows no manifests.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from corten_api.errors import InvalidArgument

# What uname calls it -> what images call it.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
    "mips64": ("mips64le", ""),
}
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm", "armel": "arm"}
_ARM_VARIANTS = ("v8", "v7", "v6", "v5")
_AMD64_LEVELS = ("v4", "v3", "v2", "v1")


@dataclass(frozen=True, slots=True)
class Platform:
    """`os` and `architecture` as Go names them; `variant` is "" where there is none. str() gives "linux/arm64/v8"."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def host(cls) -> Platform:
        """The platform of this machine. Raises InvalidArgument on a machine that images have no name for."""
        machine = os.uname().machine
        if machine not in _MACHINES:
            raise InvalidArgument("platform", machine, "no image architecture is known for this machine")
        architecture, variant = _MACHINES[machine]
        return cls("linux", architecture, variant).normalised()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read "linux/amd64", "linux/arm/v7" or just "arm64" (linux is meant). Raises InvalidArgument."""
        parts = text.split("/")
        if len(parts) == 1:
            parts = ["linux", *parts]
        if not 2 <= len(parts) <= 3 or not all(part and part.isascii() and part.isprintable() for part in parts):
            raise InvalidArgument("platform", text, 'is not of the form "os/architecture[/variant]"')
        return cls(*parts).normalised()

    def normalised(self) -> Platform:
        """Lower case, aliases replaced, and the variant written that the architecture implies (arm64: v8, arm: v7)."""
        system, machine, variant = self.os.lower(), self.architecture.lower(), self.variant.lower()
        if machine == "armel" and not variant:
            variant = "v6"
        machine = _ALIASES.get(machine, machine)
        if machine == "arm64":
            variant = variant if variant not in ("", "8") else "v8"
        elif machine == "arm":
            variant = variant or "v7"
            variant = variant if variant.startswith("v") else f"v{variant}"
        elif machine == "amd64" and variant == "v1":
            variant = ""
        return Platform(system, machine, variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def rank(wanted: Platform, offered: Platform) -> int | None:
    """How well `offered` runs on `wanted`: 0 is exact, larger is worse, None is not at all."""
    want, have = wanted.normalised(), offered.normalised()
    if want.os != have.os:
        return None
    runnable = _runnable(want)
    return runnable.index(have) if have in runnable else None


def best(wanted: Platform, offered: Sequence[Platform | None]) -> int | None:
    """The index of what suits `wanted` best; the first of equals; None where nothing does."""
    ranked = [
        (value, index)
        for index, platform in enumerate(offered)
        if platform is not None and (value := rank(wanted, platform)) is not None
    ]
    return min(ranked)[1] if ranked else None


def _runnable(want: Platform) -> list[Platform]:
    """Every platform that `want` can run, best first."""
    system, machine, variant = want.os, want.architecture, want.variant
    if machine == "arm" and variant in _ARM_VARIANTS:
        return [Platform(system, "arm", each) for each in _ARM_VARIANTS[_ARM_VARIANTS.index(variant) :]]
    if machine == "arm64":
        return [want, Platform(system, "arm64", "v8")] if variant != "v8" else [want]
    if machine == "amd64" and variant in _AMD64_LEVELS:
        levels = _AMD64_LEVELS[_AMD64_LEVELS.index(variant) :]
        return [Platform(system, "amd64", "" if each == "v1" else each) for each in levels]
    return [want]
