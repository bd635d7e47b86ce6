"""OCI bundles with a busybox root, and shims to run them in: for tests that need no daemon.

Owns the bundle's documents and the zygote of a test. Everything lies below one directory and one cgroup parent.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

from corten_api.shim import corten_pb2
from cortend.tasks.shim import Shim
from cortend.tasks.stream import Channel, Stream
from cortend.tasks.zygote import Zygote

BUSYBOX = Path("/bin/busybox")
NAMESPACES = ("pid", "mount", "uts", "ipc", "network", "cgroup")
MOUNTS = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
    },
]


def busybox_root(directory: Path) -> Path:
    """A root filesystem with every busybox applet."""
    for name in ("bin", "proc", "dev", "sys", "tmp", "etc", "root"):
        (directory / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, directory / "bin/busybox")
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            os.link(directory / "bin/busybox", directory / "bin" / applet)
    (directory / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (directory / "etc/group").write_text("root:x:0:\n")
    return directory


class Box:
    """One container in one shim. `log` is its log directory; `exit_record` what the shim left there."""

    def __init__(self, shim: Shim, directory: Path) -> None:
        self.shim = shim
        self.directory = directory

    @property
    def log(self) -> bytes:
        return (self.directory / "log").read_bytes()

    @property
    def exit_record(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.directory / "exit.json").read_bytes())
        return document

    async def wait(self, *, exec_id: str = "") -> int:
        async with asyncio.timeout(20):
            return (await self.shim.wait(exec_id=exec_id)).exit_status

    async def exec(self, *argv: str, terminal: bool = False, stdin: bool = False) -> str:
        """A process beside the init, made but not started; its exec id."""
        exec_id = secrets.token_hex(32)
        process = process_spec(argv, terminal=terminal)
        await self.shim.exec(exec_id, json.dumps(process).encode(), terminal=terminal, stdin=stdin)
        return exec_id

    async def remove(self) -> None:
        """Kill, delete, and see the shim end."""
        if (await self.shim.state()).status != 3:
            await self.shim.kill(9)
            await self.wait()
        await self.shim.delete()
        await self.shim.shutdown()
        async with asyncio.timeout(5):
            await self.shim.wait_closed()


class Boxes:
    """Makes boxes below `directory`; `close` removes what is still there."""

    def __init__(self, directory: Path, cgroup_parent: str) -> None:
        self.directory = directory
        self.cgroup_parent = cgroup_parent
        self.zygote = Zygote(directory, cgroup_parent)
        self.root = busybox_root(directory / "root")
        self.made: list[Box] = []

    def bundle(self, argv: tuple[str, ...], *, terminal: bool = False, **linux: Any) -> Path:
        """A bundle that runs `argv`; `linux` overrides parts of that section."""
        container_id = secrets.token_hex(32)
        bundle = self.directory / container_id
        bundle.mkdir(mode=0o700)
        section = {"cgroupsPath": f"{self.cgroup_parent}/{container_id}", "resources": {}}
        spec = {
            "ociVersion": "1.2.0",
            "process": process_spec(argv, terminal=terminal),
            "root": {"path": str(self.root)},
            "hostname": "box",
            "mounts": MOUNTS,
            "linux": section | {"namespaces": [{"type": kind} for kind in NAMESPACES]} | linux,
        }
        (bundle / "config.json").write_text(json.dumps(spec))
        return bundle

    async def create(
        self,
        *argv: str,
        terminal: bool = False,
        options: corten_pb2.CreateOptions | None = None,
        resources: dict[str, Any] | None = None,
    ) -> Box:
        """A container that waits to be started."""
        bundle = self.bundle(argv, terminal=terminal, resources=resources or {})
        logs = self.directory / f"{bundle.name}.logs"
        logs.mkdir()
        wanted = corten_pb2.CreateOptions(log_directory=str(logs), exit_record=str(logs / "exit.json"))
        wanted.MergeFrom(options or corten_pb2.CreateOptions())
        shim, _ = await self.zygote.spawn(
            bundle.name, bundle, lambda new: new.create([], options=wanted, terminal=terminal)
        )
        box = Box(shim, logs)
        self.made.append(box)
        return box

    async def run(self, *argv: str, **wishes: Any) -> Box:
        """A container that runs."""
        box = await self.create(*argv, **wishes)
        await box.shim.start()
        return box

    async def close(self) -> None:
        for box in self.made:
            if not box.shim.closed.is_set():
                await box.shim.shutdown(now=True)
                async with asyncio.timeout(15):
                    await box.shim.wait_closed()
        await self.zygote.close()


def process_spec(argv: tuple[str, ...], *, terminal: bool) -> dict[str, Any]:
    granted = ["CAP_KILL", "CAP_CHOWN", "CAP_DAC_OVERRIDE"]
    return {
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": list(argv),
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "oomScoreAdj": 0,
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), granted),
        "noNewPrivileges": True,
    }


async def read_all(stream: Stream, *, seconds: float = 20) -> dict[Channel, bytes]:
    """What comes on each channel until the end."""
    found = {Channel.STDOUT: b"", Channel.STDERR: b""}
    async with asyncio.timeout(seconds):
        while True:
            channel, data = await stream.read()
            if channel == Channel.END:
                return found
            found[channel] += data


async def read_until(stream: Stream, text: bytes, *, seconds: float = 10) -> bytes:
    """What comes until `text` is among it."""
    found = b""
    async with asyncio.timeout(seconds):
        while text not in found:
            channel, data = await stream.read()
            assert channel != Channel.END, found
            found += data
    return found
