"""Containers made by the native runtime alone, with no daemon and no shim around it.

Owns the spec of such a container and the directories it lives in. What performs it is `runtime_child`, in a process of
its own, because only such a process may become the container's parent.
"""

from __future__ import annotations

import copy
import json
import os
import secrets
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corten_shim.cgroups import open_cgroup
from cortend.oci import capabilities, seccomp_profile
from cortend.oci.linux_resources import device_rules
from cortend.oci.runtime_spec import MASKED_PATHS, NETWORK_SYSCTLS, READONLY_PATHS

from tests.support import leftovers
from tests.support.bundles import busybox_root
from tests.support.paths import CHECKOUT

Spec = dict[str, Any]
PATIENCE = int(os.environ.get("CORTEN_TEST_PATIENCE", "1"))
_CHILD = Path(__file__).with_name("runtime_child.py")
_NAMESPACES = ("pid", "mount", "uts", "ipc", "cgroup", "network")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`fault` is (code, kind, name, detail); `output` all that the container wrote; `left_open` leaked descriptors."""

    fault: tuple[int, str, str, str] | None
    exit_code: int | None
    exec_code: int | None
    output: str
    warnings: list[str]
    oom_kills: int
    left_open: list[str]


class Runtime:
    """Makes containers below `directory`: their layers are `base`, a busybox root, and what a test puts over it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.base = busybox_root(directory / "base")
        (self.base / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n")
        (self.base / "etc/group").write_text("root:x:0:\nalice:x:1000:\nbuilders:x:2000:alice\n")

    def layer(self) -> Path:
        """An empty directory to put over `base`: hand it to `run`."""
        path = self.directory / f"layer-{secrets.token_hex(4)}"
        path.mkdir()
        return path

    def run(
        self,
        *argv: str,
        layer: Path | None = None,
        change: Callable[[Spec], None] | None = None,
        prepare: Callable[[dict[str, Any]], None] | None = None,
        exec: Spec | None = None,
    ) -> Outcome:
        """Run `argv` to its end; with `exec`, run that process beside it instead of waiting for it.

        `change` may change the spec, `prepare` the rest of the job (see `job`).
        """
        job, output = self.job(argv, layer=layer, change=change)
        job["exec"] = exec
        if prepare is not None:
            prepare(job)
        done = subprocess.run(
            child_command(), input=json.dumps(job), capture_output=True, text=True, timeout=40 * PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        return Outcome(
            fault=None if said["fault"] is None else tuple(said["fault"]),
            exit_code=said["exit"],
            exec_code=said["exec"],
            output=output.read_text(errors="replace") if output.exists() else "",
            warnings=said["warnings"],
            oom_kills=said["oom_kills"],
            left_open=said["open"],
        )

    @contextmanager
    def running(self, job: Spec) -> Iterator[Callable[[], int | None]]:
        """The container of `job` while it runs; what it gives waits for its end and returns the exit code."""
        child = subprocess.Popen(child_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def ended() -> int | None:
            said, _ = child.communicate(timeout=20 * PATIENCE)
            code: int | None = json.loads(said)["exit"]
            return code

        assert child.stdin is not None
        child.stdin.write(json.dumps(job) + "\n")
        child.stdin.flush()
        try:
            yield ended
        finally:
            if child.poll() is None:
                child.kill()
                child.communicate()

    @contextmanager
    def held(self, job: Spec) -> Iterator[int]:
        """The container of `job` while it waits before its exec: its pid on the host. It ends with the block."""
        job["hold"] = True
        child = subprocess.Popen(child_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(job) + "\n")
        child.stdin.flush()
        try:
            yield int(json.loads(child.stdout.readline())["pid"])
        finally:
            child.stdin.close()
            child.wait(20 * PATIENCE)
            child.stdout.close()
            cgroup = open_cgroup(job["cgroup"])
            cgroup.kill()
            cgroup.remove()

    def job(
        self, argv: tuple[str, ...], *, layer: Path | None = None, change: Callable[[Spec], None] | None = None
    ) -> tuple[Spec, Path]:
        """What `runtime_child` takes, and where the container's output will be."""
        spec = container_spec(argv)
        if change is not None:
            change(spec)
        name = secrets.token_hex(8)
        own = self.directory / name
        for each in ("upper", "work", "bundle"):
            (own / each).mkdir(parents=True)
        lower = ":".join(str(each) for each in (layer, self.base) if each is not None)
        options = ["userxattr", "index=off", "metacopy=off", "redirect_dir=nofollow", f"lowerdir={lower}"]
        options += [f"upperdir={own / 'upper'}", f"workdir={own / 'work'}"]
        job = {
            "spec": spec,
            "root": ["overlay", "overlay", "", options],
            "bundle": str(own / "bundle"),
            "cgroup": f"{leftovers.CGROUP}-runtime-{name}",
            "output": str(own / "output"),
            "seccomp_cache": str(self.directory / "seccomp"),
            "exec": None,
            "hold": False,  # wait before the exec, until killed
            "speaks_first": False,  # `exec` is not before the container has written something
            "window": None,  # columns and rows: with a terminal
            "old_overlay": False,  # as on a kernel without lowerdir+
        }
        return job, own / "output"


def child_command() -> list[str]:
    """How the stand-in for a shim is started."""
    path = [str(CHECKOUT / "shim"), sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED")]
    code = "import sys; sys.path[:] = sys.argv[2:]; import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
    return [os.path.realpath(sys.executable), "-I", "-S", "-c", code, str(_CHILD), *path]


def container_spec(argv: tuple[str, ...]) -> Spec:
    """The OCI spec of a container as the engine makes them by default."""
    granted = sorted(capabilities.DEFAULT)
    spec: Spec = {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0, "username": ""},
            "args": list(argv),
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), granted),
            "noNewPrivileges": False,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "box",
        "mounts": [
            _mount("/proc", "proc", "nosuid", "noexec", "nodev"),
            _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            _mount("/sys/fs/cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in _NAMESPACES],
            "resources": {"devices": device_rules([], privileged=False)},
            "sysctl": dict(NETWORK_SYSCTLS),
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
            "seccomp": seccomp_profile.default(granted, "amd64"),
        },
    }
    return copy.deepcopy(spec)


def bind(target: str, source: Path, *options: str) -> Callable[[Spec], None]:
    """A change of a spec: one more bind mount."""
    entry = {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", *options]}
    return lambda spec: spec["mounts"].append(entry)


def _mount(target: str, kind: str, *options: str) -> Spec:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}
