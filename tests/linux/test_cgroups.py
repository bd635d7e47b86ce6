"""Cgroups of this machine's kind (v1 or v2): made, limited, entered, frozen, killed, removed."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from corten_shim.cgroups import Cgroup, files, open_cgroup, version
from corten_shim.linux.errors import RuntimeFault

from tests.support import leftovers

pytestmark = [pytest.mark.root, pytest.mark.vm]

LIMITS: dict[str, Any] = {
    "memory": {"limit": 64 << 20, "swap": 64 << 20},
    "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 20},
    "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "access": "rw"}],
}


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """A name for a cgroup that is not there yet; what is there after the test is removed, parents included."""
    parent = f"{leftovers.CGROUP}-groups-{secrets.token_hex(4)}"
    found = open_cgroup(f"{parent}/box")
    yield found
    found.kill()
    found.remove()
    assert leftovers.gone(lambda: leftovers.remove_cgroups(parent)) == []


@pytest.fixture
def sleeper() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts processes that only sleep."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["/bin/sleep", "60"]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def read(cgroup: Cgroup, name: str) -> str:
    """The file `name` of whichever directory of `cgroup` has it."""
    found = [path / name for path in leftovers.cgroups(cgroup.path) if (path / name).exists()]
    return found[0].read_text().strip()


def there(cgroup: Cgroup) -> list[Path]:
    return leftovers.cgroups(cgroup.path)


def test_limits_are_in_force(cgroup: Cgroup) -> None:
    cgroup.create(LIMITS)
    if version() == 2:
        assert read(cgroup, "memory.max") == str(64 << 20)
        assert read(cgroup, "memory.swap.max") == "0"
        assert read(cgroup, "cpu.max") == "50000 100000"
        assert read(cgroup, "cpu.weight") == "20"
    else:
        assert read(cgroup, "memory.limit_in_bytes") == str(64 << 20)
        assert read(cgroup, "cpu.cfs_quota_us") == "50000"
        assert read(cgroup, "cpu.shares") == "512"
        assert read(cgroup, "devices.list") == "c 1:* rw"
    assert read(cgroup, "pids.max") == "20"
    assert read(cgroup, "cpuset.cpus") == "0"


@pytest.mark.parametrize(
    ("resources", "named"),
    [
        ({"memory": {"limit": 1}}, "1"),
        ({"cpu": {"cpus": "4000"}}, "cpuset.cpus=4000"),
        ({"cpu": {"quota": 5, "period": 100_000}}, "5"),
    ],
)
def test_a_limit_that_cannot_be_is_named_and_nothing_is_left(
    cgroup: Cgroup, resources: dict[str, Any], named: str
) -> None:
    with pytest.raises(RuntimeFault) as caught:
        cgroup.create(resources)
    assert named in caught.value.name
    assert there(cgroup) == []


def test_processes_enter_and_are_listed_those_of_groups_below_too(
    cgroup: Cgroup, sleeper: Callable[[], subprocess.Popen[bytes]]
) -> None:
    cgroup.create({})
    process = sleeper()
    cgroup.add(process.pid)
    assert cgroup.pids() == [process.pid]
    for place in there(cgroup):
        (place / "below").mkdir()
    second = sleeper()
    for place in there(cgroup):
        if place.name == "below":
            for name in ("cpuset.mems", "cpuset.cpus"):
                if (place / name).exists() and version() == 1:
                    (place / name).write_text((place.parent / name).read_text())
            files.write(f"{place}/cgroup.procs", str(second.pid))
    assert sorted(cgroup.pids()) == sorted([process.pid, second.pid])


def test_frozen_processes_stand_still_and_die_all_the_same(
    cgroup: Cgroup, sleeper: Callable[[], subprocess.Popen[bytes]]
) -> None:
    cgroup.create({})
    process = sleeper()
    cgroup.add(process.pid)
    cgroup.freeze()
    cgroup.thaw()
    assert process.poll() is None
    cgroup.freeze()
    cgroup.kill()
    assert process.wait(5) == -9


def test_kill_and_remove_take_what_is_below_too(cgroup: Cgroup, sleeper: Callable[[], subprocess.Popen[bytes]]) -> None:
    cgroup.create({})
    for place in there(cgroup):
        (place / "a").mkdir()
        (place / "a/b").mkdir()
    process = sleeper()
    cgroup.add(process.pid)
    cgroup.kill()
    process.wait(5)
    cgroup.remove()
    assert there(cgroup) == []
    cgroup.remove()  # a second time is fine


def test_what_an_earlier_container_left_is_taken_when_it_is_empty(cgroup: Cgroup) -> None:
    cgroup.create({"pids": {"limit": 5}})
    open_cgroup(cgroup.path).create({"pids": {"limit": 7}})
    assert read(cgroup, "pids.max") == "7"


def test_what_somebody_lives_in_is_refused_and_left_alone(
    cgroup: Cgroup, sleeper: Callable[[], subprocess.Popen[bytes]]
) -> None:
    cgroup.create({})
    process = sleeper()
    cgroup.add(process.pid)
    with pytest.raises(RuntimeFault) as caught:
        open_cgroup(cgroup.path).create({})
    assert caught.value.kind == "cgroup"
    assert cgroup.pids() == [process.pid]


def test_what_is_not_there_has_no_processes_and_no_kills(cgroup: Cgroup) -> None:
    assert cgroup.pids() == []
    assert cgroup.oom_kills() == 0
    cgroup.kill()
    cgroup.remove()


def test_making_and_removing_is_quick(cgroup: Cgroup) -> None:
    began = time.perf_counter()
    for _ in range(5):
        cgroup.create({})
        cgroup.remove()
    assert time.perf_counter() - began < 2
