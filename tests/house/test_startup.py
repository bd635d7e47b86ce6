"""What a command loads before it talks to the engine: start-up time, held by names and not by a clock."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"grpc", "asyncio", "rich", "aiohttp", "structlog"}
_LOOK = """
import sys
import click
from corten.cli.main import cli
assert cli.get_command(click.Context(cli), sys.argv[1]) is not None
print(" ".join(sorted({each.partition(".")[0] for each in sys.modules})))
"""


@pytest.mark.parametrize("command", ["ps", "run", "exec", "logs", "start"])
def test_a_command_loads_nothing_heavy(command: str) -> None:
    argv = [sys.executable, "-c", _LOOK, command]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found = sorted(HEAVY & set(done.stdout.split()))
    assert not found, f"`corten {command}` imports {', '.join(found)} before it knows whether it needs them"
