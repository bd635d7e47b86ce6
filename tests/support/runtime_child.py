"""Stands for a shim: performs one container as its standard input says and prints what came of it.

Started by `tests.support.runtime` as the zygote is: `-I -S`, the standard library and the shim alone on its path.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from corten_shim import rootfs
from corten_shim.builder import Builder, Built, build_container, build_exec
from corten_shim.cgroups import open_cgroup
from corten_shim.linux import process
from corten_shim.linux.errors import RuntimeFault
from corten_shim.rootfs import Mount
from corten_shim.spawned import Stdio


def main() -> None:
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    process.become_subreaper()
    open_before = set(os.listdir("/proc/self/fd"))
    said: dict[str, Any] = {"fault": None, "exit": None, "exec": None, "warnings": []}
    cgroup = open_cgroup(job["cgroup"])
    if job["old_overlay"]:
        (rootfs._overlay.__kwdefaults__ or {})["force_old"] = True
    job["spec"]["linux"]["cgroupsPath"] = job["cgroup"]
    with open(f"{job['bundle']}/config.json", "w") as config:
        json.dump(job["spec"], config)
    try:
        _run(job, said)
    except RuntimeFault as fault:
        said["fault"] = [fault.code, fault.kind, fault.name, fault.detail]
    finally:
        said["oom_kills"] = cgroup.oom_kills()
        cgroup.kill()
        _reap()
        cgroup.remove()
    said["open"] = sorted(set(os.listdir("/proc/self/fd")) - open_before)
    print(json.dumps(said))


def _run(job: dict[str, Any], said: dict[str, Any]) -> None:
    with open(job["output"], "ab") as output:
        stdio = Stdio(output.fileno(), output.fileno(), output.fileno())
        if job["window"]:
            stdio = Stdio.terminal(*job["window"])
        built = build_container(
            Builder(),
            name="box",
            bundle=job["bundle"],
            mounts=[Mount(*job["root"])],
            stdio=stdio,
            seccomp_cache=job["seccomp_cache"],
            meanwhile=lambda: None,
        )
        spawned = built.spawned
        said["warnings"] = spawned.warnings
        try:
            if job["hold"]:
                print(json.dumps({"pid": spawned.pid}), flush=True)
                sys.stdin.read()
                os.kill(os.getpid(), 9)
            spawned.start()
            while job["speaks_first"] and not os.path.getsize(job["output"]):
                time.sleep(0.01)
            if job["exec"]:
                said["exec"] = _exec(job, built, stdio)
                spawned.abandon()
                return
            if spawned.terminal >= 0:
                output.write(_everything(spawned.terminal))
                os.close(spawned.terminal)
            said["exit"] = os.waitstatus_to_exitcode(os.waitpid(spawned.pid, 0)[1])
        finally:
            os.close(spawned.pidfd)
            os.close(built.root_fd)


def _everything(terminal: int) -> bytes:
    """What is written to the terminal until nobody has it open any more."""
    said = b""
    try:
        while data := os.read(terminal, 4096):
            said += data
    except OSError:
        return said
    return said


def _exec(job: dict[str, Any], built: Built, stdio: Stdio) -> int:
    beside = build_exec(
        Builder(),
        name="exec",
        bundle=job["bundle"],
        process=json.dumps(job["exec"]).encode(),
        init=(built.spawned.pidfd, built.spawned.pid),
        root_fd=built.root_fd,
        stdio=stdio,
        seccomp_cache=job["seccomp_cache"],
    ).spawned
    try:
        beside.start()
        return os.waitstatus_to_exitcode(os.waitpid(beside.pid, 0)[1])
    finally:
        os.close(beside.pidfd)


def _reap() -> None:
    try:
        while os.waitpid(-1, 0)[0]:
            continue
    except ChildProcessError:
        return


main()
