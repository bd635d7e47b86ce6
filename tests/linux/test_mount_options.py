"""What the options of a mount do, seen from inside, and how a process asks to be scheduled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import leftovers
from tests.support.running import eventually
from tests.support.runtime import Runtime, Spec, bind

pytestmark = [pytest.mark.root, pytest.mark.vm]


@pytest.fixture(scope="module")
def runtime(run_directory: Path) -> Runtime:
    return Runtime(run_directory / "mount-options")


@pytest.fixture(autouse=True)
def leaves_nothing(runtime: Runtime) -> Iterator[None]:
    yield
    assert leftovers.mounts(str(runtime.directory)) == []
    assert leftovers.cgroups_of_runtimes() == []


def tmpfs(target: str, *options: str) -> Spec:
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """A tmpfs of the host's at `place`, for as long as the block runs."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        for option in options:
            subprocess.run(["mount", option, place], check=True)
        yield place
    finally:
        subprocess.run(["umount", "-R", "-l", place], check=True)


def propagation_of(output: str, target: str) -> str:
    """The optional fields of `target` in a mountinfo."""
    (line,) = (each for each in output.splitlines() if each.split()[4] == target)
    return " ".join(line.partition(" - ")[0].split()[6:])


@pytest.mark.parametrize(
    ("word", "found"), [("rprivate", ""), ("rshared", "shared:"), ("rslave", "master:"), ("unbindable", "unbindable")]
)
def test_the_root_has_the_propagation_that_is_asked_for(
    runtime: Runtime, tmp_path: Path, word: str, found: str
) -> None:
    with mounted(tmp_path / "host", "--make-shared") as place:
        subprocess.run(["cp", "-a", f"{runtime.base}/.", place], check=True)

        def prepare(job: Spec) -> None:
            job["root"] = ["bind", str(place), "", ["bind"]]

        change = lambda spec: spec["linux"].update(rootfsPropagation=word)  # noqa: E731
        outcome = runtime.run("cat", "/proc/self/mountinfo", change=change, prepare=prepare)
        assert outcome.fault is None, outcome.fault
        assert propagation_of(outcome.output, "/").startswith(found)
        assert bool(propagation_of(outcome.output, "/")) is bool(found)


def test_a_mount_of_the_host_reaches_a_slave_and_not_a_private_bind(runtime: Runtime, tmp_path: Path) -> None:
    with mounted(tmp_path / "host", "--make-shared") as place:
        (place / "below").mkdir()

        def change(spec: Spec) -> None:
            bind("/slave", place, "rslave")(spec)
            bind("/private", place)(spec)

        job, output = runtime.job(
            ("sh", "-c", "echo here; while ! [ -e /slave/below/late ]; do sleep 0.05; done; ls /private/below | wc -l"),
            change=change,
        )
        with runtime.running(job) as ended:
            eventually(lambda: output.exists() and output.read_text() == "here\n")
            subprocess.run(["mount", "-t", "tmpfs", "none", place / "below"], check=True)
            (place / "below/late").write_text("")
            assert ended() == 0
        assert output.read_text() == "here\n0\n"


def test_a_tmpfs_begins_with_what_it_covers(runtime: Runtime) -> None:
    layer = runtime.layer()
    (layer / "data/deep").mkdir(parents=True)
    (layer / "data/deep/file").write_text("content")
    (layer / "data/deep/file").chmod(0o640)
    os.chown(layer / "data/deep/file", 1000, 1001)
    os.link(layer / "data/deep/file", layer / "data/other")
    os.symlink("/etc/passwd", layer / "data/link")
    os.mkfifo(layer / "data/pipe")
    os.setxattr(layer / "data/deep/file", "trusted.mark", b"1")
    (layer / "data").chmod(0o751)

    script = (
        "cd /data; stat -c '%n %a %u:%g %h' . deep/file other; readlink link; ls -l pipe | cut -c1; cat other; df ."
    )
    change = lambda spec: spec["mounts"].append(tmpfs("/data", "tmpcopyup", "size=1m"))  # noqa: E731
    outcome = runtime.run("sh", "-c", script, layer=layer, change=change)
    assert outcome.fault is None, outcome.fault
    lines = outcome.output.splitlines()
    assert lines[:5] == [". 751 0:0 3", "deep/file 640 1000:1001 2", "other 640 1000:1001 2", "/etc/passwd", "p"]
    assert lines[5].startswith("content")


