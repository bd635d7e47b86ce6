"""The `corten` command with a user at it: signals, terminals, detach keys, progress."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.images import TestImage
from tests.support.registry import Registry
from tests.support.terminal import Terminal

pytestmark = pytest.mark.root

CTRL_P_Q = b"\x10\x11"


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_forwarded(box: Daemon, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
    with started(box, "run", "--rm", "busybox", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == f"{name}\n".encode()
        assert process.wait(30) == 9


def test_ctrl_c_reaches_an_exec_too(box: Daemon, sleeper: str) -> None:
    with started(box, "exec", sleeper, "sh", "-c", "echo ready; exec sleep 600") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_a_terminal_has_the_users_size_and_follows_it(box: Daemon) -> None:
    script = "stty size; trap 'stty size; exit 6' WINCH; echo ready; while :; do sleep 0.05; done"
    argv = box.command("run", "-it", "--rm", "busybox", "sh", "-c", script)
    with Terminal(argv, env=box.environment(), columns=101, rows=33) as terminal:
        terminal.wait_for(b"33 101\r\nready")
        terminal.resize(77, 20)
        terminal.wait_for(b"20 77")
        assert terminal.wait() == 6
        assert terminal.settings() == terminal.before


def test_ctrl_c_is_a_byte_for_a_terminal(box: Daemon) -> None:
    argv = box.command("run", "-it", "--rm", "busybox", "sh", "-c", "trap 'echo caught; exit 8' INT; echo ready; cat")
    with Terminal(argv, env=box.environment()) as terminal:
        terminal.wait_for(b"ready")
        time.sleep(0.2)
        terminal.type(b"\x03")
        terminal.wait_for(b"caught")
        assert terminal.wait() == 8


@pytest.mark.parametrize(("options", "sequence"), [([], CTRL_P_Q), (["--detach-keys", "ctrl-x,y"], b"\x18y")])
def test_detach_keys_leave_the_container_running(box: Daemon, options: list[str], sequence: bytes) -> None:
    argv = box.command("run", "-it", *options, "--name", "left", "busybox", "sh")
    with Terminal(argv, env=box.environment()) as terminal:
        terminal.wait_for(b"#")
        terminal.type(b"echo $((40+2))\n")
        terminal.wait_for(b"42")
        for key in sequence:
            terminal.type(bytes((key,)))
            time.sleep(0.1)
        assert terminal.wait() == 0
        assert terminal.settings() == terminal.before
    assert box.corten("ps", "--format", "{{.Names}} {{.State}}") == "left running"
    with Terminal(box.command("attach", "left"), env=box.environment()) as terminal:
        time.sleep(0.5)
        terminal.type(b"exit 12\n")
        assert terminal.wait() == 12


def test_a_terminal_without_one_on_stdin_is_refused(box: Daemon) -> None:
    done = box.cli("run", "-it", "--rm", "busybox", "true")
    assert done.returncode == 125
    assert "not a TTY" in done.stderr.decode()


def test_pull_draws_on_a_terminal(box: Daemon, registry: Registry, debian_image: TestImage) -> None:
    reference = registry.push(debian_image, "team/large:v1")
    with Terminal(box.command("pull", reference), env={**box.environment(), "TERM": "xterm"}, columns=110) as terminal:
        assert terminal.wait(seconds=60) == 0
        assert b"Pull complete" in terminal.shown
        assert terminal.shown.rstrip().endswith(reference.encode())
        assert terminal.settings() == terminal.before
    box.corten("rmi", reference)
