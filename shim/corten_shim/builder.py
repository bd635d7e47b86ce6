"""Making a process in a child of its own, so that all it takes to plan one is forgotten with that child.

Owns what that child does before it becomes the intermediate of `init`: it reads the spec, prepares the root and makes
the cgroup. The shim keeps what it needs later: descriptors, and a few words. A shim that had done this itself would be
much larger for the rest of its life.

    shim --fork--> child: spec, root, cgroup, plan; then `init`'s intermediate
      │  "B<own pids><cgroup>" + root <──┤
      │  and all that `init` says  <─────┘
"""

from __future__ import annotations

import json
import os
import socket

from corten_shim import faults
from corten_shim.cgroups import open_cgroup
from corten_shim.init import (
    Mount,
    Spawned,
    Stdio,
    converse,
    create_container,
    create_exec,
    prepare_root,
    report,
    tell_place,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_OWN_PIDS, _SHARED_PIDS = "own:", "shared:"


class Built:
    """A process that waits before its exec, and what belongs to its container. The caller owns the descriptors.

    `root_fd` is -1 for a process that was exec'd; `own_pids` says that everything else dies with the init.
    """

    __slots__ = ("cgroup_path", "own_pids", "root_fd", "spawned")

    def __init__(self, spawned: Spawned) -> None:
        self.spawned = spawned
        self.root_fd = spawned.root_fd
        kind, _, self.cgroup_path = spawned.place.partition(":")
        self.own_pids = f"{kind}:" == _OWN_PIDS


def build_container(*, name: str, bundle: str, mounts: list[Mount], stdio: Stdio, seccomp_cache: str) -> Built:
    """The init of the bundle's container. Raises RuntimeFault, with nothing left behind."""

    def work(channel: socket.socket) -> None:
        spec = read_spec(bundle)
        path = cgroup_path(spec)
        root_fd = prepare_root(mounts or [bundle_root(spec, bundle)], spec=spec)
        cgroup = open_cgroup(path)
        cgroup.create(section(section(spec, "linux"), "resources"))
        tell_place(channel, (_OWN_PIDS if has_own_pids(spec) else _SHARED_PIDS) + path, root_fd)
        create_container(
            spec,
            bundle=bundle,
            root_fd=root_fd,
            stdio=stdio,
            cgroup=cgroup,
            seccomp_cache=seccomp_cache,
            channel=channel,
        )

    made: list[Spawned] = []

    def make(channel: socket.socket) -> Spawned:
        made.append(Spawned(channel))
        return made[0]

    try:
        return Built(converse(make, _child(name, work)))
    except BaseException:
        _undo(Built(made[0]))
        raise


def build_exec(
    *, name: str, bundle: str, process: bytes, init: tuple[int, int], root_fd: int, stdio: Stdio, seccomp_cache: str
) -> Built:
    """A process beside the init, whose pidfd and pid are `init`. `process` is JSON. Raises RuntimeFault."""

    def work(channel: socket.socket) -> None:
        spec = read_spec(bundle)
        create_exec(
            spec,
            parse(process, "process spec", name),
            init_pidfd=init[0],
            init_pid=init[1],
            root_fd=root_fd,
            stdio=stdio,
            cgroup=open_cgroup(cgroup_path(spec)),
            seccomp_cache=seccomp_cache,
            channel=channel,
        )

    return Built(converse(Spawned, _child(name, work)))


def read_spec(bundle: str) -> dict[str, object]:
    """The bundle's `config.json`. Raises RuntimeFault."""
    try:
        with open(os.path.join(bundle, "config.json"), "rb") as file:
            return parse(file.read(), "bundle", bundle)
    except OSError as error:
        raise faults.not_found("bundle", bundle, f"config.json: {error.strerror}") from None


def parse(data: bytes, kind: str, name: str) -> dict[str, object]:
    """A JSON object. Raises RuntimeFault."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise faults.invalid(kind, name, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise faults.invalid(kind, name, "must be a JSON object")
    return value


def section(spec: dict[str, object], name: str) -> dict[str, object]:
    """An object inside a spec; empty where it is absent. Raises RuntimeFault where it is something else."""
    value = spec.get(name) or {}
    if not isinstance(value, dict):
        raise faults.invalid(name, str(value)[:80], "must be an object")
    return value


def cgroup_path(spec: dict[str, object]) -> str:
    path = section(spec, "linux").get("cgroupsPath")
    if not isinstance(path, str) or not path.startswith("/") or ".." in path.split("/"):
        raise faults.invalid("linux.cgroupsPath", str(path), "must be an absolute path below the cgroup root")
    return path


def bundle_root(spec: dict[str, object], bundle: str) -> Mount:
    """The bundle's own root directory, for a caller that mounted nothing."""
    path = section(spec, "root").get("path")
    if not isinstance(path, str) or not path:
        raise faults.invalid("root.path", str(path), "must name the root filesystem's directory")
    return Mount("bind", os.path.join(bundle, path), "", ["rbind"])


def has_own_pids(spec: dict[str, object]) -> bool:
    """Whether the container has a pid namespace of its own, whose processes die with its init."""
    spaces = section(spec, "linux").get("namespaces")
    return isinstance(spaces, list) and {"type": "pid"} in spaces


def _child(name: str, work: Callable[[socket.socket], None]) -> Callable[[socket.socket], NoReturn]:
    """What the forked child does: `work`, which does not return unless it fails; a failure is told."""

    def be_child(channel: socket.socket) -> NoReturn:
        try:
            work(channel)
        except BaseException as error:
            report(channel, ("process", name), error)
        finally:
            os._exit(0)

    return be_child


def _undo(built: Built) -> None:
    """The child failed after it had told its place: the cgroup it made goes."""
    if built.root_fd >= 0:
        os.close(built.root_fd)
    if built.cgroup_path:
        cgroup = open_cgroup(built.cgroup_path)
        cgroup.kill()
        cgroup.remove()
