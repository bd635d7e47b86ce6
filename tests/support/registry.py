"""A real docker-registry on a free loopback port, filled by skopeo."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from tests.support.images import TestImage
from tests.support.programs import ProgramFailed, run


class Registry:
    """Debian's docker-registry with its data below `directory`. `host` is "localhost:PORT"."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def start(self) -> None:
        """Serve. Raises ProgramFailed when it does not answer within 20 s."""
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "config.yml"
        config.write_text(
            "version: 0.1\n"
            "log: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {self._directory}/data}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: 127.0.0.1:{self.port}}}\n"
        )
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ProgramFailed(f"docker-registry does not answer:\n{(self._directory / 'log').read_text()}")
            time.sleep(0.02)

    def push(self, image: TestImage, name: str = "") -> str:
        """Push every platform of `image`; returns the reference to pull, `localhost:PORT/name:tag`."""
        reference = f"{self.host}/{name or image.name + ':' + image.tag}"
        words = ["skopeo", "copy", "--all", "--quiet", "--dest-tls-verify=false", "--insecure-policy"]
        run([*words, image.source, f"docker://{reference}"])
        return reference

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
