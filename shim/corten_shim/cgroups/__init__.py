"""Cgroups of containers: one interface, two kernels' ways.

Owns the choice between them. `Cgroup` says what both offer: `create`, `add`, `join`, `pids`, `freeze`,
`thaw`, `kill`, `remove`, `oom_kills`; `path` is relative to the cgroup mounts and starts with "/".
"""

from __future__ import annotations

from corten_shim.cgroups.select import Cgroup, open_cgroup, version

__all__ = ["Cgroup", "open_cgroup", "version"]
