"""SIGKILL for the engine, its zygote and its shims, in every phase of a container's life and at moments drawn by lot.

After each blow the engine is started again, and then all must be in order: what ran runs on, what was half-made is
whole or gone, and records and kernel agree. What a container keeps across a crash is told one by one in
`tests/integration/test_recovery.py`.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from corten_api.v1 import containers_pb2 as containers
from corten_api.v1 import content_pb2, images_pb2, tasks_pb2

from tests.support import consistency, leftovers
from tests.support.daemon import Daemon
from tests.support.images import TestImage
from tests.support.registry import Registry
from tests.support.running import Running, eventually

pytestmark = pytest.mark.root

RUNNING = containers.CONTAINER_STATUS_RUNNING
CREATED = containers.CONTAINER_STATUS_CREATED
EXITED = containers.CONTAINER_STATUS_EXITED
LOT = random.Random(os.environ.get("CORTEN_TEST_SEED", "corten"))
COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"


@pytest.fixture
def running(daemon: Daemon, busybox: str) -> Running:
    return Running(lambda: daemon.api, busybox)


@contextmanager
def killed_during(daemon: Daemon, work: Callable[[], object], *, after: float) -> Iterator[None]:
    """Kill the engine `after` seconds of `work`, start it again, and check at the end of the block that all agrees."""
    begun = threading.Event()

    def perform() -> None:
        begun.set()
        with suppress(grpc.RpcError, ValueError):  # its engine is killed, as it should be
            work()

    thread = threading.Thread(target=perform)
    thread.start()
    begun.wait(10)
    time.sleep(after)
    daemon.kill9()
    thread.join(30)
    daemon.start()
    yield
    assert consistency.disagreements(daemon) == []


def listed(running: Running) -> dict[str, containers.Container]:
    request = containers.ListContainersRequest(all=True)
    return {each.id: each for each in running.api.containers.List(request, timeout=30).containers}


def useful(running: Running, container: str) -> None:
    """It runs, its log goes on, it can be exec'd into and attached to, and its exit code will be known."""
    before = len(running.logs(container))
    assert eventually(lambda: len(running.logs(container)) > before)
    execution = running.exec(container, "true")
    assert running.wait(container, exec_id=execution).exit_code == 0
    with running.attach(container) as attached:
        attached.until(b"\n")
    running.kill(container, "KILL")
    assert running.wait(container).exit_code == 137


# images


@pytest.mark.parametrize("after", [0.02, 0.15, 0.4])
def test_a_crash_during_a_pull_leaves_what_the_next_pull_goes_on_with(
    fresh_daemon: Daemon, registry: Registry, busybox_image: TestImage, after: float
) -> None:
    reference = registry.push(busybox_image)

    def pull() -> Any:
        request = images_pb2.PullImageRequest(reference=reference)
        *_, last = fresh_daemon.api.images.Pull(request, timeout=60)
        return last.done

    with killed_during(fresh_daemon, pull, after=after):
        image = pull()
    running = Running(lambda: fresh_daemon.api, reference)
    assert running.wait(running.run("sh", "-c", "exit 4")).exit_code == 4
    assert fresh_daemon.clear() == []
    fresh_daemon.api.images.Remove(images_pb2.RemoveImageRequest(reference=image.id, force=True), timeout=30)
    assert blobs(fresh_daemon) == []


@pytest.mark.parametrize("after", [0.01, 0.1, 0.3])
def test_a_crash_during_a_load_leaves_nothing_of_it(
    fresh_daemon: Daemon, busybox_image: TestImage, after: float
) -> None:
    with killed_during(fresh_daemon, lambda: fresh_daemon.api.load(busybox_image.archive), after=after):
        if not fresh_daemon.api.has_image(busybox_image.reference):
            with pytest.raises(grpc.RpcError):  # a failed removal of nothing collects nothing; a failed load does
                list(fresh_daemon.api.images.Load(iter([images_pb2.LoadImageRequest(data=b"no")]), timeout=30))
            assert blobs(fresh_daemon) == []
        fresh_daemon.api.load(busybox_image.archive)
    running = Running(lambda: fresh_daemon.api, busybox_image.reference)
    assert running.wait(running.run("sh", "-c", "exit 4")).exit_code == 4


def blobs(daemon: Daemon) -> list[str]:
    listed = daemon.api.content.List(content_pb2.ListContentRequest(), timeout=30).blobs
    partial = [path.name for path in (daemon.root / "content/ingest").iterdir()]
    return [each.digest for each in listed] + partial


# a container's life


def test_a_crash_during_create_leaves_a_whole_container_or_none(running: Running, daemon: Daemon) -> None:
    for _ in range(3):
        before = set(listed(running))
        with killed_during(daemon, lambda: running.create("sh", "-c", COUNT), after=LOT.uniform(0, 0.02)):
            for container in set(listed(running)) - before:
                running.start(container)
                useful(running, container)


def test_a_crash_between_create_and_start_changes_nothing(running: Running, daemon: Daemon) -> None:
    container = running.create("sh", "-c", COUNT)
    with killed_during(daemon, lambda: None, after=0):
        assert running.get(container).state.status == CREATED
        running.start(container)
        useful(running, container)


@pytest.mark.parametrize("auto_remove", [False, True])
def test_a_crash_during_a_start_leaves_it_started_or_not(running: Running, daemon: Daemon, auto_remove: bool) -> None:
    for step in range(8):
        container = running.create("sh", "-c", COUNT, auto_remove=auto_remove)
        after = step * 0.005 + LOT.uniform(0, 0.005)
        with killed_during(daemon, lambda c=container: running.start(c), after=after):  # type: ignore[misc]
            status = running.get(container).state.status
            assert status in (CREATED, RUNNING), f"after {after * 1000:.1f} ms"
            if status == CREATED:
                running.start(container)
            if step % 4 == 0 and not auto_remove:
                useful(running, container)
        running.delete(container, force=True)


