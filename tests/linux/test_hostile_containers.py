"""Images that attack the runtime while it makes a container of them, and what a container finds of its maker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import leftovers
from tests.support.runtime import PATIENCE, Runtime, Spec, bind, child_command

pytestmark = [pytest.mark.root, pytest.mark.vm]

INVALID_ARGUMENT = 3


@pytest.fixture(scope="module")
def runtime(run_directory: Path) -> Runtime:
    return Runtime(run_directory / "hostile-containers")


@pytest.fixture(autouse=True)
def leaves_nothing(runtime: Runtime) -> Iterator[None]:
    """After each test no mount of its is in the host's table, and its cgroups are gone."""
    yield
    assert leftovers.mounts(str(runtime.directory)) == []
    assert leftovers.cgroups_of_runtimes() == []


def set_process(**fields: object) -> Callable[[Spec], None]:
    return lambda spec: spec["process"].update(fields)


def test_a_target_behind_a_link_out_of_the_image_is_made_inside_it(runtime: Runtime, tmp_path: Path) -> None:
    layer, source = runtime.layer(), tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("hello\n")
    (layer / "climbs").symlink_to("../../../../../../../tmp/corten-escaped")
    (layer / "absolute").symlink_to("/tmp/corten-escaped-too")
    for target in ("/climbs", "/absolute"):
        outcome = runtime.run("cat", f"{target}/file", layer=layer, change=bind(target, source))
        assert (outcome.fault, outcome.output) == (None, "hello\n")
    assert not os.path.lexists("/tmp/corten-escaped")
    assert not os.path.lexists("/tmp/corten-escaped-too")


