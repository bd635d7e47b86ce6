"""Namespaces of a container beyond the usual ones: user and time, and those it joins by their path."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import leftovers
from tests.support.runtime import Runtime, Spec, bind

pytestmark = [pytest.mark.root, pytest.mark.vm]

INVALID_ARGUMENT = 3
FIRST, SIZE = 200_000, 65_536


@pytest.fixture(scope="module")
def runtime(run_directory: Path) -> Runtime:
    return Runtime(run_directory / "namespaces")


@pytest.fixture(autouse=True)
def leaves_nothing(runtime: Runtime) -> Iterator[None]:
    yield
    assert leftovers.mounts(str(runtime.directory)) == []
    assert leftovers.cgroups_of_runtimes() == []


def shifted(spec: Spec) -> None:
    """Give the container a user namespace, and have its root's ids shifted."""
    ranges = [{"containerID": 0, "hostID": FIRST, "size": SIZE}]
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"] |= {"uidMappings": ranges, "gidMappings": ranges}
    del spec["linux"]["sysctl"]["net.ipv4.ping_group_range"]  # it would name groups that are not mapped


def with_shifted_root(job: Spec) -> None:
    job["root"][3].append("idmap")


def both(*changes: Callable[[Spec], None]) -> Callable[[Spec], None]:
    def change(spec: Spec) -> None:
        for each in changes:
            each(spec)

    return change


def joining(kind: str, path: str) -> Callable[[Spec], None]:
    def change(spec: Spec) -> None:
        spaces = [each for each in spec["linux"]["namespaces"] if each["type"] != kind]
        spec["linux"]["namespaces"] = [*spaces, {"type": kind, "path": path}]
        if kind == "uts":
            del spec["hostname"]
        if kind == "network":
            spec["linux"]["sysctl"] = {}

    return change


def only_root(spec: Spec) -> None:
    """Nothing that names another group than 0: in this namespace there is none."""
    spec["linux"]["sysctl"] = {}
    for mount in spec["mounts"]:
        mount["options"] = [word for word in mount["options"] if word != "gid=5"]


