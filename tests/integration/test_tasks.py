"""Tasks through the API: started, waited for, signalled, attached to, exec'd into, their logs read."""

from __future__ import annotations

import hashlib
import threading
import time

import grpc
import pytest
from corten_api.v1 import containers_pb2 as containers
from corten_api.v1 import events_pb2
from corten_api.v1 import tasks_pb2 as pb

from tests.support.daemon import Daemon
from tests.support.running import Running, beside, code, eventually

pytestmark = pytest.mark.root

NEXT_EXIT = pb.WaitTaskRequest.CONDITION_NEXT_EXIT
REMOVED = pb.WaitTaskRequest.CONDITION_REMOVED


@pytest.fixture
def running(daemon: Daemon, busybox: str) -> Running:
    return Running(lambda: daemon.api, busybox)


@pytest.mark.parametrize("exit_code", [0, 1, 42, 255])
def test_the_exit_code_is_the_process_own(running: Running, exit_code: int) -> None:
    status = running.wait(running.run("sh", "-c", f"exit {exit_code}"))
    assert status.exit_code == exit_code
    assert status.reason == ""
    assert status.exited_at.ToNanoseconds() >= status.started_at.ToNanoseconds() > 0


def test_a_signal_is_128_and_its_number(running: Running) -> None:
    container = running.run("sleep", "60")
    running.kill(container, "SIGKILL")
    assert running.wait(container).exit_code == 137


def test_a_task_that_ended_stays_known_and_can_be_started_again(running: Running) -> None:
    container = running.run("sh", "-c", "echo x >>/count; exit $(wc -l </count)")
    assert running.wait(container).exit_code == 1
    state = running.get(container).state
    assert (state.status, state.exit_code, state.pid) == (containers.CONTAINER_STATUS_EXITED, 1, 0)
    running.start(container)
    assert running.wait(container).exit_code == 2
    status = running.api.tasks.Delete(pb.DeleteTaskRequest(container=container), timeout=30).status
    assert status.exit_code == 2


def test_starting_what_runs_is_refused(running: Running) -> None:
    container = running.run("sleep", "60")
    with pytest.raises(grpc.RpcError, match="running, so it cannot start") as raised:
        running.start(container)
    assert code(raised.value) is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("command", "status", "exit_code"),
    [("/no/such", grpc.StatusCode.NOT_FOUND, 127), ("/etc", grpc.StatusCode.PERMISSION_DENIED, 126)],
)
def test_what_cannot_run_is_told_and_leaves_nothing(
    running: Running, daemon: Daemon, command: str, status: grpc.StatusCode, exit_code: int
) -> None:
    container = running.create(command)
    with pytest.raises(grpc.RpcError, match=command) as raised:
        running.start(container)
    assert code(raised.value) is status
    state = running.get(container).state
    assert state.status == containers.CONTAINER_STATUS_CREATED
    assert (state.exit_code, state.reason) == (exit_code, "start-failed")
    assert command in state.error
    assert not (daemon.state / "shims" / container).exists()


def test_a_failed_start_of_a_container_that_removes_itself_removes_it(running: Running) -> None:
    container = running.create("/no/such", auto_remove=True)
    with pytest.raises(grpc.RpcError):
        running.start(container)

    def gone() -> bool:
        try:
            running.get(container)
        except grpc.RpcError as error:
            return code(error) is grpc.StatusCode.NOT_FOUND
        return False

    assert eventually(gone)


def test_waits_have_conditions(running: Running) -> None:
    container = running.create("sh", "-c", "sleep 0.3; exit 7")
    assert running.wait(container).exit_code == 0, "it is not running"
    with (
        beside(lambda: running.wait(container, NEXT_EXIT)) as exits,
        beside(lambda: running.wait(container, REMOVED)) as removals,
    ):
        time.sleep(0.2)
        running.start(container)
        assert exits.get(timeout=30).exit_code == 7
        assert removals.empty()
        running.delete(container)
        assert removals.get(timeout=30).exit_code == 7


