"""What a command may import: the start of `corten` is a good part of every `corten run`.

Times are processor time, the least of several runs, beside that of `import grpc` measured in the same minute: a slow or
busy machine slows both. Modules are counted exactly.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

_COMMANDS = [["ps"], ["run", "--rm", "busybox", "true"], ["exec", "x", "true"], ["logs", "x"], ["images"]]
# What is heavy and no command needs before it has something to show.
_HEAVY = frozenset(
    "grpc asyncio rich logging dataclasses ssl http email urllib concurrent.futures tempfile subprocess pathlib json "
    "importlib.metadata decimal random shutil pyroute2 structlog aiohttp msgspec".split()
)
_NO_ENGINE = "unix:///nowhere/engine.sock"  # a command imports everything it needs before it finds that out
_ROUNDS = 12
_TELL = "import sys; from corten.cli.main import invoke; invoke(sys.argv[1:]); print(*sys.modules)"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """With compiled modules, as an installation has them."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("compiled")), "CORTEN_ADDRESS": _NO_ENGINE}


@pytest.mark.parametrize("words", _COMMANDS, ids=lambda words: words[0])
def test_a_command_imports_nothing_heavy(words: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TELL, *words], env=environment, capture_output=True, check=True, timeout=60
    )
    modules = set(done.stdout.decode().split())
    assert "corten.client" in modules, "the command has not come as far as to ask the engine"
    assert sorted(modules & _HEAVY) == []


def test_ps_starts_in_the_time_that_importing_grpc_takes(environment: Mapping[str, str]) -> None:
    command = str(Path(sys.executable).parent / "corten")
    ours, theirs = _least([command, "ps"], [sys.executable, "-c", "import grpc"], environment=environment)
    assert ours <= theirs, f"corten ps takes {ours * 1000:.0f} ms, importing grpc {theirs * 1000:.0f} ms"


def _least(*commands: list[str], environment: Mapping[str, str]) -> list[float]:
    """The least processor time of each, in seconds; taken in turns, so that all see the same machine."""
    least = [float("inf")] * len(commands)
    for _ in range(_ROUNDS):
        for number, argv in enumerate(commands):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(argv, env=environment, capture_output=True, check=False, timeout=60)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            least[number] = min(least[number], spent)
    return least