@contextmanager
def holder(*options: str) -> Iterator[int]:
    """The pid of a process in namespaces of its own, made by unshare(1) with `options`."""
    argv = ["unshare", "--fork", "--kill-child", *options, "sh", "-c", "echo ready; exec sleep 60"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    try:
        yield int(child)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# user namespaces


def test_root_of_a_user_namespace_is_nobody_of_importance_outside(runtime: Runtime) -> None:
    script = "id -u; cat /proc/self/uid_map; touch /new; stat -c '%u %g' / /new /bin/busybox; exit 4"
    outcome = runtime.run("sh", "-c", script, change=shifted, prepare=with_shifted_root)
    assert outcome.fault is None, outcome.fault
    assert outcome.exit_code == 4
    uid, ids, *owners = outcome.output.splitlines()
    assert (uid, ids.split()) == ("0", ["0", str(FIRST), str(SIZE)])
    assert owners == ["0 0"] * 3


def test_what_it_writes_is_on_disk_as_its_own_root_wrote_it_and_layers_are_not_changed(runtime: Runtime) -> None:
    made: list[Path] = []

    def prepare(job: Spec) -> None:
        with_shifted_root(job)
        (upper,) = (word.partition("=")[2] for word in job["root"][3] if word.startswith("upperdir="))
        made.append(Path(upper))

    script = "chown 1000:1000 /etc/passwd; echo x > /mine; chown 7:8 /mine"
    assert runtime.run("sh", "-c", script, change=shifted, prepare=prepare).exit_code == 0
    (upper,) = made
    assert [(upper / name).stat().st_uid for name in ("mine", "etc/passwd")] == [7, 1000]
    assert (runtime.base / "etc/passwd").stat().st_uid == 0


def test_outside_its_processes_have_the_shifted_ids(runtime: Runtime) -> None:
    job, _output = runtime.job(("sleep", "60"), change=shifted)
    with_shifted_root(job)
    with runtime.held(job) as pid:
        status = Path(f"/proc/{pid}/status").read_text()
        (uids,) = (line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
        assert set(uids) == {str(FIRST)}
        assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")


def test_it_has_a_whole_dev_proc_sys_and_its_own_cgroups(runtime: Runtime) -> None:
    script = (
        "echo x > /dev/null && head -c 1 /dev/zero | wc -c && ls /dev/pts/ptmx /dev/shm && hostname &&"
        " mount | grep -c ' /sys/fs/cgroup' && cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls -ld /dev/null"
    )
    outcome = runtime.run("sh", "-c", script, change=shifted, prepare=with_shifted_root)
    assert outcome.fault is None, outcome.fault
    lines = outcome.output.splitlines()
    assert lines[0] == "1"
    assert "box" in lines
    assert "0" in lines


def test_its_capabilities_reach_nothing_of_the_host(runtime: Runtime) -> None:
    every = [f"CAP_{name}" for name in ("SYS_ADMIN", "NET_ADMIN", "SYS_MODULE", "MKNOD", "SYS_TIME", "DAC_OVERRIDE")]

    def change(spec: Spec) -> None:
        shifted(spec)
        spec["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), every)
        spec["linux"]["seccomp"] = None
        spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = []

    script = (
        "mknod /x c 1 3 || echo no node;"
        " echo 1 > /proc/sys/kernel/sysrq || echo no sysrq; mount -t tmpfs x /tmp && echo own mounts"
    )
    outcome = runtime.run("sh", "-c", f"({script}) 2>/dev/null", change=change, prepare=with_shifted_root)
    assert outcome.output.splitlines() == ["no node", "no sysrq", "own mounts"]


def test_a_user_of_it_gets_pipes_of_its_own(runtime: Runtime) -> None:
    def change(spec: Spec) -> None:
        shifted(spec)
        spec["process"]["user"] = {"username": "alice"}

    outcome = runtime.run("sh", "-c", "id -u; pwd; echo more > /tmp/x", change=change, prepare=with_shifted_root)
    assert outcome.output.splitlines()[0] == "1000"


def test_an_exec_is_in_the_same_user_namespace(runtime: Runtime) -> None:
    beside = {"args": ["sh", "-c", "id -u; cat /proc/self/uid_map"], "env": ["PATH=/bin"], "cwd": "/"}
    outcome = runtime.run("sleep", "60", change=shifted, prepare=with_shifted_root, exec=beside)
    assert outcome.fault is None, outcome.fault
    uid, ids = outcome.output.splitlines()
    assert (uid, ids.split()[1]) == ("0", str(FIRST))


def test_a_bind_mount_may_have_its_ids_shifted_by_a_map_of_its_own(runtime: Runtime, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "mine").write_text("x")
    os.chown(tmp_path / "mine", 5000, 6000)

    def change(spec: Spec) -> None:
        bind("/data", tmp_path, "idmap")(spec)
        spec["mounts"][-1]["uidMappings"] = [{"containerID": 5000, "hostID": 1000, "size": 1}]
        spec["mounts"][-1]["gidMappings"] = [{"containerID": 6000, "hostID": 1001, "size": 1}]

    outcome = runtime.run("stat", "-c", "%u %g", "/data/mine", change=change)
    assert outcome.fault is None, outcome.fault
    assert outcome.output.split() == ["1000", "1001"]


@pytest.mark.parametrize(
    ("maps", "named"),
    [
        ([], "namespace"),
        ([{"containerID": 1, "hostID": FIRST, "size": 10}], "uidMappings"),
        ([{"containerID": 0, "hostID": FIRST, "size": 10}, {"containerID": 5, "hostID": 9, "size": 9}], "uidMappings"),
    ],
)
def test_maps_that_cannot_be_are_refused_with_nothing_left(
    runtime: Runtime, maps: list[dict[str, int]], named: str
) -> None:
    def change(spec: Spec) -> None:
        spec["linux"]["namespaces"].append({"type": "user"})
        spec["linux"] |= {"uidMappings": maps, "gidMappings": maps}

    outcome = runtime.run("true", change=change)
    assert outcome.fault is not None
    assert (outcome.fault[0], outcome.fault[1]) == (INVALID_ARGUMENT, named)


def test_maps_without_a_user_namespace_are_refused(runtime: Runtime) -> None:
    ranges = [{"containerID": 0, "hostID": FIRST, "size": 1}]
    outcome = runtime.run("true", change=lambda spec: spec["linux"].update(uidMappings=ranges, gidMappings=ranges))
    assert outcome.fault is not None
    assert outcome.fault[:2] == (INVALID_ARGUMENT, "linux.uidMappings")


# time namespaces


def test_a_time_namespace_has_clocks_of_its_own(runtime: Runtime) -> None:
    def change(spec: Spec) -> None:
        spec["linux"]["namespaces"].append({"type": "time"})
        spec["linux"]["timeOffsets"] = {"boottime": {"secs": 86_400 * 100, "nanosecs": 5}, "monotonic": {"secs": 3}}

    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    outcome = runtime.run("cut", "-d.", "-f1", "/proc/uptime", change=change)
    assert outcome.fault is None, outcome.fault
    assert int(outcome.output) - before == pytest.approx(86_400 * 100, abs=10)


def test_offsets_need_a_new_time_namespace_and_known_clocks(runtime: Runtime) -> None:
    for offsets, spaces in (({"boottime": {"secs": 1}}, []), ({"realtime": {"secs": 1}}, [{"type": "time"}])):

        def change(spec: Spec, offsets: Spec = offsets, spaces: list[Spec] = spaces) -> None:
            spec["linux"]["namespaces"] += spaces
            spec["linux"]["timeOffsets"] = offsets

        outcome = runtime.run("true", change=change)
        assert outcome.fault is not None
        assert outcome.fault[:2] == (INVALID_ARGUMENT, "linux.timeOffsets")


# joining by path


@pytest.mark.parametrize(
    ("kind", "file", "option"),
    [("network", "net", "--net"), ("ipc", "ipc", "--ipc"), ("uts", "uts", "--uts"), ("cgroup", "cgroup", "--cgroup")],
)
def test_a_namespace_is_joined_by_its_path(runtime: Runtime, kind: str, file: str, option: str) -> None:
    with holder(option) as pid:
        path = f"/proc/{pid}/ns/{file}"
        outcome = runtime.run("readlink", f"/proc/self/ns/{file}", change=joining(kind, path))
        assert outcome.fault is None, outcome.fault
        assert outcome.output.strip() == os.readlink(path)


def test_a_pid_namespace_is_joined_and_its_processes_are_seen(runtime: Runtime) -> None:
    with holder("--pid") as pid:
        path = f"/proc/{pid}/ns/pid"
        outcome = runtime.run("sh", "-c", "readlink /proc/self/ns/pid; cat /proc/1/comm", change=joining("pid", path))
        assert outcome.output.split() == [os.readlink(path), "sleep"]


def test_a_user_namespace_is_joined_by_its_path(runtime: Runtime) -> None:
    with holder("--user", "--map-root-user") as pid:
        path = f"/proc/{pid}/ns/user"
        change = both(joining("user", path), only_root)
        outcome = runtime.run("readlink", "/proc/self/ns/user", change=change)
        assert outcome.fault is None, outcome.fault
        assert outcome.output.strip() == os.readlink(path)


def test_a_time_namespace_is_joined_by_its_path(runtime: Runtime) -> None:
    with holder("--time", "--boottime", "86400") as pid:
        path = f"/proc/{pid}/ns/time"
        outcome = runtime.run("readlink", "/proc/self/ns/time", change=joining("time", path))
        assert outcome.output.strip() == os.readlink(path)


def test_a_path_to_something_else_is_refused_by_name(runtime: Runtime, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    for path, words in (("/proc/self/ns/uts", "uts"), (str(plain), "no namespace"), ("/nonesuch", "No such file")):
        outcome = runtime.run("true", change=joining("network", path))
        assert outcome.fault is not None
        assert outcome.fault[1:3] == ("namespace", path)
        assert words in outcome.fault[3]


def test_settings_of_a_joined_namespace_that_is_the_hosts_are_refused(runtime: Runtime) -> None:
    def change(spec: Spec) -> None:
        joining("network", "/proc/self/ns/net")(spec)
        spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}

    outcome = runtime.run("true", change=change)
    assert outcome.fault is not None
    assert outcome.fault[:3] == (INVALID_ARGUMENT, "sysctl", "net.ipv4.ip_forward")
