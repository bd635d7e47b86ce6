"""Bad input, one case after the other: each gets one error that names the value, and leaves nothing half-made.

What is refused before the engine starts (flags, state path, a damaged database) is in `test_recovery`; layers are taken
apart in `tests/linux/test_hostile_layers`, registries in `test_registry*`. Here everything goes through a whole engine.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from corten_api.v1 import containers_pb2 as pb
from corten_api.v1 import images_pb2

from tests.support.daemon import Daemon
from tests.support.fake_registry import INDEX, MANIFEST, FakeRegistry, descriptor, digest, served
from tests.support.images import TestImage
from tests.support.layers import Member, archive, file, symlink
from tests.support.programs import run
from tests.support.refusals import nothing_left, refusal, told
from tests.support.running import Running, eventually

pytestmark = pytest.mark.root

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@pytest.fixture
def running(daemon: Daemon, busybox: str) -> Running:
    return Running(lambda: daemon.api, busybox)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A registry that serves whatever a test puts into it, beside the test's own thread."""
    fake = FakeRegistry()
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with served(fake.serve) as fake.host:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(10)
    yield fake
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def pull(daemon: Daemon, reference: str) -> None:
    for _ in daemon.api.images.Pull(images_pb2.PullImageRequest(reference=reference, refresh=True), timeout=60):
        continue


def push(registry: FakeRegistry, *layers: bytes, blobs: list[bytes] | None = None, **config: object) -> dict[str, Any]:
    """An image of these archives under "latest"; `blobs` instead of their compressed forms. Its manifest."""
    packed = blobs or [gzip.compress(each, 1) for each in layers]
    document = {
        "os": "linux",
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "config": {"Cmd": ["/x"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in layers]},
        **config,
    }
    data = json.dumps(document).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(data, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(each, LAYER) for each in packed],
    }
    registry.blobs |= {digest(each): each for each in (data, *packed)}
    registry.put("latest", json.dumps(manifest).encode(), MANIFEST)
    return manifest


# images that cannot be had


def test_an_image_that_no_registry_has_is_not_found(daemon: Daemon, registry: FakeRegistry) -> None:
    with nothing_left(daemon):
        error = refusal(lambda: pull(daemon, f"{registry.host}/nobody/nothing:7"))
        assert told(error) == ("NotFound", "image", f"{registry.host}/nobody/nothing:7")
    done = daemon.cli("run", "--rm", f"{registry.host}/nobody/nothing:7", "true")
    assert done.returncode == 125
    assert f"{registry.host}/nobody/nothing:7" in done.stderr.decode().splitlines()[-1]


@pytest.mark.parametrize("reference", ["Busy box", "a//b", "x:", "-x/y:latest", "x@sha256:12", "x" * 300, "ü/x"])
def test_a_reference_with_illegal_characters_is_named(daemon: Daemon, running: Running, reference: str) -> None:
    with nothing_left(daemon):
        for call in (lambda: pull(daemon, reference), lambda: running.create("true", image=reference)):
            error = refusal(call)
            assert type(error).__name__ == "InvalidArgument"
            assert error.name == reference
    assert daemon.cli("run", "--", reference, "true").returncode == 125


def test_a_manifest_of_another_media_type_is_refused(daemon: Daemon, registry: FakeRegistry) -> None:
    data = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.example.chart+json", "config": {}}).encode()
    registry.put("latest", data, "application/vnd.example.chart+json")
    with nothing_left(daemon):
        error = refusal(lambda: pull(daemon, f"{registry.host}/chart"))
        assert type(error).__name__ == "InvalidArgument"
        assert "application/vnd.example.chart+json" in str(error)
    assert daemon.cli("run", f"{registry.host}/chart").returncode == 125