def test_what_does_not_fit_into_the_tmpfs_is_an_error_of_the_mount(runtime: Runtime) -> None:
    layer = runtime.layer()
    (layer / "data").mkdir()
    (layer / "data/large").write_bytes(bytes(1 << 20))
    change = lambda spec: spec["mounts"].append(tmpfs("/data", "tmpcopyup", "size=64k"))  # noqa: E731
    outcome = runtime.run("true", layer=layer, change=change)
    assert outcome.fault is not None
    assert outcome.fault[1:3] == ("mount", "/data")
    assert "No space left" in outcome.fault[3]


def test_a_copied_directory_leads_nowhere_else(runtime: Runtime) -> None:
    layer = runtime.layer()
    (layer / "data").mkdir()
    os.symlink("/proc/self/root", layer / "data/up")
    os.symlink("../../../../etc", layer / "data/etc")
    change = lambda spec: spec["mounts"].append(tmpfs("/data", "tmpcopyup"))  # noqa: E731
    outcome = runtime.run("sh", "-c", "cd /data; readlink up; readlink etc; ls | wc -l", layer=layer, change=change)
    assert outcome.output.split() == ["/proc/self/root", "../../../../etc", "2"]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["rbind", "ro"], "ro"),
        (["rbind", "nosuid", "noexec", "nodev"], "nosuid,nodev,noexec"),
        (["rbind", "noatime"], "noatime"),
        (["rbind", "nosymfollow"], "nosymfollow"),
        (["bind", "rro"], "ro"),
    ],
)
def test_attributes_of_a_bind_mount_are_shown_by_the_kernel(
    runtime: Runtime, tmp_path: Path, options: list[str], shown: str
) -> None:
    entry = {"destination": "/bound", "type": "bind", "source": str(tmp_path), "options": options}
    outcome = runtime.run("cat", "/proc/self/mountinfo", change=lambda spec: spec["mounts"].append(entry))
    (line,) = (each for each in outcome.output.splitlines() if each.split()[4] == "/bound")
    assert set(shown.split(",")) <= set(line.split()[5].split(","))


def test_recursive_attributes_reach_what_is_mounted_below(runtime: Runtime, tmp_path: Path) -> None:
    with mounted(tmp_path / "host"):
        for options, answers in ((["rbind", "ro"], [1, 0]), (["rbind", "rro"], [1, 1])):
            entry = {"destination": "/bound", "type": "bind", "source": str(tmp_path), "options": options}
            script = "touch /bound/x 2>/dev/null; echo $?; touch /bound/host/x 2>/dev/null; echo $?"
            outcome = runtime.run("sh", "-c", script, change=lambda spec, e=entry: spec["mounts"].append(e))  # type: ignore[misc]
            assert [int(each) for each in outcome.output.split()] == answers


# scheduling


def test_scheduling_is_as_the_spec_says(runtime: Runtime) -> None:
    def change(spec: Spec) -> None:
        spec["process"] |= {
            "scheduler": {"policy": "SCHED_BATCH", "nice": 7},
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
        }
        spec["linux"]["personality"] = {"domain": "LINUX32"}

    outcome = runtime.run("sh", "-c", "uname -m; cut -d' ' -f19,41 /proc/self/stat; ionice -p $$", change=change)
    assert outcome.fault is None, outcome.fault
    machine, numbers, *io = outcome.output.splitlines()
    assert machine in ("i686", "armv8l", "armv7l", os.uname().machine)
    assert numbers == "7 3"
    assert io[0].startswith("idle")


def test_an_exec_runs_on_the_processors_it_asked_for(runtime: Runtime) -> None:
    beside = {
        "args": ["grep", "Cpus_allowed_list", "/proc/self/status"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "execCPUAffinity": {"initial": "0", "final": "0"},
    }
    outcome = runtime.run("sleep", "60", exec=beside)
    assert outcome.output.split()[-1] == "0"


def test_what_cannot_be_scheduled_is_refused_with_its_name(runtime: Runtime) -> None:
    change = lambda spec: spec["process"].update(scheduler={"policy": "SCHED_ISO"})  # noqa: E731
    outcome = runtime.run("true", change=change)
    assert outcome.fault is not None
    assert outcome.fault[1:3] == ("scheduler", "SCHED_ISO")
