"""What a command loads before it talks to the engine: start-up time, held by names and not by a clock."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"grpc", "asyncio", "rich", "aiohttp", "structlog", "inspect"}
_LOOK = """
import sys
from corten.cli import main
context = main.click.Context(main.cli)
for name in sys.argv[1:]:
    main.cli.get_command(context, name)
print(" ".join(sorted({each.partition(".")[0] for each in sys.modules})))
"""


@pytest.mark.parametrize("command", ["ps", "run", "exec", "logs", "start"])
def test_a_command_loads_nothing_heavy(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, command], capture_output=True, text=True, check=True, timeout=60
    )
    found = sorted(HEAVY & set(done.stdout.split()))
    assert not found, f"`corten {command}` imports {', '.join(found)} before it knows whether it needs them"
