"""Which kind of cgroups this host has.

A cgroup2 mount may exist that holds no useful controller (hybrid), so what decides is the filesystem that
/sys/fs/cgroup itself is.
"""

from __future__ import annotations

import os

from corten_shim.cgroups.v1 import CgroupV1
from corten_shim.cgroups.v2 import CgroupV2
from corten_shim.linux.const import CGROUP2_SUPER_MAGIC
from corten_shim.linux.libc import fstatfs_type

ROOT = "/sys/fs/cgroup"
Cgroup = CgroupV1 | CgroupV2


def version() -> int:
    """2 for the unified hierarchy, 1 for everything else."""
    fd = os.open(ROOT, os.O_PATH | os.O_CLOEXEC)
    try:
        return 2 if fstatfs_type(fd) == CGROUP2_SUPER_MAGIC else 1
    finally:
        os.close(fd)


def open_cgroup(path: str) -> Cgroup:
    """The cgroup at `path` ("/corten/<id>"), which need not exist yet."""
    return CgroupV2(path) if version() == 2 else CgroupV1(path)
