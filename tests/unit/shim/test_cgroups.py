"""What is written to cgroup files, and how they are read. The kernel's answers are in tests/linux."""

from __future__ import annotations

from typing import Any

import pytest
from corten_shim.cgroups import files
from corten_shim.cgroups.v1 import device_line, parse_mountinfo
from corten_shim.cgroups.v2 import weight_of_shares
from corten_shim.linux.errors import RuntimeFault

MOUNTINFO = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:39 / /mnt/elsewhere rw,relatime - cgroup cgroup rw,memory
43 31 0:40 / /tmp rw - tmpfs tmpfs rw
"""


def test_hierarchies_are_found_with_controllers_that_share_one() -> None:
    assert parse_mountinfo(MOUNTINFO) == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "name=systemd": "/sys/fs/cgroup/systemd",
    }


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ({"allow": False, "access": "rwm"}, "a *:* rwm"),
        ({"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}, "c 1:3 rw"),
        ({"allow": True, "type": "b", "major": -1, "access": "m"}, "b *:* m"),
        ({"allow": True, "type": "c", "major": 136}, "c 136:* rwm"),
    ],
)
def test_device_rules_as_v1_takes_them(rule: dict[str, Any], line: str) -> None:
    assert device_line(rule) == line


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000), (0, 1), (10**9, 10000)])
def test_shares_become_a_weight(shares: int, weight: int) -> None:
    assert weight_of_shares(shares) == weight


@pytest.mark.parametrize("limit", [0, 1, (6 << 20) - 1])
def test_a_limit_that_nothing_can_live_with_is_refused_and_named(limit: int) -> None:
    with pytest.raises(RuntimeFault) as caught:
        files.check_memory(limit)
    assert (caught.value.kind, caught.value.name) == ("memory limit", str(limit))


def test_no_limit_and_enough_are_fine() -> None:
    files.check_memory(-1)
    files.check_memory(6 << 20)


def test_counters_are_read_by_their_whole_name() -> None:
    text = "oom 3\noom_kill 2\noom_kill_disable 7\n"
    assert files.counter(text, "oom_kill") == 2
    assert files.counter(text, "frozen") == 0
