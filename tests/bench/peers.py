"""Other engines, where they are installed: each started in directories, sockets and cgroups of its own, and ended.

Owns how each is told to run without touching the host's network, storage or services. Used by the benchmark alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from tests.bench.measure import timed
from tests.support import leftovers
from tests.support.images import TestImage

START_SECONDS = 30
CGROUP = f"{leftovers.CGROUP}-peers"


class Peer:
    """`run(...)` gives a whole command; `start` and `stop` frame it."""

    name = ""
    programs: tuple[str, ...] = ()
    shim_program = ""

    def __init__(self, directory: Path, state: Path) -> None:
        self.directory = directory / self.name
        self.state = state / self.name
        for each in (self.directory, self.state):
            each.mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def installed(cls) -> bool:
        return all(shutil.which(program) for program in cls.programs)

    def start(self, image: TestImage) -> None:
        """Start it and give it the image."""

    def run(self, image: str, *argv: str) -> list[str]:
        """The command that runs a container in the foreground and removes it."""
        raise AssertionError(self.name)

    def run_detached(self, image: str, name: str, *argv: str) -> list[str]:
        raise AssertionError(self.name)

    def remove(self, name: str) -> None:
        """Kill and remove a detached container."""

    def pids(self) -> list[int]:
        """The daemon's processes."""
        return [self.process.pid] if self.process else []

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for each in (self.directory, self.state):
            for place in sorted(leftovers.mounts(str(each)), key=len, reverse=True):
                subprocess.run(["umount", "-l", place.split()[-1]], check=False, capture_output=True)
            shutil.rmtree(each, ignore_errors=True)

    def _launch(self, argv: Sequence[str], probe: Sequence[str]) -> None:
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(probe, capture_output=True, check=False).returncode != 0:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{self.name} does not answer:\n{(self.directory / 'log').read_text()[-3000:]}")
            time.sleep(0.1)


class Containerd(Peer):
    name = "ctr"
    programs = ("containerd", "ctr", "runc")
    shim_program = "containerd-shim-runc-v2"

    def start(self, image: TestImage) -> None:
        config = self.directory / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{self.directory}/root"\nstate = "{self.state}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
            f'[grpc]\naddress = "{self.state}/s"\n'
        )
        self._ctr = ["ctr", "-a", f"{self.state}/s"]
        self._launch(["containerd", "-c", str(config)], [*self._ctr, "version"])
        timed([*self._ctr, "images", "import", str(image.archive)])

    def run(self, image: str, *argv: str) -> list[str]:
        name = uuid.uuid4().hex
        return [*self._ctr, "run", "--rm", "--cgroup", f"{CGROUP}/{name}", image, name, *argv]

    def run_detached(self, image: str, name: str, *argv: str) -> list[str]:
        return [*self._ctr, "run", "-d", "--cgroup", f"{CGROUP}/{name}", image, name, *argv]

    def remove(self, name: str) -> None:
        subprocess.run([*self._ctr, "tasks", "rm", "-f", name], capture_output=True, check=False)
        subprocess.run([*self._ctr, "containers", "rm", name], capture_output=True, check=False)


class Docker(Peer):
    name = "docker"
    programs = ("dockerd", "docker", "containerd")
    shim_program = "containerd-shim-runc-v2"

    def start(self, image: TestImage) -> None:
        socket = f"unix://{self.state}/s"
        argv = ["dockerd", "--data-root", f"{self.directory}/data", "--exec-root", f"{self.state}/exec"]
        argv += ["-H", socket, "-p", f"{self.state}/pid", "--bridge=none", "--iptables=false", "--ip6tables=false"]
        argv += ["--storage-driver=overlay2", f"--cgroup-parent={CGROUP}", "--exec-opt", "native.cgroupdriver=cgroupfs"]
        self._docker = ["docker", "-H", socket]
        self._launch(argv, [*self._docker, "version"])
        # docker load of 20.10 takes no OCI archive: skopeo writes docker's own.
        archive = self.directory / "image.tar"
        timed(["skopeo", "copy", "--quiet", image.source, f"docker-archive:{archive}:{image.name}:{image.tag}"])
        timed([*self._docker, "load", "-i", str(archive)])

    def run(self, image: str, *argv: str) -> list[str]:
        return [*self._docker, "run", "--rm", "--network", "none", image, *argv]

    def run_detached(self, image: str, name: str, *argv: str) -> list[str]:
        return [*self._docker, "run", "-d", "--network", "none", "--name", name, image, *argv]

    def remove(self, name: str) -> None:
        subprocess.run([*self._docker, "rm", "-f", name], capture_output=True, check=False)

    def pids(self) -> list[int]:
        """dockerd and the containerd it started."""
        mine = super().pids()
        children = Path(f"/proc/{mine[0]}/task/{mine[0]}/children")
        for task in Path(f"/proc/{mine[0]}/task").iterdir():
            children = task / "children"
            mine += [int(pid) for pid in children.read_text().split()]
        return sorted(set(mine))


class Podman(Peer):
    name = "podman"
    programs = ("podman", "runc", "conmon")
    shim_program = "conmon"
    # Its own ulimits are higher than some hosts allow even root.
    _common = ("--log-driver", "k8s-file", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")

    def start(self, image: TestImage) -> None:
        at = self.state
        self._podman = ["podman", "--root", f"{self.directory}/root", "--runroot", f"{at}/run", "--tmpdir", f"{at}/tmp"]
        self._podman += ["--cgroup-manager", "cgroupfs", "--runtime", "runc", "--storage-driver", "overlay"]
        self._podman += ["--events-backend", "file", "--log-level", "error"]
        timed([*self._podman, "load", "-i", str(image.archive)])

    def run(self, image: str, *argv: str) -> list[str]:
        options = ["--rm", "--network", "none", "--cgroup-parent", CGROUP, *self._common]
        return [*self._podman, "run", *options, image, *argv]

    def run_detached(self, image: str, name: str, *argv: str) -> list[str]:
        options = ["-d", "--network", "none", "--cgroup-parent", CGROUP, "--name", name, *self._common]
        return [*self._podman, "run", *options, image, *argv]

    def remove(self, name: str) -> None:
        subprocess.run([*self._podman, "rm", "-f", "-t", "0", name], capture_output=True, check=False)


PEERS: tuple[type[Peer], ...] = (Containerd, Docker, Podman)


def shims(program: str, peer: Peer) -> list[int]:
    """Pids of the processes that run `program` for `peer`."""
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdecimal():
            continue
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        line = b" ".join(words).decode(errors="replace")
        if os.path.basename(line.split()[0] if line.split() else "") == program and (
            str(peer.directory) in line or str(peer.state) in line
        ):
            found.append(int(place.name))
    return found
