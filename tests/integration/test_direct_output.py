"""Clients on the engine's machine read output from the shim itself; those that cannot get it through the engine."""

from __future__ import annotations

import subprocess

import pytest
from corten import _direct
from corten.containers import ContainerConfig

from tests.support.daemon import Daemon

pytestmark = pytest.mark.root
SIZE = 8 << 20
SCRIPT = f"dd if=/dev/zero bs=65536 count={SIZE >> 16} 2>/dev/null; echo problem >&2; exit 5"


def collect(daemon: Daemon, reference: str) -> tuple[int, bytes, int]:
    """(bytes of stdout, stderr, exit code) of a container that is removed when it ends."""
    client = daemon.client
    config = ContainerConfig(image=reference, command=("sh", "-c", SCRIPT), network="none", auto_remove=True)
    container = client.containers.create(config).container.id
    length, errors = 0, b""
    with client.tasks.attach(container) as attachment:
        client.tasks.start(container)
        while (output := attachment.read()) is not None:
            if output.stream == "stderr":
                errors += output.data
            else:
                length += len(output.data)
        assert attachment.exit_status is not None
        return length, errors, attachment.exit_status.exit_code


def test_output_comes_from_the_shim_and_is_whole(daemon: Daemon, busybox: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = _direct.DirectOutput.__init__

    def spy(self: _direct.DirectOutput, directory: str, token: bytes) -> None:
        opened.append(directory)
        original(self, directory, token)

    monkeypatch.setattr(_direct.DirectOutput, "__init__", spy)
    assert collect(daemon, busybox) == (SIZE, b"problem\n", 5)
    assert opened
    assert opened[0].startswith(str(daemon.state))


def test_a_client_that_cannot_reach_the_shim_misses_nothing(
    daemon: Daemon, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(self: _direct.DirectOutput, directory: str, token: bytes) -> None:
        raise FileNotFoundError(directory)

    monkeypatch.setattr(_direct.DirectOutput, "__init__", unreachable)
    assert collect(daemon, busybox) == (SIZE, b"problem\n", 5)


def test_the_command_works_where_the_engines_files_are_hidden(daemon: Daemon, busybox: str) -> None:
    command = daemon.command("run", "--rm", busybox, "sh", "-c", SCRIPT)
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$1"; shift; exec "$@"', "sh"]
    done = subprocess.run(
        [*hidden, f"{daemon.state}/shims", *command],
        env=daemon.environment(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (len(done.stdout), done.stderr, done.returncode) == (SIZE, b"problem\n", 5)


def test_output_goes_on_while_the_engine_is_dead(fresh_daemon: Daemon, busybox_image: object) -> None:
    fresh_daemon.api.load(busybox_image.archive)  # type: ignore[attr-defined]
    argv = fresh_daemon.command("run", "busybox", "sh", "-c", "echo one; sleep 2; echo two")
    client = subprocess.Popen(argv, env=fresh_daemon.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert client.stdout is not None
    assert client.stdout.readline() == b"one\n"
    fresh_daemon.kill9()
    assert client.stdout.readline() == b"two\n"
    client.communicate(timeout=30)
    fresh_daemon.start()
