"""Modules that stand in for others until they are used."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from corten.cli import deferred
deferred.defer()
import click, corten.cli.main, corten.cli.running, corten.containers
from corten.cli.main import cli
run = cli.get_command(click.Context(cli), "run")
from corten_api.v1 import containers_pb2
idle = [name for name in deferred.IDLE if not isinstance(sys.modules[name], deferred.Deferred)]
assert not idle, idle
assert "Options:" in run.get_help(click.Context(run))
assert "image" in str(containers_pb2.ContainerConfig(image="image"))
from google.protobuf import text_format
import inspect
assert inspect.cleandoc("  a\\n   b") == "a\\nb" and inspect.isfunction(len) is False
assert text_format.MessageToString(containers_pb2.ContainerConfig(image="x")).strip() == 'image: "x"'
"""


def test_what_is_idle_is_not_loaded_and_works_once_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
