"""A mount, as mount(2) takes it: the value that snapshots hand out and runtimes perform. Mounts nothing itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mount:
    """`type` is "overlay" or "bind"; `options` in the order they apply: "rbind", "ro", "lowerdir=/a:/b"."""

    type: str
    source: str
    options: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        """True where nothing can be written through it."""
        return "ro" in self.options

    def option(self, name: str) -> str | None:
        """The value of "name=value"; None where there is no such option."""
        prefix = f"{name}="
        return next((each[len(prefix) :] for each in self.options if each.startswith(prefix)), None)