def test_a_file_is_bound_where_a_dangling_link_points(runtime: Runtime, tmp_path: Path) -> None:
    layer, source = runtime.layer(), tmp_path / "resolv.conf"
    source.write_text("nameserver 192.0.2.1\n")
    (layer / "etc").mkdir()
    (layer / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    outcome = runtime.run("cat", "/etc/resolv.conf", layer=layer, change=bind("/etc/resolv.conf", source))
    assert (outcome.fault, outcome.output) == (None, "nameserver 192.0.2.1\n")


def test_links_in_a_circle_are_refused(runtime: Runtime, tmp_path: Path) -> None:
    layer = runtime.layer()
    (layer / "a").symlink_to("b")
    (layer / "b").symlink_to("a")
    outcome = runtime.run("true", layer=layer, change=bind("/a/x", tmp_path))
    assert outcome.fault is not None
    assert outcome.fault[:3] == (INVALID_ARGUMENT, "mount", "/a/x")


@pytest.mark.parametrize("leads_to", ["/proc", "/proc/sys", "/proc/self/attr"])
def test_no_mount_is_led_into_procfs(runtime: Runtime, tmp_path: Path, leads_to: str) -> None:
    layer = runtime.layer()
    (layer / "data").symlink_to(leads_to)
    outcome = runtime.run("true", layer=layer, change=bind("/data", tmp_path))
    assert outcome.fault is not None
    assert outcome.fault[:3] == (INVALID_ARGUMENT, "mount", "/data")


@pytest.mark.parametrize("target", ["proc", "sys"])
def test_a_link_in_place_of_a_kernel_filesystem_is_refused(runtime: Runtime, target: str) -> None:
    layer = runtime.layer()
    (layer / "elsewhere").mkdir()
    (layer / target).symlink_to("elsewhere")
    outcome = runtime.run("true", layer=layer)
    assert outcome.fault is not None
    assert outcome.fault[:3] == (INVALID_ARGUMENT, "mount", f"/{target}")


@pytest.mark.parametrize("directory", ["/proc/self/fd/7", "/proc/1/root/../..", "/proc/self/cwd"])
def test_a_working_directory_does_not_lead_out(runtime: Runtime, directory: str) -> None:
    outcome = runtime.run("pwd", change=set_process(cwd=directory))
    assert outcome.fault is not None
    assert outcome.fault[1:3] == ("working directory", directory)


def test_a_container_inherits_its_streams_and_no_other_descriptor(runtime: Runtime) -> None:
    outcome = runtime.run("sh", "-c", "for n in $(seq 3 300); do [ -e /proc/$$/fd/$n ] && echo $n; done; true")
    assert (outcome.fault, outcome.output) == (None, "")
    assert outcome.left_open == []


def test_signals_that_the_engine_ignores_are_not_ignored_in_a_container(runtime: Runtime) -> None:
    outcome = runtime.run("grep", "-E", "SigIgn|SigBlk", "/proc/self/status")
    assert [line.split()[1] for line in outcome.output.splitlines()] == ["0" * 16, "0" * 16]


def test_what_is_masked_shows_nothing_and_what_is_read_only_cannot_be_written(runtime: Runtime) -> None:
    script = "ls -A /sys/firmware | wc -l; wc -c < /proc/timer_list; echo 1 > /proc/sys/kernel/pid_max; echo $?"
    outcome = runtime.run("sh", "-c", script)
    lines = outcome.output.splitlines()
    assert lines[:2] == ["0", "0"]
    assert lines[-1] == "1"
    assert "Read-only file system" in lines[-2]


def test_a_device_that_is_not_allowed_cannot_be_opened(runtime: Runtime) -> None:
    outcome = runtime.run("sh", "-c", "mknod /disk b 254 0 && head -c 1 /disk; head -c 3 /dev/zero | wc -c")
    assert "Operation not permitted" in outcome.output
    assert outcome.output.splitlines()[-1] == "3"


def test_a_waiting_process_ends_when_its_shim_is_killed(runtime: Runtime) -> None:
    job, _ = runtime.job(("true",))
    job["hold"] = True
    shim = subprocess.run(
        child_command(), input=json.dumps(job), capture_output=True, text=True, timeout=30 * PATIENCE, check=False
    )
    assert shim.returncode == -signal.SIGKILL
    pid = json.loads(shim.stdout)["pid"]
    deadline = time.monotonic() + 10 * PATIENCE
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()
    assert leftovers.gone(lambda: leftovers.remove_cgroups(job["cgroup"])) == []


def test_an_id_that_the_kernel_takes_for_no_change_is_refused(runtime: Runtime) -> None:
    outcome = runtime.run("id", change=set_process(user={"uid": 2**32 - 1, "gid": 0}))
    assert outcome.fault is not None
    assert outcome.fault[:3] == (INVALID_ARGUMENT, "process.user.uid", str(2**32 - 1))


def test_a_damaged_filter_in_the_cache_is_compiled_anew(runtime: Runtime) -> None:
    cache = runtime.directory / "seccomp"
    assert runtime.run("true").exit_code == 0
    for kept in cache.iterdir():
        kept.write_bytes(b"")
    outcome = runtime.run("grep", "Seccomp:", "/proc/self/status")
    assert outcome.output.split() == ["Seccomp:", "2"]
    assert all(kept.stat().st_size > 0 for kept in cache.iterdir())


HOSTILE = "import os\nos.mkdir('/poisoned')\nos._exit(99)\n"
MODULES = ("encodings/__init__", "encodings/idna", "encodings/ascii", "codecs", "traceback", "linecache", "os", "io")
ERRORS: dict[str, Callable[[Spec], None]] = {
    "a missing program": set_process(args=["no-such-program"]),
    "a program that is none": set_process(args=["/etc/passwd"]),
    "a directory": set_process(args=["/etc"]),
    "a bad working directory": set_process(cwd="/etc/passwd"),
    "a bad mount target": bind("/etc/passwd/below", Path("/etc")),
    "an unknown filesystem": lambda spec: spec["mounts"].append({"destination": "/x", "type": "nofs", "source": "x"}),
    "an unknown sysctl": lambda spec: spec["linux"].update(sysctl={"net.no.such": "1"}),
    "a profile for AppArmor that is not there": set_process(apparmorProfile="no-such-profile"),
    "a program name that is not ASCII": set_process(args=["ünïcode"]),
    "arguments that are too long": set_process(args=["true", "x" * (1 << 18)]),
}


@pytest.fixture(scope="module")
def poisoned(runtime: Runtime) -> Path:
    """A layer with a hostile standard library wherever this interpreter would look for its own."""
    layer = runtime.layer()
    found = {Path(sysconfig.get_path("stdlib")), Path(sys.prefix) / "lib", *map(Path, filter(os.path.isabs, sys.path))}
    for directory in {each.resolve() for each in found} | found:
        for name in MODULES if directory.suffix != ".zip" else ():
            module = layer / directory.relative_to("/") / f"{name}.py"
            module.parent.mkdir(parents=True, exist_ok=True)
            module.write_text(HOSTILE)
    return layer


@pytest.mark.parametrize("error", ERRORS)
def test_nothing_of_a_poisoned_standard_library_runs_when_something_fails(
    runtime: Runtime, poisoned: Path, error: str
) -> None:
    outcome = runtime.run("true", layer=poisoned, change=ERRORS[error])
    assert outcome.fault is not None
    assert not list(runtime.directory.glob("*/upper/poisoned"))
    assert not Path("/poisoned").exists()


def test_nothing_of_a_poisoned_standard_library_runs_when_all_is_well(runtime: Runtime, poisoned: Path) -> None:
    process = {
        "args": ["id", "-u"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0, "username": "alice"},
    }
    outcome = runtime.run("sleep", "60", layer=poisoned, exec=process)
    assert (outcome.fault, outcome.exec_code, outcome.output) == (None, 0, "1000\n")
    assert not list(runtime.directory.glob("*/upper/poisoned"))
