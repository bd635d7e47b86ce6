"""Where tests run: the checkout, what they may reuse, how patient they have to be. Nothing of the engine's own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = float(os.environ.get("CORTEN_TEST_PATIENCE", "1"))  # how many times longer things take here than usual


def cache() -> Path:
    """The directory that outlives a test run: `CORTEN_TEST_CACHE`, or `.cache` of the checkout."""
    path = Path(os.environ.get("CORTEN_TEST_CACHE") or CHECKOUT / ".cache")
    path.mkdir(parents=True, exist_ok=True)
    return path


def cached(name: str, inputs: str, make: Callable[[Path], None]) -> Path:
    """The directory `name` that `make(directory)` filled, made anew only when `inputs` differ from the last time.

    Several runs may ask at once: one makes it, the others wait.
    """
    key = hashlib.sha256(inputs.encode()).hexdigest()[:16]
    target = cache() / name / key
    with locked(cache() / f"{name}.lock"):
        if target.is_dir():
            return target
        for old in (cache() / name).glob("*"):
            shutil.rmtree(old, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
        try:
            make(scratch)
            scratch.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` (flock(2)) for the block."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
