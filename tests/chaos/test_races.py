"""Calls that contradict each other at the same moment: one of them wins, and what is left is whole."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
from corten_api.v1 import images_pb2
from cortend.oci.platform import Platform

from tests.support import consistency
from tests.support.daemon import Daemon
from tests.support.layers import archive, file
from tests.support.running import Running, code

pytestmark = pytest.mark.root


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """What `docker save tiny` writes, for an image of one file."""
    layer = archive(file("x"))
    config = json.dumps(
        {
            "os": "linux",
            "architecture": Platform.host().architecture,
            "config": {"Cmd": ["/x"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]},
        }
    ).encode()
    name = f"{sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": ["tiny:latest"], "Layers": ["layer.tar"]}]).encode()
    path = tmp_path / "tiny.tar"
    with tarfile.open(path, "w") as tar:
        for member, data in (("manifest.json", manifest), (name, config), ("layer.tar", layer)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def together(*calls: Callable[[], object]) -> list[object]:
    """What each call returned, or the RpcError it ended with; all begin at once."""
    barrier = threading.Barrier(len(calls))
    answers: list[object] = [None] * len(calls)

    def perform(place: int) -> None:
        barrier.wait(10)
        try:
            answers[place] = calls[place]()
        except grpc.RpcError as error:
            answers[place] = error

    threads = [threading.Thread(target=perform, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def test_an_image_is_either_removed_or_used(daemon: Daemon, tiny: Path) -> None:
    running = Running(lambda: daemon.api, "tiny")
    request = images_pb2.RemoveImageRequest(reference="tiny")
    outcomes = set()
    for _ in range(12):
        daemon.api.load(tiny)
        created, removed = together(lambda: running.create("/x"), lambda: daemon.api.images.Remove(request, timeout=30))
        outcomes.add(isinstance(created, str))
        if isinstance(created, str):
            assert code(removed) is grpc.StatusCode.FAILED_PRECONDITION
            assert daemon.api.has_image("tiny")
            running.delete(created)
        else:
            assert code(created) is grpc.StatusCode.NOT_FOUND
            assert not isinstance(removed, grpc.RpcError)
            assert not daemon.api.has_image("tiny")
        assert consistency.disagreements(daemon) == []
    assert outcomes


def test_a_name_is_given_once(running: Running, daemon: Daemon) -> None:
    answers = together(*[lambda: running.create("true", name="wanted")] * 8)
    refused = [each for each in answers if isinstance(each, grpc.RpcError)]
    assert len(refused) == 7
    assert {code(each) for each in refused} == {grpc.StatusCode.ALREADY_EXISTS}
    assert consistency.disagreements(daemon) == []


def test_a_container_is_started_once_and_removed_once(running: Running, daemon: Daemon) -> None:
    container = running.create("sleep", "60")
    starts = together(*[lambda: running.start(container)] * 6)
    assert sum(isinstance(each, int) for each in starts) == 1
    assert {code(each) for each in starts if not isinstance(each, int)} == {grpc.StatusCode.FAILED_PRECONDITION}
    removals = together(*[lambda: running.delete(container, force=True)] * 6)
    assert sum(each is None for each in removals) == 1
    assert {code(each) for each in removals if each is not None} <= {grpc.StatusCode.NOT_FOUND}
    assert consistency.disagreements(daemon) == []


@pytest.mark.parametrize("auto_remove", [False, True])
def test_starts_and_removals_by_force_at_once_leave_nothing(
    running: Running, daemon: Daemon, auto_remove: bool
) -> None:
    for _ in range(8):
        container = running.create("sleep", "60", auto_remove=auto_remove)
        started, removed = together(lambda: running.start(container), lambda: running.delete(container, force=True))  # noqa: B023
        assert removed is None
        if isinstance(started, grpc.RpcError):
            assert code(started) in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)
    assert consistency.disagreements(daemon) == []


@pytest.fixture
def running(daemon: Daemon, busybox: str) -> Running:
    return Running(lambda: daemon.api, busybox)
