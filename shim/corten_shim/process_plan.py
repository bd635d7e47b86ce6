"""The planner of a process: what makes it who it is, and what it does once it is let go.

Owns which steps these are, and their order: limits, labels and the bounding set before ids, ids before the final
capabilities, seccomp last. Pure, as `plan`, which plans the world that the process finds.
"""

from __future__ import annotations

import os
import resource

from corten_shim import credentials
from corten_shim.identity import CAPABILITY_SETS, Identity, capability_mask, capability_names
from corten_shim.linux.errors import INVALID_ARGUMENT, RuntimeFault
from corten_shim.operations import Operation
from corten_shim.seccomp import Filter
from corten_shim.usermap import IdMap, host_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RLIM_INFINITY = 2**64 - 1  # as OCI writes it


class Planned:
    """`early` is done with the host's rights, before any namespace changes; `before` in the finished world, up to the
    gate; `after` once the process is let go.
    """

    __slots__ = ("after", "before", "early", "warnings")

    def __init__(self) -> None:
        self.early: tuple[Operation, ...] = ()
        self.before: tuple[Operation, ...] = ()
        self.after: tuple[Operation, ...] = ()
        self.warnings: list[str] = []


def process_plan(
    process: dict[str, Any],
    *,
    identity: Identity,
    seccomp: Filter | None,
    held: int,
    streams: tuple[int, ...] = (),
    maps: IdMap | None = None,
    oom_score: int | None = 0,
    keyring: bool = True,
) -> Planned:
    """The operations that make `process`, which has these `streams`.

    `held` are the capabilities that can be given; `maps` the ids of its user namespace, None for the host's.
    `oom_score` is taken where the process has none; None leaves it.
    """
    planned = Planned()
    user = process.get("user") or {}
    sets = _capability_sets(process.get("capabilities") or {}, held, planned.warnings)
    limits = _limits(process.get("rlimits") or [])
    planned.early = _early(process, identity, limits, streams, maps, oom_score)
    before: list[Operation] = []
    if keyring:
        before.append(credentials.Keyring("_corten"))
    before.append(credentials.Terminal(identity.uid))
    before.append(credentials.WorkingDirectory(process.get("cwd") or "/"))
    before.append(credentials.Umask(user.get("umask", 0o022)))
    if process.get("apparmorProfile"):
        before.append(credentials.SecurityLabel("apparmor/exec", f"exec {process['apparmorProfile']}"))
    if process.get("selinuxLabel"):
        before.append(credentials.SecurityLabel("exec", process["selinuxLabel"]))
    if process.get("noNewPrivileges"):
        before.append(credentials.NoNewPrivileges())
    before.append(credentials.BoundingSet(sets["bounding"]))
    # From here on no descriptor is opened, so that RLIMIT_NOFILE may be anything; raising one takes a capability still.
    before += limits
    before.append(credentials.BecomeUser(identity.uid, identity.gid, tuple(identity.groups)))
    planned.before = tuple(before)
    confine = credentials.Confine(
        sets["bounding"],
        sets["effective"],
        sets["permitted"],
        sets["inheritable"],
        sets["ambient"],
        seccomp.program if seccomp is not None else b"",
        seccomp.flags if seccomp is not None else 0,
    )
    planned.after = (confine, _execute(process, identity))
    return planned


def _early(
    process: dict[str, Any],
    identity: Identity,
    limits: list[credentials.ResourceLimit],
    streams: tuple[int, ...],
    maps: IdMap | None,
    oom_score: int | None,
) -> tuple[Operation, ...]:
    found: list[Operation] = []
    score = process.get("oomScoreAdj")
    if score is None:
        score = oom_score
    if score is not None:
        found.append(credentials.OomScore(score))
    uid = identity.uid if maps is None else host_id(maps.users, identity.uid)
    gid = identity.gid if maps is None else host_id(maps.groups, identity.gid)
    if streams and uid > 0 and gid >= 0:
        found.append(credentials.OwnStreams(uid, gid, streams))
    if maps is not None:
        found += [credentials.RaiseLimit(limit.kind, limit.name, limit.hard) for limit in limits]
    return tuple(found)


def _capability_sets(wanted: dict[str, Any], held: int, warnings: list[str]) -> dict[str, int]:
    """The five sets as bits. What the kernel or the runtime does not have is left out, with a warning."""
    unknown: set[str] = set()
    sets = {name: capability_mask(wanted.get(name), unknown) for name in CAPABILITY_SETS}
    missing = capability_names(sets["bounding"] & ~held)
    if unknown or missing:
        warnings.append(
            f"capabilities that are not to be had here are left out: {', '.join((*sorted(unknown), *missing))}"
        )
    return {name: mask & held for name, mask in sets.items()}


def _limits(wanted: list[dict[str, Any]]) -> list[credentials.ResourceLimit]:
    limits = [_rlimit(limit) for limit in wanted]
    names = [limit.name for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise RuntimeFault(INVALID_ARGUMENT, "ulimit", name, "it is listed twice")
    return limits


def _rlimit(limit: dict[str, Any]) -> credentials.ResourceLimit:
    name = str(limit.get("type"))
    kind = getattr(resource, name, None) if name.startswith("RLIMIT_") else None
    if kind is None:
        raise RuntimeFault(INVALID_ARGUMENT, "ulimit", name, "no such resource limit")
    soft, hard = (resource.RLIM_INFINITY if limit[key] >= RLIM_INFINITY else limit[key] for key in ("soft", "hard"))
    if hard != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > hard):
        raise RuntimeFault(INVALID_ARGUMENT, "ulimit", f"{name}={limit['soft']}:{limit['hard']}", "soft is above hard")
    return credentials.ResourceLimit(kind, name, soft, hard)


def _execute(process: dict[str, Any], identity: Identity) -> Operation:
    arguments = process.get("args") or ()
    if not arguments or not arguments[0]:
        raise RuntimeFault(INVALID_ARGUMENT, "command", "", "process.args is empty")
    environment: dict[bytes, bytes] = {}
    for entry in process.get("env") or ():
        name, separator, value = os.fsencode(entry).partition(b"=")
        if not separator or not name or b"\0" in name + value:
            raise RuntimeFault(INVALID_ARGUMENT, "environment", entry, 'written "NAME=value", without NUL')
        environment[name] = value
    if identity.home:
        environment.setdefault(b"HOME", os.fsencode(identity.home))
    argv = tuple(os.fsencode(argument) for argument in arguments)
    if any(b"\0" in argument for argument in argv):
        raise RuntimeFault(INVALID_ARGUMENT, "command", arguments[0], "an argument holds a NUL")
    path = environment.get(b"PATH", DEFAULT_PATH)
    return credentials.Execute(argv, tuple(environment.items()), path)