@pytest.mark.parametrize("which", [0, 1])
def test_a_blob_whose_bytes_are_others_is_refused_with_all_of_its_image(
    daemon: Daemon, registry: FakeRegistry, which: int
) -> None:
    manifest = push(registry, archive(file("a", os.urandom(200_000))), archive(file("b", os.urandom(200_000))))
    liar = manifest["layers"][which]["digest"]
    registry.blobs[liar] = b"x" * len(registry.blobs[liar])
    with nothing_left(daemon):
        assert told(refusal(lambda: pull(daemon, f"{registry.host}/liar"))) == ("DataLoss", "blob", liar)
    assert daemon.cli("run", f"{registry.host}/liar").returncode == 125


@pytest.mark.parametrize("change", [-7, 7])
def test_a_blob_of_another_size_is_refused_with_all_of_its_image(
    daemon: Daemon, registry: FakeRegistry, change: int
) -> None:
    manifest = push(registry, archive(file("a", os.urandom(200_000))), archive(file("b", os.urandom(200_000))))
    layer = manifest["layers"][1]
    layer["size"] += change
    registry.put("latest", json.dumps(manifest).encode(), MANIFEST)
    with nothing_left(daemon):
        error = refusal(lambda: pull(daemon, f"{registry.host}/liar"))
        assert told(error) == ("DataLoss", "blob", layer["digest"])
        assert str(layer["size"]) in error.detail


def test_a_configuration_that_lies_about_its_layers_is_refused(daemon: Daemon, registry: FakeRegistry) -> None:
    push(registry, archive(file("a")), blobs=[gzip.compress(archive(file("b")))])
    with nothing_left(daemon):
        error = refusal(lambda: pull(daemon, f"{registry.host}/liar"))
        assert type(error).__name__ == "DataLoss"


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ([file("fine"), file("../../escaped-corten")], "../../escaped-corten"),
        ([symlink("out", "../../../../../../../tmp"), file("out/escaped-corten")], "out/escaped-corten"),
        ([symlink("out", "/tmp"), file("out/escaped-corten")], "out/escaped-corten"),
    ],
)
def test_a_layer_that_leads_out_is_refused_whole(
    daemon: Daemon, registry: FakeRegistry, members: list[Member], named: str
) -> None:
    manifest = push(registry, archive(file("first", b"of two layers")), archive(*members))
    with nothing_left(daemon):
        error = refusal(lambda: pull(daemon, f"{registry.host}/climber"))
        assert told(error) == ("InvalidArgument", "layer", manifest["layers"][1]["digest"])
        assert named in error.detail
    assert not Path("/tmp/escaped-corten").exists()
    assert not list(daemon.root.rglob("escaped-corten"))
    assert daemon.cli("run", f"{registry.host}/climber").returncode == 125


def test_a_decompression_bomb_is_refused_whole(daemon: Daemon, registry: FakeRegistry) -> None:
    start = archive(file("zeros", bytes(16 << 20)))
    zeros = gzip.compress(bytes(64 << 20), 9)  # behind the end of an archive any number of zeros may follow
    bomb = gzip.compress(start, 9) + zeros * 17
    push(registry, start, blobs=[bomb])
    with nothing_left(daemon):
        error = refusal(lambda: pull(daemon, f"{registry.host}/bomb"))
        assert told(error) == ("ResourceExhausted", "layer", digest(bomb))
        assert "decompression bomb" in error.detail


def test_an_image_for_another_platform_is_refused_naming_both(daemon: Daemon, registry: FakeRegistry) -> None:
    push(registry, archive(file("a")), architecture="s390x")
    with nothing_left(daemon):
        error = refusal(lambda: pull(daemon, f"{registry.host}/foreign"))
        assert told(error) == ("FailedPrecondition", "image", f"{registry.host}/foreign:latest")
        assert "linux/s390x" in error.detail
    entry = registry.manifests["latest"][1]
    platform = {"os": "linux", "architecture": "s390x"}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(entry, MANIFEST, platform=platform)]}
    registry.put("latest", json.dumps(index).encode(), INDEX)
    with nothing_left(daemon):
        assert type(refusal(lambda: pull(daemon, f"{registry.host}/foreign"))).__name__ == "FailedPrecondition"
    assert daemon.cli("run", f"{registry.host}/foreign").returncode == 125


# containers that cannot be made

