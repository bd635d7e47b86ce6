"""The engine may die at any moment: containers, their logs, exit codes and streams do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from corten_api.v1 import containers_pb2 as containers
from corten_api.v1 import tasks_pb2 as pb

from tests.support import leftovers
from tests.support.daemon import Daemon
from tests.support.images import TestImage
from tests.support.running import Running, beside, eventually

pytestmark = pytest.mark.root

RUNNING = containers.CONTAINER_STATUS_RUNNING
EXITED = containers.CONTAINER_STATUS_EXITED


@pytest.fixture
def running(daemon: Daemon, busybox: str) -> Running:
    return Running(lambda: daemon.api, busybox)


def counting(running: Running) -> str:
    """A container that counts into its log until somebody makes /stop, then exits with 7."""
    script = "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.01; done; exit 7"
    return running.run("sh", "-c", script)


def test_a_container_runs_on_without_its_engine(running: Running, daemon: Daemon) -> None:
    container = counting(running)
    before = running.get(container).state
    daemon.kill9()
    time.sleep(0.5)
    daemon.start()
    after = running.get(container).state
    assert (after.status, after.pid, after.shim_pid) == (RUNNING, before.pid, before.shim_pid)
    numbers = [int(text) for text in running.logs(container).split()]
    assert numbers == list(range(1, len(numbers) + 1)), "no line is missing or doubled"
    assert len(numbers) > 30, "it wrote while no engine was there"
    execution = running.exec(container, "touch", "/stop")
    assert running.wait(container, exec_id=execution).exit_code == 0
    assert running.wait(container).exit_code == 7


def test_a_stopped_engine_leaves_containers_running(running: Running, daemon: Daemon) -> None:
    container = running.run("sleep", "60")
    assert daemon.terminate() == 0
    assert not (daemon.state / "engine.sock").exists()
    daemon.start()
    assert running.get(container).state.status == RUNNING


def test_an_exit_while_no_engine_is_there_is_known_afterwards(running: Running, daemon: Daemon) -> None:
    container = running.run("sh", "-c", "sleep 0.3; exit 9")
    daemon.kill9()
    time.sleep(1)
    daemon.start()
    assert running.wait(container).exit_code == 9
    assert eventually(lambda: running.get(container).state.status == EXITED)
    assert eventually(lambda: not (daemon.state / "shims" / container).exists())


def test_a_container_that_removes_itself_does_so_at_the_next_start(running: Running, daemon: Daemon) -> None:
    container = running.run("sh", "-c", "sleep 0.3", auto_remove=True)
    daemon.kill9()
    time.sleep(1)
    daemon.start()

    def ids() -> list[str]:
        answer = running.api.containers.List(containers.ListContainersRequest(all=True), timeout=30)
        return [each.id for each in answer.containers]

    assert eventually(lambda: container not in ids())
    assert not (daemon.root / "containers" / container).exists()


def test_streams_can_be_attached_again(running: Running, daemon: Daemon) -> None:
    container = running.run("cat", open_stdin=True, terminal=True)
    daemon.restart(crash=True)
    with running.attach(container, stdin=True) as attached:
        assert attached.terminal
        attached.send(b"hello\n")
        attached.until(b"hello\r\nhello")


def test_an_exec_that_ran_on_is_still_known(running: Running, daemon: Daemon) -> None:
    container = running.run("sleep", "60")
    execution = running.exec(container, "sh", "-c", "sleep 1; exit 5")
    daemon.restart(crash=True)
    assert running.wait(container, exec_id=execution).exit_code == 5


def test_a_paused_container_is_paused_afterwards(running: Running, daemon: Daemon) -> None:
    container = running.run("sleep", "60")
    running.api.tasks.Pause(pb.PauseTaskRequest(container=container), timeout=30)
    daemon.restart(crash=True)
    assert running.get(container).state.status == containers.CONTAINER_STATUS_PAUSED
    running.api.tasks.Resume(pb.ResumeTaskRequest(container=container), timeout=30)
    assert running.get(container).state.status == RUNNING


def test_a_lost_shim_takes_its_container_along_and_is_recorded(running: Running, daemon: Daemon) -> None:
    container = running.run("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    state = running.get(container).state
    os.kill(state.shim_pid, signal.SIGKILL)
    status = running.wait(container, timeout=30)
    assert (status.exit_code, status.reason) == (137, "shim-lost")
    assert eventually(lambda: not Path(f"/proc/{state.pid}").exists())
    assert eventually(lambda: not (daemon.state / "shims" / container).exists())
    running.start(container)
    assert running.get(container).state.status == RUNNING


def test_a_shim_lost_together_with_the_engine_is_recorded_at_the_next_start(running: Running, daemon: Daemon) -> None:
    container = running.run("sleep", "600")
    state = running.get(container).state
    daemon.kill9()
    os.kill(state.shim_pid, signal.SIGKILL)
    daemon.start()
    after = running.get(container).state
    assert (after.status, after.exit_code, after.reason) == (EXITED, 137, "shim-lost")
    assert eventually(lambda: not Path(f"/proc/{state.pid}").exists())
    assert not (daemon.state / "shims" / container).exists()


def test_a_shim_that_hangs_does_not_hang_the_engine(running: Running, daemon: Daemon) -> None:
    container = running.run("sleep", "600")
    other = running.run("sleep", "600")
    shim = running.get(container).state.shim_pid
    os.kill(shim, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert running.get(container).state.status == RUNNING
        assert len(running.api.containers.List(containers.ListContainersRequest(), timeout=5).containers) == 2
        running.kill(other)
        assert running.wait(other, timeout=10).exit_code == 137
        assert time.monotonic() - began < 5
        with pytest.raises(grpc.RpcError) as raised:
            running.api.tasks.Pids(pb.PidsRequest(container=container), timeout=40)
        assert "did not answer" in str(raised.value)
        running.delete(container, force=True)
        assert eventually(lambda: not Path(f"/proc/{shim}").exists())
    finally:
        if Path(f"/proc/{shim}").exists():
            os.kill(shim, signal.SIGCONT)


def test_streams_and_waits_end_at_once_when_the_engine_stops(running: Running, daemon: Daemon) -> None:
    container = running.run("sleep", "600")
    with running.attach(container) as attached, beside(lambda: running.wait(container)) as answers:
        time.sleep(0.2)
        began = time.monotonic()
        assert daemon.process is not None
        daemon.process.terminate()
        assert daemon.process.wait(20) == 0
        assert time.monotonic() - began < 4
        assert answers.get(timeout=10).code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.RpcError):
            attached.finish()
    daemon.start()
    assert running.get(container).state.status == RUNNING


def test_a_host_that_was_restarted_has_no_running_containers(running: Running, daemon: Daemon) -> None:
    container = running.run("sleep", "600")
    state = running.get(container).state
    daemon.kill9()
    os.kill(state.shim_pid, signal.SIGKILL)
    os.kill(state.pid, signal.SIGKILL)
    bundle = daemon.state / "shims" / container
    for file in bundle.iterdir():
        file.unlink()
    bundle.rmdir()
    daemon.start()
    after = running.get(container).state
    assert (after.status, after.exit_code, after.reason) == (EXITED, 137, "host-restart")


def test_what_belongs_to_no_container_is_swept_at_the_start(running: Running, daemon: Daemon) -> None:
    from corten_api.v1 import snapshots_pb2

    orphan = "a" * 64
    daemon.api.snapshots.Prepare(snapshots_pb2.PrepareSnapshotRequest(key=orphan), timeout=30)
    (daemon.root / "containers" / orphan).mkdir()
    (daemon.state / "shims" / orphan).mkdir()
    daemon.restart()
    assert daemon.api.unfinished_snapshots() == []
    assert not (daemon.root / "containers" / orphan).exists()
    assert not (daemon.state / "shims" / orphan).exists()


@pytest.mark.parametrize("attempt", range(12))
def test_a_crash_at_any_moment_leaves_every_container_whole_or_gone(
    make_daemon: Callable[..., Daemon], busybox_image: TestImage, attempt: int
) -> None:
    """The engine is killed while containers are made, started, ended and removed; the next one puts all in order."""
    daemon = make_daemon()
    daemon.start()
    daemon.api.load(busybox_image.archive)
    running = Running(lambda: daemon.api, busybox_image.reference)
    stop = threading.Event()

    def churn(number: int) -> None:
        try:
            while not stop.is_set():
                container = running.create("sh", "-c", "exit 3", auto_remove=bool(number % 2))
                running.start(container)
                if number % 2 == 0:
                    running.wait(container)
                    running.delete(container)
        except (grpc.RpcError, ValueError):
            return  # the engine was killed, as it should be

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.15 + attempt * 0.037)
    daemon.kill9()
    stop.set()
    for thread in threads:
        thread.join(30)
    daemon.start()
    again = Running(lambda: daemon.api, busybox_image.reference)
    everything = daemon.api.containers.List(containers.ListContainersRequest(all=True), timeout=30).containers
    for each in everything:
        if each.state.status == RUNNING:
            assert again.wait(each.id, timeout=30).exit_code == 3
        if not each.config.auto_remove:
            again.delete(each.id, force=True)
    assert daemon.close() == []


def test_two_engines_run_side_by_side_but_not_on_the_same_directories(
    daemon: Daemon, make_daemon: Callable[..., Daemon]
) -> None:
    other = make_daemon()
    other.start()
    argv = [str(Path(sys.executable).parent / "cortend"), "--config", "/dev/null"]
    for root, state in ((daemon.root, other.directory / "s"), (other.directory / "r", daemon.state)):
        done = subprocess.run([*argv, "--root", root, "--state", state], capture_output=True, timeout=30, check=False)
        assert done.returncode == 1
        lines = done.stderr.decode().splitlines()
        assert len(lines) == 1
        assert daemon.process is not None
        assert f"process {daemon.process.pid}" in lines[0]
    assert other.close() == []


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--address", "tcp://127.0.0.1:1"], "mutual TLS"),
        (["--address", "http://x"], "http://x"),
        (["--state", "/tmp/" + "long" * 30], "107 bytes"),
        (["--config", "/no/such/file"], "/no/such/file"),
    ],
)
def test_what_keeps_the_engine_from_starting_is_one_line(run_directory: Path, flags: list[str], named: str) -> None:
    command = str(Path(sys.executable).parent / "cortend")
    root = run_directory / "refused"
    argv = [command, "--root", str(root), "--state", str(root / "s"), *flags]
    done = subprocess.run(argv, capture_output=True, timeout=30, check=False)
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1
    assert named in lines[0]
    assert not root.exists()


@pytest.mark.parametrize("content", [b"this is no database" * 1000, b""])
def test_a_corrupted_database_is_named_and_touched_by_nobody(
    fresh_daemon: Daemon, busybox_image: TestImage, content: bytes
) -> None:
    fresh_daemon.api.load(busybox_image.archive)
    fresh_daemon.terminate()
    database = fresh_daemon.root / "meta.db"
    good = database.read_bytes()
    database.write_bytes(content)
    argv = [str(Path(sys.executable).parent / "cortend"), "--config", "/dev/null"]
    argv += ["--root", str(fresh_daemon.root), "--state", str(fresh_daemon.state)]
    done = subprocess.run(argv, capture_output=True, timeout=30, check=False)
    assert done.returncode == 1
    assert str(database) in done.stderr.decode().splitlines()[-1]
    assert len(done.stderr.decode().splitlines()) == 1
    assert database.read_bytes() == content
    database.write_bytes(good)
    fresh_daemon.start()
    assert fresh_daemon.api.has_image(busybox_image.reference)


def test_nothing_of_the_engine_is_open_to_others(daemon: Daemon) -> None:
    for path, mode in ((daemon.state, 0o700), (daemon.root, 0o700), (daemon.state / "engine.sock", 0o600)):
        status = path.stat()
        assert (status.st_mode & 0o777, status.st_uid) == (mode, 0)
    assert daemon.process is not None
    assert leftovers.processes_naming(str(daemon.state))