def test_stop_sends_the_stop_signal_and_kills_after_the_timeout(running: Running) -> None:
    polite = running.run("sh", "-c", "trap 'exit 3' INT; while :; do sleep 0.05; done", stop_signal="SIGINT")
    time.sleep(0.3)
    running.stop(polite, 20)
    assert running.wait(polite).exit_code == 3
    stubborn = running.run("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    time.sleep(0.3)
    began = time.monotonic()
    running.stop(stubborn, 0.5)
    assert 0.4 < time.monotonic() - began < 5
    assert running.wait(stubborn).exit_code == 137
    running.stop(stubborn)


def test_a_paused_container_stands_still_until_it_is_resumed_or_killed(running: Running) -> None:
    container = running.run("sh", "-c", "while :; do echo x >>/beats; sleep 0.01; done")
    running.api.tasks.Pause(pb.PauseTaskRequest(container=container), timeout=30)
    assert running.get(container).state.status == containers.CONTAINER_STATUS_PAUSED
    with pytest.raises(grpc.RpcError):
        running.api.tasks.Pause(pb.PauseTaskRequest(container=container), timeout=30)
    with pytest.raises(grpc.RpcError, match="paused"):
        running.exec(container, "true")
    running.api.tasks.Resume(pb.ResumeTaskRequest(container=container), timeout=30)
    assert running.get(container).state.status == containers.CONTAINER_STATUS_RUNNING
    running.api.tasks.Pause(pb.PauseTaskRequest(container=container), timeout=30)
    running.kill(container)
    assert running.wait(container, timeout=10).exit_code == 137


def test_an_attacher_that_comes_before_the_start_misses_nothing(running: Running) -> None:
    container = running.create("sh", "-c", "echo out; echo err >&2; exit 5")
    with running.attach(container) as attached:
        running.start(container)
        assert attached.finish().exit_code == 5
        assert (attached.stdout, attached.stderr) == (b"out\n", b"err\n")


def test_stdin_goes_in_and_its_end_too(running: Running) -> None:
    container = running.create("sh", "-c", "cat; echo done", open_stdin=True, stdin_once=True)
    with running.attach(container, stdin=True) as attached:
        running.start(container)
        attached.send(b"hello ")
        attached.send(b"world\n")
        attached.close_stdin()
        assert attached.finish().exit_code == 0
        assert attached.stdout == b"hello world\ndone\n"


def test_bytes_pass_in_both_directions_whole(running: Running) -> None:
    data = bytes(range(256)) * 4096 * 16
    container = running.create("cat", open_stdin=True, stdin_once=True)
    with running.attach(container, stdin=True) as attached:
        running.start(container)

        def feed() -> None:
            for at in range(0, len(data), 1 << 20):
                attached.send(data[at : at + (1 << 20)])
            attached.close_stdin()

        threading.Thread(target=feed).start()
        attached.finish()
        assert hashlib.sha256(attached.stdout).digest() == hashlib.sha256(data).digest()


def test_a_reader_that_stalls_loses_nothing(running: Running) -> None:
    size = 64 << 20
    container = running.create("head", "-c", str(size), "/dev/zero")
    with running.attach(container) as attached:
        running.start(container)
        attached.step()
        time.sleep(1.0)
        assert running.get(container).state.status == containers.CONTAINER_STATUS_RUNNING, "it is held up"
        assert attached.finish().exit_code == 0
        assert len(attached.stdout) == size


def test_an_attacher_of_a_container_that_removes_itself_hears_of_the_exit_after_the_removal(running: Running) -> None:
    container = running.create("sh", "-c", "echo x; exit 4", auto_remove=True)
    with running.attach(container) as attached:
        running.start(container)
        while attached.status is None and attached.step():
            pass
        with pytest.raises(grpc.RpcError) as raised:
            running.get(container)
        assert code(raised.value) is grpc.StatusCode.NOT_FOUND
        assert attached.status.exit_code == 4


def test_a_start_that_fails_is_told_to_those_who_wait_for_it(running: Running) -> None:
    container = running.create("/no/such")
    with running.attach(container) as attached:
        with pytest.raises(grpc.RpcError):
            running.start(container)
        with pytest.raises(grpc.RpcError, match="/no/such") as raised:
            attached.finish()
        assert code(raised.value) is grpc.StatusCode.NOT_FOUND


def test_detaching_leaves_the_container_running(running: Running) -> None:
    container = running.run("sh", "-c", "while :; do echo tick; sleep 0.02; done")
    with running.attach(container) as first:
        first.until(b"tick")
    with running.attach(container) as second:
        second.until(b"tick")
    assert running.get(container).state.status == containers.CONTAINER_STATUS_RUNNING


def test_a_terminal_has_the_size_that_was_asked_for(running: Running) -> None:
    container = running.create("sh", "-c", "stty size; read x; stty size", terminal=True, open_stdin=True)
    size = pb.TerminalSize(width=100, height=30)
    with running.attach(container, stdin=True, size=size) as attached:
        assert attached.terminal
        running.start(container)
        attached.until(b"30 100")
        attached.resize(120, 40)
        time.sleep(0.2)
        attached.send(b"\n")
        attached.until(b"40 120")
        assert attached.finish().exit_code == 0


def test_exec_runs_beside_the_container(running: Running) -> None:
    container = running.run("sleep", "60", environment=["A=1"])
    execution = running.exec(container, "sh", "-c", "echo $A$B >/said; exit 9", environment=["B=2"])
    assert running.wait(container, exec_id=execution).exit_code == 9
    assert running.wait(container, exec_id=execution).exit_code == 9, "remembered"
    check = running.exec(container, "grep", "-q", "^12$", "/said")
    assert running.wait(container, exec_id=check).exit_code == 0


def test_an_exec_waits_for_its_attacher(running: Running) -> None:
    container = running.run("sleep", "60")
    execution = running.exec(container, "sh", "-c", "cat; echo err >&2; exit 6", open_stdin=True, attach_first=True)
    with running.attach(container, exec_id=execution, stdin=True) as attached:
        attached.send(b"in\n")
        attached.close_stdin()
        assert attached.finish().exit_code == 6
        assert (attached.stdout, attached.stderr) == (b"in\n", b"err\n")


def test_an_exec_that_cannot_run_says_why(running: Running) -> None:
    container = running.run("sleep", "60")
    with pytest.raises(grpc.RpcError, match="/no/such") as raised:
        running.exec(container, "/no/such")
    assert code(raised.value) is grpc.StatusCode.NOT_FOUND
    execution = running.exec(container, "/no/such", attach_first=True)
    with running.attach(container, exec_id=execution) as attached, pytest.raises(grpc.RpcError, match="/no/such"):
        attached.finish()
    with pytest.raises(grpc.RpcError, match="working directory"):
        running.exec(container, "true", working_directory="relative")


def test_an_exec_can_be_killed_by_itself(running: Running) -> None:
    container = running.run("sleep", "60")
    execution = running.exec(container, "sleep", "60")
    pids = running.api.tasks.Pids(pb.PidsRequest(container=container), timeout=30).processes
    assert [each.exec_id for each in pids if each.exec_id] == [execution]
    assert len(pids) == 2
    running.kill(container, "TERM", exec_id=execution)
    assert running.wait(container, exec_id=execution).exit_code == 143
    assert running.get(container).state.status == containers.CONTAINER_STATUS_RUNNING


def test_the_end_of_the_container_is_the_end_of_its_execs(running: Running) -> None:
    container = running.run("sleep", "60")
    execution = running.exec(container, "sleep", "60")
    with beside(lambda: running.wait(container, exec_id=execution)) as answers:
        time.sleep(0.1)
        running.kill(container)
        assert answers.get(timeout=30).exit_code == 137


def test_logs_are_those_of_both_streams_for_running_and_ended_containers(running: Running) -> None:
    container = running.run("sh", "-c", "echo one; echo two >&2; sleep 0.2; printf three")
    running.wait(container)
    # Which of two pipes is read first is the shim's business.
    assert sorted(running.logs(container)) == sorted("one\ntwo\nthree")
    assert running.logs(container, stdout=True) == "one\nthree"
    assert running.logs(container, stderr=True) == "two\n"
    assert running.logs(container, tail=0) == ""


def test_followed_logs_end_with_the_container(running: Running) -> None:
    container = running.run("sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.05; done")
    assert running.logs(container, follow=True).split() == ["1", "2", "3", "4", "5"]


def test_followed_logs_survive_rotation(running: Running) -> None:
    log = containers.LogOptions(max_bytes=20_000, max_files=1000)
    script = "i=0; while [ $i -lt 5000 ]; do echo line-$i; i=$((i+1)); done"
    container = running.run("sh", "-c", script, log=log)
    expected = [f"line-{n}" for n in range(5000)]
    assert running.logs(container, follow=True).split() == expected
    running.wait(container)
    assert running.logs(container).split() == expected
    assert running.logs(container, tail=3).split() == expected[-3:]


def test_too_little_memory_is_an_oom_kill_that_is_told(running: Running) -> None:
    resources = containers.Resources(memory_bytes=16 << 20, memory_swap_bytes=16 << 20)
    container = running.run("sh", "-c", "tail /dev/zero", resources=resources)
    status = running.wait(container)
    assert status.oom_killed
    assert status.reason == "oom"


def test_events_tell_a_life_in_order_and_from_a_cursor_again(running: Running) -> None:
    stream = running.api.events.Subscribe(events_pb2.SubscribeRequest(), timeout=60)
    stream.initial_metadata()
    container = running.create("sh", "-c", "exit 3", name="told", labels={"k": "v"})
    running.start(container)
    running.wait(container)
    running.delete(container)
    topics: list[str] = []
    cursors: list[int] = []
    for event in stream:
        assert (event.id, event.attributes["name"], event.attributes["k"]) == (container, "told", "v")
        topics.append(event.topic)
        cursors.append(event.cursor)
        if event.topic == "container.removed":
            break
    stream.cancel()
    assert topics == ["container.created", "task.started", "task.exited", "container.removed"]
    again = running.api.events.Subscribe(events_pb2.SubscribeRequest(after=cursors[0], topics=["task."]), timeout=60)
    assert [next(again).topic, next(again).topic] == ["task.started", "task.exited"]
    again.cancel()


def test_many_starts_at_once_all_come_to_their_end(running: Running) -> None:
    made = [running.create("sh", "-c", f"exit {n}") for n in range(24)]
    threads = [threading.Thread(target=running.start, args=(container,)) for container in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [running.wait(container).exit_code for container in made] == list(range(24))