MISSING = pb.MountPoint(type=pb.MountPoint.TYPE_BIND, source="/no/such/source", target="/x")


@pytest.mark.parametrize(
    ("flags", "config", "expected"),
    [
        (
            ["docker.io/nobody/nothing"],
            {"image": "docker.io/nobody/nothing"},
            ("NotFound", "image", "docker.io/nobody/nothing:latest"),
        ),
        (
            ["-m", "1", "busybox"],
            {"resources": pb.Resources(memory_bytes=1)},
            ("InvalidArgument", "memory", "1"),
        ),
        (
            ["--mount", "type=bind,src=/no/such/source,dst=/x", "busybox"],
            {"mounts": [MISSING]},
            ("NotFound", "mount source", "/no/such/source"),
        ),
        (["--name", "in-use", "busybox"], {"name": "in-use"}, ("AlreadyExists", "name", "in-use")),
        (["--name", "no name", "busybox"], {"name": "no name"}, ("InvalidArgument", "name", "no name")),
    ],
)
def test_a_container_that_cannot_be_made_is_refused_by_name(
    daemon: Daemon, running: Running, flags: list[str], config: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    running.create("true", name="in-use")
    with nothing_left(daemon):
        assert told(refusal(lambda: running.create("true", **config))) == expected
        done = daemon.cli("create", *flags, "true")
        last = done.stderr.decode().splitlines()[-1]
        assert (done.returncode, expected[2] in last or "cannot be reached" in last) == (125, True)
    assert not Path("/no/such/source").exists()


# containers that cannot start: each as (config, command, error, words of its detail, exit code of `corten run`)

STARTS: dict[str, tuple[dict[str, Any], list[str], tuple[str, str, str], list[str], int]] = {
    "a missing program": ({}, ["/no/such"], ("NotFound", "executable", "/no/such"), [], 127),
    "a missing program in PATH": ({}, ["no-such"], ("NotFound", "executable", "no-such"), [], 127),
    "a file that is no program": ({}, ["/etc/passwd"], ("PermissionDenied", "executable", "/etc/passwd"), [], 126),
    "a directory": ({}, ["/etc"], ("PermissionDenied", "executable", "/etc"), [], 126),
    "an unknown user": ({"user": "nosuch"}, ["true"], ("InvalidArgument", "user", "nosuch"), ["-u", "nosuch"], 125),
    "an unknown group": (
        {"user": "alice:nosuch"},
        ["true"],
        ("InvalidArgument", "user", "alice:nosuch"),
        ["-u", "alice:nosuch"],
        125,
    ),
    "a working directory that is a file": (
        {"working_directory": "/etc/passwd"},
        ["true"],
        ("InvalidArgument", "working directory", "/etc/passwd"),
        ["-w", "/etc/passwd"],
        125,
    ),
    "a mount below a file": (
        {"mounts": [pb.MountPoint(type=pb.MountPoint.TYPE_BIND, source="/usr", target="/etc/passwd/x")]},
        ["true"],
        ("InvalidArgument", "mount", "/etc/passwd/x"),
        ["-v", "/usr:/etc/passwd/x"],
        125,
    ),
}


@pytest.mark.parametrize("case", STARTS)
def test_a_start_that_fails_names_why_and_leaves_the_record_alone(daemon: Daemon, running: Running, case: str) -> None:
    config, command, expected, flags, exit_code = STARTS[case]
    container = running.create(*command, **config)
    with nothing_left(daemon, but=lambda trace: trace == str(daemon.root / "containers" / container)):
        assert told(refusal(lambda: running.start(container))) == expected
    state = running.get(container).state
    assert state.status == pb.CONTAINER_STATUS_CREATED
    recorded = 128 if exit_code == 125 else exit_code  # as docker: 125 is the command's own
    assert (state.exit_code, state.reason, state.pid) == (recorded, "start-failed", 0)
    assert expected[2] in state.error
    running.delete(container)
    with nothing_left(daemon):
        done = daemon.cli("run", "--rm", *flags, "busybox", *command)
        assert done.returncode == exit_code
        assert done.stdout == b""
        (line,) = done.stderr.decode().splitlines()
        assert expected[2] in line


@pytest.mark.parametrize("case", [each for each, values in STARTS.items() if "mounts" not in values[0]])
def test_an_exec_that_fails_names_why_and_harms_nobody(daemon: Daemon, running: Running, case: str) -> None:
    config, command, expected, flags, exit_code = STARTS[case]
    container = running.run("sleep", "60")
    with nothing_left(daemon):
        assert told(refusal(lambda: running.exec(container, *command, **config))) == expected
        done = daemon.cli("exec", *flags, container, *command)
        assert (done.returncode, done.stdout) == (exit_code, b"")
        assert expected[2] in done.stderr.decode().splitlines()[-1]
    check = running.exec(container, "true")
    assert running.wait(container, exec_id=check).exit_code == 0


# an image whose standard library is poisoned


def marks(daemon: Daemon) -> list[Path]:
    """Where a planted module left its mark: on the host, or in the container's own root."""
    return [path for path in (Path("/poisoned"), *daemon.root.glob("snapshots/*/fs/poisoned")) if path.exists()]


def test_the_poison_would_be_found_if_anything_imported_it(poisoned_image: TestImage, tmp_path: Path) -> None:
    run(["umoci", "unpack", "--image", f"{poisoned_image.layout}:latest", tmp_path / "bundle"])
    root = tmp_path / "bundle/rootfs"
    code = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); import locale"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, root], timeout=30, check=False)
    assert done.returncode == 99
    assert (root / "poisoned").exists()


