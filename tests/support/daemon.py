"""A real `cortend` in directories and a cgroup of its own, and a check that nothing of it is left.

Owns its process and what tests do to it: kill, restart, terminate. Asserts nothing about what it answers.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import corten
import grpc
from corten_api.v1 import system_pb2, system_pb2_grpc

from tests.support import leftovers
from tests.support.api import Api
from tests.support.paths import PATIENCE
from tests.support.programs import ProgramFailed

_COMMANDS = Path(sys.executable).parent
READY_SECONDS = 20 * PATIENCE


class Daemon:
    """One engine below `directory` (short: sockets live there). `settings` are lines of its config.toml.

    `namespaces` are those whose containers `clear` removes.
    """

    def __init__(
        self, directory: Path, *, settings: Sequence[str] = (), name: str = "d", state: Path | None = None
    ) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.state = state or directory / "state"
        self.log = directory / "cortend.log"
        self.address = f"unix://{self.state}/engine.sock"
        self.cgroup = f"{leftovers.CGROUP}/{name}"
        self.namespaces = ["default"]
        self.process: subprocess.Popen[bytes] | None = None
        self._config = directory / "config.toml"
        self._api: Api | None = None
        self._client: corten.Client | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._config.write_text("\n".join([f'cgroup_parent = "{self.cgroup}"', *settings, ""]))

    # its life

    def start(self, *, wait: bool = True) -> None:
        """Start it; returns when it answers. Raises ProgramFailed with its log when it does not."""
        self._forget_connections()  # one made while nothing listened would wait before it tries again
        argv = [str(_COMMANDS / "cortend"), "--config", str(self._config), "--root", str(self.root)]
        argv += ["--state", str(self.state), "--address", self.address]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Return once System.Ping is answered."""
        deadline = time.monotonic() + READY_SECONDS
        while not self._listens():
            if self.process is None or self.process.poll() is not None:
                raise ProgramFailed(f"cortend ended before it answered:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ProgramFailed(f"cortend does not listen after {READY_SECONDS:.0f} s:\n{self.log_tail()}")
            time.sleep(0.01)
        with grpc.insecure_channel(self.address) as channel:
            system = system_pb2_grpc.SystemStub(channel)
            try:
                system.Ping(system_pb2.PingRequest(), timeout=READY_SECONDS, wait_for_ready=True)
            except grpc.RpcError as error:
                raise ProgramFailed(f"cortend does not answer: {error}\n{self.log_tail()}") from error

    def kill9(self) -> None:
        """SIGKILL: what a crash is to it. Shims and containers stay."""
        self._end(signal.SIGKILL)

    def terminate(self, timeout: float = 20) -> int:
        """SIGTERM and wait; its exit status. Containers stay."""
        return self._end(signal.SIGTERM, timeout)

    def restart(self, *, crash: bool = False) -> None:
        """End it, by SIGKILL if `crash`, and start it again on the same directories."""
        if crash:
            self.kill9()
        else:
            self.terminate()
        self.start()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log_tail(self, size: int = 6000) -> str:
        """The end of its own log."""
        return self.log.read_bytes()[-size:].decode(errors="replace") if self.log.exists() else "(no log)"

    # ways to talk to it

    @property
    def api(self) -> Api:
        """Raw stubs of every service, for what the client library does not show."""
        if self._api is None:
            self._api = Api(self.address)
        return self._api

    @property
    def client(self) -> corten.Client:
        """A blocking client, made once per life of the daemon."""
        if self._client is None:
            self._client = corten.Client(self.address)
        return self._client

    def cli(
        self,
        *words: str | Path,
        stdin: bytes | None = None,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `corten WORDS...` against it; nothing is checked. Without `stdin` its stdin is /dev/null."""
        return subprocess.run(
            self.command(*words),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout * PATIENCE,
            env={**self.environment(), **(env or {})},
            check=False,
        )

    def corten(self, *words: str | Path, stdin: bytes | None = None, timeout: float = 60) -> str:
        """Run `corten WORDS...`, which must succeed; what it wrote to stdout, without the last newline."""
        done = self.cli(*words, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            command = " ".join(map(str, words))
            said = f"{said}\n--- cortend:\n{self.log_tail()}"
            raise ProgramFailed(f"corten {command}: exit status {done.returncode}\n{said}")
        return done.stdout.decode().removesuffix("\n")

    def command(self, *words: str | Path) -> list[str]:
        """The argv of `corten WORDS...`, for tests that start it themselves (with `environment()`)."""
        return [str(_COMMANDS / "corten"), *map(str, words)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "CORTEN_ADDRESS": self.address}

    # what it may not leave behind

    def clear(self) -> list[str]:
        """Remove every container; what is left of them after that, described."""
        if not self.running:
            self.start()
        for namespace in self.namespaces:
            self.api.remove_all(namespace)
        return leftovers.gone(self._remains)

    def close(self) -> list[str]:
        """Clear, terminate and remove everything; what was left behind by the engine, described."""
        left: list[str] = []
        try:
            left += self.clear()
            left += self.api.unfinished_snapshots()
            status = self.terminate()
            if status != 0:
                left.append(f"cortend ended with status {status} after SIGTERM")
        except (ProgramFailed, grpc.RpcError, subprocess.TimeoutExpired) as error:
            left.append(f"cortend could not be shut down in order: {error}")
        finally:
            self.kill9()
        text = str(self.directory)
        left += leftovers.gone(lambda: [leftovers.describe(pid) for pid in self._processes()])
        for pid in self._processes():
            os.kill(pid, signal.SIGKILL)
        left += leftovers.gone(lambda: [*leftovers.mounts(text), *leftovers.sockets(text)])
        left += leftovers.gone(lambda: leftovers.remove_cgroups(self.cgroup))
        if left:
            left.append(f"--- the end of cortend's log:\n{self.log_tail()}")
        elif not leftovers.mounts(text):
            shutil.rmtree(self.directory, ignore_errors=True)
        return left

    def _remains(self) -> list[str]:
        """What is there although no container is: bundles, logs, cgroups, processes, mounts."""
        found = [f"bundle: {path}" for path in (self.state / "shims").glob("*")]
        found += [f"container directory: {path}" for path in (self.root / "containers").glob("*")]
        found += [f"cgroup: {path}" for path in self._container_cgroups()]
        zygote_and_shims = leftovers.processes_in(f"{self.cgroup}/shims")
        if len(zygote_and_shims) > 3:  # consistency.HELPERS stay
            found += [leftovers.describe(pid) for pid in zygote_and_shims]
        return found + leftovers.mounts(f"{self.root}/containers") + leftovers.mounts(f"{self.state}/shims")

    def _container_cgroups(self) -> list[Path]:
        return [
            path
            for path in leftovers.cgroups(self.cgroup)
            if f"{path}/".split(f"{self.cgroup}/", 1)[1].rstrip("/") not in ("", "shims")
        ]

    def _processes(self) -> list[int]:
        return sorted({*leftovers.processes_in(self.cgroup), *leftovers.processes_naming(str(self.state))})

    def _end(self, number: signal.Signals, timeout: float = 20) -> int:
        self._forget_connections()
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(timeout)
        self.process = None
        return status

    def _forget_connections(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._api is not None:
            self._api.close()
            self._api = None

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.address.removeprefix("unix://")) == 0
