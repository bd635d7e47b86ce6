"""What other people's tools say of the whole tree: ruff, mypy --strict, and protoc on generated code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.paths import CHECKOUT


def _say(*argv: str, timeout: int = 300) -> tuple[int, str]:
    done = subprocess.run([sys.executable, *argv], cwd=CHECKOUT, capture_output=True, timeout=timeout, check=False)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace").strip()


def test_ruff_finds_nothing() -> None:
    status, said = _say("-m", "ruff", "check", "--output-format=concise", ".")
    assert status == 0, f"ruff check (many are mended by `ruff check --fix`):\n{said}"


def test_the_tree_is_formatted() -> None:
    status, said = _say("-m", "ruff", "format", "--check", ".")
    assert status == 0, f"`ruff format` would change:\n{said}"


@pytest.mark.timeout(400)
def test_every_type_holds() -> None:
    status, said = _say("-m", "mypy", "--no-error-summary")
    assert status == 0, f"mypy --strict:\n{said}"


def test_generated_code_is_fresh() -> None:
    status, said = _say("protos/build.py", "--check")
    assert status == 0, f"run `python protos/build.py`:\n{said}"