POISON: dict[str, tuple[dict[str, Any], list[str]]] = {
    **{name: (config, command) for name, (config, command, *_) in STARTS.items()},
    "a program that is not ASCII": ({}, ["/bin/ünïcode-☃"]),
    "bytes that are no text": ({"environment": ["A=\udcff".encode("utf-8", "replace").decode()]}, ["/bin/\u20ac"]),
    "a user that is not ASCII": ({"user": "ünï"}, ["true"]),
    "a working directory in procfs": ({"working_directory": "/proc/self/fd/3"}, ["true"]),
    "a program of another kind": ({"mounts": [], "entrypoint": ["/garbage"]}, []),
}


@pytest.mark.parametrize("case", POISON)
def test_nothing_planted_runs_on_an_error_path(daemon: Daemon, poisoned: str, tmp_path: Path, case: str) -> None:
    running = Running(lambda: daemon.api, poisoned)
    config, command = dict(POISON[case][0]), POISON[case][1]
    if config.get("entrypoint") == ["/garbage"]:
        (tmp_path / "garbage").write_bytes(b"\x7fELF" + bytes(100))
        (tmp_path / "garbage").chmod(0o755)
        config["mounts"] = [
            pb.MountPoint(type=pb.MountPoint.TYPE_BIND, source=str(tmp_path / "garbage"), target="/garbage")
        ]
    container = running.create(*command, **config)
    with nothing_left(daemon, but=lambda trace: trace == str(daemon.root / "containers" / container)):
        refusal(lambda: running.start(container))
        assert running.get(container).state.exit_code in (126, 127, 128)
        assert marks(daemon) == []


def test_nothing_planted_runs_when_all_is_well_nor_in_an_exec_that_fails(daemon: Daemon, poisoned: str) -> None:
    running = Running(lambda: daemon.api, poisoned)
    container = running.run("sleep", "60", user="alice", terminal=True, working_directory="/made/anew")
    for config, command in POISON.values():
        if "mounts" not in config:
            refusal(lambda c=config, w=command: running.exec(container, *w, **_of_exec(c)))  # type: ignore[misc]
    execution = running.exec(container, "sh", "-c", "exit 3")
    assert running.wait(container, exec_id=execution).exit_code == 3
    running.stop(container, 0)
    assert eventually(lambda: running.get(container).state.exit_code == 137)
    assert marks(daemon) == []


def _of_exec(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name in ("user", "working_directory", "environment")}