def test_a_crash_during_an_exec_harms_no_container(running: Running, daemon: Daemon) -> None:
    container = running.run("sh", "-c", COUNT)
    for _ in range(4):
        with killed_during(daemon, lambda: running.exec(container, "sleep", "60"), after=LOT.uniform(0, 0.015)):
            execution = running.exec(container, "sh", "-c", "exit 6")
            assert running.wait(container, exec_id=execution).exit_code == 6
            answer = running.api.tasks.Pids(tasks_pb2.PidsRequest(container=container), timeout=30)
            assert answer.processes
    useful(running, container)


@pytest.mark.parametrize("obeys", [True, False])
def test_a_crash_during_a_stop_leaves_it_running_or_ended(running: Running, daemon: Daemon, obeys: bool) -> None:
    trap = "trap 'sleep 0.2; exit 3' TERM" if obeys else "trap '' TERM"
    container = running.run("sh", "-c", f"{trap}; echo ready; while :; do sleep 0.05; done")
    assert eventually(lambda: "ready" in running.logs(container))
    with killed_during(daemon, lambda: running.stop(container, 30), after=0.1):
        if obeys:
            assert running.wait(container).exit_code == 3
        else:
            assert running.get(container).state.status == RUNNING
            running.stop(container, 0)
            assert running.wait(container).exit_code == 137


def test_a_crash_during_a_removal_leaves_a_whole_container_or_none(running: Running, daemon: Daemon) -> None:
    for step in range(6):
        container = running.run("sh", "-c", COUNT)
        after = step * 0.006 + LOT.uniform(0, 0.006)
        with killed_during(daemon, lambda c=container: running.delete(c, force=True), after=after):  # type: ignore[misc]
            found = listed(running)
            if container in found:
                assert found[container].state.status in (RUNNING, EXITED)
                running.delete(container, force=True)


def test_a_crash_around_the_exit_of_containers_that_remove_themselves(running: Running, daemon: Daemon) -> None:
    for _ in range(4):
        made = [running.run("sleep", f"0.{tenths}", auto_remove=True) for tenths in (1, 2, 3)]
        with killed_during(daemon, lambda: None, after=LOT.uniform(0, 0.25)):
            assert eventually(lambda m=made: not set(m) & set(listed(running)))  # type: ignore[misc]


# the other processes


@pytest.mark.parametrize(
    "which", [["corten-zygote"], ["corten-spare"], ["corten-builder"], ["corten-zygote", "corten-spare"]]
)
def test_a_zygote_that_was_killed_is_replaced_by_the_next_start(
    running: Running, daemon: Daemon, which: list[str]
) -> None:
    container = running.run("sh", "-c", COUNT)
    for _ in range(2):
        for pid in {pid for name in which for pid in consistency.named(daemon, name)}:
            os.kill(pid, signal.SIGKILL)
        other = running.run("sh", "-c", COUNT)
        useful(running, other)
    useful(running, container)
    assert consistency.disagreements(daemon) == []


def test_a_shim_that_was_killed_takes_everything_of_its_container_along(running: Running, daemon: Daemon) -> None:
    script = "for i in 1 2 3; do sh -c 'trap \"\" TERM HUP; sleep 1000' & done; " + COUNT
    container = running.run("sh", "-c", script)
    execution = running.exec(container, "sleep", "60")
    state = running.get(container).state
    assert execution
    os.kill(state.shim_pid, signal.SIGKILL)
    status = running.wait(container, timeout=20)
    assert (status.exit_code, status.reason) == (137, "shim-lost")
    assert eventually(lambda: not Path(f"/proc/{state.pid}").exists())
    assert consistency.disagreements(daemon) == []
    running.start(container)
    useful(running, container)


def test_everything_at_once_is_killed_and_the_next_engine_puts_it_in_order(running: Running, daemon: Daemon) -> None:
    made = [running.run("sh", "-c", COUNT, auto_remove=number == 2) for number in range(3)]
    shims = leftovers.processes_in(f"{daemon.cgroup}/shims")
    daemon.kill9()
    for pid in shims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    daemon.start()
    found = listed(running)
    assert set(found) == set(made[:2])
    for container in made[:2]:
        state = found[container].state
        assert (state.status, state.exit_code, state.reason) == (EXITED, 137, "shim-lost")
    assert consistency.disagreements(daemon) == []


# many


def test_two_hundred_short_lives_leave_nothing_behind(running: Running, daemon: Daemon) -> None:
    def lives(number: int) -> None:
        for _ in range(number):
            container = running.create("true", auto_remove=True)
            running.start(container)
            with suppress(grpc.RpcError):  # it may be gone already
                running.wait(container, tasks_pb2.WaitTaskRequest.CONDITION_REMOVED)

    def all_lives(number: int) -> None:
        threads = [threading.Thread(target=lives, args=(number // 4,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert eventually(lambda: not listed(running), seconds=20)
        assert consistency.disagreements(daemon) == []

    all_lives(40)  # caches and pools fill up
    files, memory = consistency.descriptors(daemon), consistency.resident(daemon)
    all_lives(200)
    assert leftovers.gone(lambda: ["descriptor"] * (consistency.descriptors(daemon) - files)) == []
    assert consistency.resident(daemon) - memory < 6 << 20
