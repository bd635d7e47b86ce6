"""What the unpacking worker can still do once it has confined itself: nothing beyond its directory."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from corten_api.errors import Internal, ResourceExhausted
from cortend.layers.limits import Limits
from cortend.oci.digest import Digest

from tests.support.layers import Store, archive, file

pytestmark = pytest.mark.root

_PROBE = """
import sys
sys.path[:0] = {paths!r}
import errno, json, os, socket
from corten_shim.linux import libc
from cortend.layers import confine
before = [os.readlink("/proc/self/ns/" + each) for each in ("mnt", "net", "ipc")]
root, lower = confine.enter(json.loads(sys.argv[1]))

def said(call, *arguments):
    try:
        return str(call(*arguments))
    except OSError as error:
        return errno.errorcode[error.errno]
    except ImportError:
        return "ImportError"

def connect():
    with socket.socket() as probe:
        probe.connect(("127.0.0.1", {port}))

print(json.dumps({{
    "root": sorted(os.listdir("/")),
    "above": sorted(os.listdir("/..")),
    "lower": sorted(os.listdir(lower)) if lower >= 0 else None,
    "above lower": sorted(os.listdir(os.open("..", os.O_RDONLY, dir_fd=lower))) if lower >= 0 else None,
    "write lower": said(lambda: os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=lower)) if lower >= 0 else None,
    "chroot": said(os.chroot, "/"),
    "setuid": said(os.setuid, 1000),
    "mount": said(libc.mount, "none", "/", "tmpfs", 0),
    "unshare": said(libc.unshare, 0x20000),
    "connect": said(connect),
    "import": said(__import__, "wave"),
    "dumpable": libc.prctl(3),
    "no_new_privs": libc.prctl(39),
    "descriptors": [each for each in range(64) if said(os.fstat, each) != "EBADF"],
}}))
"""


def probe(directory: Path, *lower: Path, port: int = 1) -> dict[str, Any]:
    """What a process that confined itself to `directory` finds out."""
    limits = {"memory": 1 << 30, "max_bytes": 1 << 30}
    request = {"directory": str(directory), "lower": [str(each) for each in lower], "limits": limits}
    code = _PROBE.format(paths=[each for each in sys.path if each], port=port)
    argv = [sys.executable, "-I", "-S", "-c", code, json.dumps(request)]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def numbered(root: Path, number: int) -> Path:
    (root / str(number) / "fs").mkdir(parents=True)
    (root / str(number) / "work").mkdir()
    (root / str(number) / "fs" / f"file{number}").touch()
    return root / str(number) / "fs"


def test_the_worker_sees_its_directory_and_can_do_nothing_else(tmp_path: Path) -> None:
    found = probe(numbered(tmp_path, 1))
    assert found["root"] == found["above"] == ["file1"]
    for forbidden in ("chroot", "setuid", "mount", "unshare"):
        assert found[forbidden] == "EPERM"
    assert found["connect"] == "ENETUNREACH"
    assert found["import"] == "ImportError"
    assert (found["dumpable"], found["no_new_privs"]) == (0, 1)
    assert set(found["descriptors"]) <= {0, 1, 2, 3}


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_lower_layers_are_seen_as_one_tree_and_cannot_be_written(tmp_path: Path, layers: int) -> None:
    lower = [numbered(tmp_path, number) for number in range(1, layers + 1)]
    found = probe(numbered(tmp_path, 9), *lower)
    names = [f"file{number}" for number in range(1, layers + 1)]
    assert found["lower"] == names
    assert found["root"] == ["file9"]
    assert found["above lower"] == names
    assert found["write lower"] == "EROFS"


def test_a_worker_that_is_killed_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, limits=Limits(memory=16 << 20))
    try:
        with pytest.raises((Internal, ResourceExhausted)):
            store.unpack_now(archive(file("f", os.urandom(1 << 20))))
        assert store.names() == []
    finally:
        store.close()


async def test_a_worker_without_progress_is_given_up(tmp_path: Path) -> None:
    store = Store(tmp_path, limits=Limits(idle_seconds=0.001))
    blob = archive(*(file(f"f{number}", os.urandom(5000)) for number in range(1000)))
    layer = store.add(blob)
    try:
        started = time.monotonic()
        with pytest.raises(ResourceExhausted, match="no progress"):
            await asyncio.wait_for(store.chains.unpack_chain([layer], [Digest.of(blob)]), 20)
        assert time.monotonic() - started < 20
        assert store.names() == []
    finally:
        store.close()
