"""The `corten` command against a real engine: streams, exit codes, lists. Terminals: `test_cli_terminals`."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.images import TestImage
from tests.support.registry import Registry
from tests.support.running import eventually

pytestmark = pytest.mark.root


@pytest.fixture
def box(daemon: Daemon, busybox: str) -> Daemon:
    """An engine that has busybox."""
    assert busybox.endswith("/busybox:latest")
    return daemon


def started(box: Daemon, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        box.command(*words), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=box.environment()
    )


@pytest.fixture
def sleeper(box: Daemon) -> Iterator[str]:
    box.corten("run", "-d", "--name", "sleeper", "busybox", "sleep", "600")
    yield "sleeper"
    box.corten("rm", "-f", "sleeper")


# exit codes and streams


def test_run_shows_both_streams_and_ends_with_the_command_s_exit_code(box: Daemon) -> None:
    done = box.cli("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)
    assert box.corten("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["busybox", "/nowhere"], 127, "/nowhere"),
        (["busybox", "/etc/passwd"], 126, "/etc/passwd"),
        (["-m", "1", "busybox", "true"], 125, "6291456"),
        (["-m", "lots", "busybox", "true"], 125, "lots"),
        (["--network", "bridge", "busybox", "true"], 125, "bridge"),
        (["--pull", "never", "not-here", "true"], 125, "not-here"),
        (["-v", "/tmp:relative", "busybox", "true"], 125, "relative"),
        (["--mount", "type=bind,source=/not-there,target=/x", "busybox", "true"], 125, "/not-there"),
        (["-u", "nobody-knows", "busybox", "true"], 125, "nobody-knows"),
        (["--frobnicate", "busybox"], 125, "--frobnicate"),
    ],
)
def test_a_run_that_cannot_be_says_why_and_leaves_nothing(box: Daemon, words: list[str], code: int, said: str) -> None:
    done = box.cli("run", "--rm", *words)
    assert done.returncode == code
    first = done.stderr.decode().splitlines()[0]
    assert first.startswith("corten: ")
    assert said in first
    assert box.corten("ps", "-aq") == ""


def test_stdin_reaches_the_command_and_its_end_too(box: Daemon) -> None:
    data = os.urandom(5_000_000)
    done = box.cli("run", "-i", "--rm", "busybox", "sha256sum", stdin=data)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_command_that_ends_before_its_stdin_does_is_not_waited_for(box: Daemon) -> None:
    read, write = os.pipe()
    with started(box, "run", "-i", "--rm", "busybox", "sh", "-c", "exit 5", stdin=read) as process:
        assert process.wait(30) == 5
    os.close(read)
    os.close(write)


def test_nothing_is_lost_when_the_reader_stalls(box: Daemon) -> None:
    size = 100 << 20
    with started(box, "run", "--rm", "busybox", "head", "-c", str(size), "/dev/zero") as process:
        assert process.stdout is not None
        got = len(process.stdout.read(1000))
        time.sleep(2)
        while piece := process.stdout.read(1 << 20):
            got += len(piece)
        assert (got, process.wait(30)) == (size, 0)


def test_a_reader_that_leaves_ends_the_run(box: Daemon) -> None:
    with started(box, "run", "--rm", "busybox", "yes") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(30) == 141
    assert eventually(lambda: box.corten("ps", "-aq") == "")


def test_a_full_disk_under_stdout_is_said_and_ends_the_run(box: Daemon) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            box.command("run", "--rm", "busybox", "yes"),
            env=box.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.stderr == b"corten: stdout: no space left on device\n"
    assert done.returncode == 141


def test_a_container_that_ran_out_of_memory_is_explained(box: Daemon) -> None:
    done = box.cli("run", "--rm", "-m", "8m", "busybox", "sh", "-c", "x=a; while :; do x=$x$x; done")
    assert done.returncode == 137
    assert done.stderr == b"corten: it was killed: its memory limit was reached\n"


def test_detached_prints_the_id_and_goes_on(box: Daemon) -> None:
    container = box.corten("run", "-d", "busybox", "sh", "-c", "echo hello; sleep 600")
    assert len(container) == 64
    assert box.corten("ps", "-q", "--no-trunc") == container
    assert eventually(lambda: box.corten("logs", container) == "hello")
    assert box.corten("stop", "-t", "0", container) == container
    assert box.corten("wait", container) == "137"
    assert "Exited (137)" in box.corten("ps", "-a", "--format", "{{.Status}}")
    assert box.corten("rm", container) == container


def test_cidfile_and_environment_and_labels(box: Daemon, tmp_path: Path) -> None:
    variables, note = tmp_path / "env", tmp_path / "id"
    variables.write_text("# comment\nA=1\nB=two words\nHERE\n")
    done = box.cli(
        *("run", "--cidfile", note, "--env-file", variables, "-e", "A=2", "-l", "x=y", "busybox"),
        *("sh", "-c", "echo $A $B $HERE"),
        env={"HERE": "here"},
    )
    assert done.stdout == b"2 two words here\n"
    container = note.read_text()
    assert box.corten("inspect", "-f", '{{index .Config.Labels "x"}} {{.State.ExitCode}}', container) == "y 0"
    again = box.cli("run", "--cidfile", note, "busybox", "true")
    assert again.returncode == 125
    assert str(note) in again.stderr.decode()


def test_mounts_and_working_directory_and_user(box: Daemon, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("content")
    options = ["-v", f"{tmp_path}:/in:ro", "--mount", "type=tmpfs,target=/scratch,tmpfs-size=1m", "-w", "/in"]
    script = "cat file; touch /in/x 2>/dev/null || echo ' ro'; id -u; pwd; df -m /scratch | tail -1 | awk '{print $2}'"
    assert box.corten("run", "--rm", *options, "-u", "alice", "busybox", "sh", "-c", script).split() == [
        *("content", "ro", "1000", "/in", "1"),
    ]


# images that come


def test_run_pulls_what_is_missing_and_says_so_on_stderr(
    box: Daemon, registry: Registry, busybox_image: TestImage
) -> None:
    reference = registry.push(busybox_image, "team/missing:v1")
    done = box.cli("run", "--rm", reference, "echo", "here")
    assert (done.stdout, done.returncode) == (b"here\n", 0)
    assert done.stderr.decode().startswith(f"Unable to find image '{reference}' locally\n")
    box.corten("rmi", reference)


def test_pull_names_what_it_got(box: Daemon, registry: Registry, busybox_image: TestImage) -> None:
    reference = registry.push(busybox_image, "team/tool:v2")
    digest, name = box.corten("pull", reference).splitlines()
    assert digest.startswith("Digest: sha256:")
    assert name == reference
    assert box.corten("images", "--digests", "--format", "{{.Digest}}", reference) == digest.removeprefix("Digest: ")
    assert box.corten("pull", "-q", reference) == reference
    box.corten("rmi", reference)
    refused = box.cli("pull", f"{registry.host}/team/not-there")
    assert refused.returncode == 1
    assert "team/not-there" in refused.stderr.decode()


def test_load_names_what_it_loaded(box: Daemon, busybox_image: TestImage) -> None:
    assert box.corten("load", "-i", busybox_image.archive) == f"Loaded image: {busybox_image.reference}"
    assert box.corten("load", "-q", stdin=busybox_image.archive.read_bytes()) == busybox_image.reference
    refused = box.cli("load", stdin=b"this is no archive")
    assert refused.returncode == 1
    assert refused.stderr.decode().startswith("corten: ")


# exec, start, attach


def test_exec_runs_beside_with_its_own_exit_code(box: Daemon, sleeper: str) -> None:
    done = box.cli(
        "exec", "-i", "-e", "X=5", "-w", "/tmp", sleeper, "sh", "-c", "cat; echo $X $PWD; exit 4", stdin=b"- "
    )
    assert (done.stdout, done.returncode) == (b"- 5 /tmp\n", 4)
    assert box.cli("exec", sleeper, "/nowhere").returncode == 127
    assert box.cli("exec", sleeper, "/etc/passwd").returncode == 126
    assert box.cli("exec", "not-there", "true").returncode == 125


def test_start_attached_shows_the_output_and_gives_the_exit_code(box: Daemon) -> None:
    container = box.corten("create", "-i", "busybox", "sh", "-c", "read line; echo got $line; exit 3")
    done = box.cli("start", "-ai", container, stdin=b"this\n")
    assert (done.stdout, done.returncode) == (b"got this\n", 3)


# lists and documents


def test_ps_shows_filters_and_formats(box: Daemon, sleeper: str) -> None:
    header, line = box.corten("ps").splitlines()
    assert header.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert line.split()[1:4] == ["busybox", '"sleep', '600"']
    assert header.index("NAMES") == line.index(sleeper)
    assert json.loads(box.corten("ps", "--format", "json"))["Names"] == sleeper
    assert box.corten("ps", "--format", "table {{.Names}}\\t{{.State}}").splitlines()[0].split() == ["NAMES", "STATE"]
    assert box.corten("ps", "-q", "--filter", "name=leep", "--filter", "status=running")
    assert box.corten("ps", "-aq", "--filter", "status=exited") == ""
    assert box.corten("ps", "-q", "--filter", "ancestor=busybox")
    wrong = box.cli("ps", "--format", "{{.Nope}}")
    assert wrong.returncode == 125
    assert ".Nope" in wrong.stderr.decode()


def test_images_are_listed_tagged_and_removed(box: Daemon) -> None:
    box.corten("tag", "busybox", "example.org/team/tool:v1")
    listed = box.corten("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    assert {"busybox:latest", "example.org/team/tool:v1"} <= set(listed)
    assert box.corten("images", "--filter", "reference=example.org/*/*", "-q")
    assert box.corten("rmi", "example.org/team/tool:v1") == "Untagged: example.org/team/tool:v1"
    [document] = json.loads(box.corten("inspect", "busybox"))
    assert document["RepoTags"] == ["busybox:latest"]
    assert document["Config"]["Cmd"] == ["sh"]


def test_inspect_is_one_array_and_says_what_it_did_not_find(box: Daemon, sleeper: str) -> None:
    done = box.cli("inspect", sleeper, "not-there")
    [document] = json.loads(done.stdout)
    assert (document["Name"], document["State"]["Running"], done.returncode) == ("/sleeper", True, 1)
    assert b"not-there" in done.stderr
    assert document["RuntimeSpec"]["process"]["args"] == ["sleep", "600"]


def test_logs_by_time_tail_and_stream(box: Daemon) -> None:
    box.corten("run", "--name", "talk", "busybox", "sh", "-c", "for i in 1 2 3 4; do echo $i; done; echo e >&2")
    done = box.cli("logs", "talk")
    assert (done.stdout, done.stderr) == (b"1\n2\n3\n4\n", b"e\n")
    assert box.cli("logs", "-n", "2", "talk").stdout + box.cli("logs", "-n", "2", "talk").stderr == b"4\ne\n"
    stamped = box.corten("logs", "-t", "talk").splitlines()[0]
    assert stamped.endswith("Z 1")
    assert box.corten("logs", "--since", "0s", "talk") == ""
    assert box.corten("logs", "--until", "10m", "talk") == ""


def test_logs_follow_until_the_end(box: Daemon) -> None:
    box.corten("run", "-d", "--name", "slow", "busybox", "sh", "-c", "echo a; sleep 0.5; echo b")
    assert box.corten("logs", "-f", "slow") == "a\nb"


def test_events_between_two_times(box: Daemon) -> None:
    container = box.corten("run", "-d", "--name", "eventful", "busybox", "sleep", "600")
    asked = ("events", "--since", "1m", "--until", "0s", "--filter", f"container={container}")
    lines = box.corten(*asked).splitlines()
    assert [line.split()[1] for line in lines] == ["container.created", "task.started"]
    assert box.corten(*asked, "--format", "{{.Action}} {{.Actor.Attributes.name}}").splitlines() == [
        *("created eventful", "started eventful"),
    ]


def test_the_life_of_a_container_by_commands(box: Daemon, sleeper: str) -> None:
    assert box.corten("pause", sleeper) == sleeper
    assert "(Paused)" in box.corten("ps", "--format", "{{.Status}}")
    assert box.corten("unpause", sleeper) == sleeper
    box.corten("rename", sleeper, "other")
    assert box.corten("ps", "--format", "{{.Names}}") == "other"
    box.corten("rename", "other", sleeper)
    refused = box.cli("rm", sleeper)
    assert refused.returncode == 1
    assert "running" in refused.stderr.decode()
    assert box.corten("kill", "-s", "KILL", sleeper) == sleeper
    assert box.corten("wait", sleeper) == "137"
    assert box.corten("start", sleeper) == sleeper


def test_low_level_groups(box: Daemon, sleeper: str) -> None:
    digest = box.corten("content", "ls", "-q").splitlines()[0]
    done = box.cli("content", "get", digest)
    assert f"sha256:{hashlib.sha256(done.stdout).hexdigest()}" == digest
    chain = box.corten("snapshots", "ls", "--format", "{{.Name}} {{.Kind}}")
    committed = next(line.split()[0] for line in chain.splitlines() if line.endswith(" committed"))
    assert "overlay" in box.corten("snapshots", "prepare", "by-hand", committed) or "bind" in chain
    assert box.corten("snapshots", "rm", "by-hand") == "by-hand"
    assert box.corten("tasks", "ls", "--format", "{{.Names}}") == sleeper
    shim = box.corten("shims", "ls", "-q")
    assert Path(f"/proc/{shim}").exists()
    assert json.loads(box.corten("version", "--format", "json"))["Server"]["ApiVersion"] == "corten.v1"
    assert box.corten("info", "--format", "{{.ContainersRunning}}") == "1"


def test_no_engine_is_one_sentence(tmp_path: Path, box: Daemon) -> None:
    done = box.cli("--address", f"unix://{tmp_path}/none.sock", "ps")
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"corten: Cannot connect to the Corten engine at unix://{tmp_path}/none.sock. Is cortend running?\n"
    )


def test_the_shell_completes_commands_and_options(box: Daemon) -> None:
    asked = {"_CORTEN_COMPLETE": "bash_complete", "COMP_WORDS": "corten pau", "COMP_CWORD": "1"}
    assert box.cli(env=asked).stdout == b"plain,pause\n"
    assert b"plain,--memory-swap" in box.cli(env={**asked, "COMP_WORDS": "corten run --mem", "COMP_CWORD": "2"}).stdout
