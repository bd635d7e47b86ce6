"""Where things lie on the host.

Owns every path below ROOT and STATE that belongs to a container. Makes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`cgroup_parent` is an absolute path below the cgroup mounts: "/corten"."""

    root: Path
    state: Path
    cgroup_parent: str

    @property
    def shims(self) -> Path:
        return self.state / "shims"

    @property
    def containers(self) -> Path:
        return self.root / "containers"

    @property
    def seccomp_cache(self) -> Path:
        return self.state / "seccomp"

    @property
    def database(self) -> Path:
        return self.root / "meta.db"

    def bundle(self, container_id: str) -> Path:
        """The OCI bundle of a live container."""
        return self.shims / container_id

    def log_directory(self, container_id: str) -> Path:
        return self.containers / container_id

    def exit_record(self, container_id: str) -> Path:
        return self.containers / container_id / "exit.json"

    def cgroup(self, container_id: str) -> str:
        return f"{self.cgroup_parent}/{container_id}"
