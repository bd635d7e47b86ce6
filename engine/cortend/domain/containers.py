"""Containers as values: the intent a user stated, the state of what ran, the moves between states.

Owns the shape of a container record and its life cycle. Checks nothing: see `cortend.domain.intent`.
Empty and zero fields of the intent mean what `corten.v1` says: take what the image or the engine says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from corten_api.errors import FailedPrecondition

DEFAULT_STOP_TIMEOUT_NS = 10_000_000_000


class MountType(Enum):
    BIND = "bind"
    TMPFS = "tmpfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPoint:
    """Something of the host's, or a tmpfs, at a path of the container."""

    type: MountType
    source: str = ""  # absolute host path for a bind
    target: str
    read_only: bool = False
    create_source: bool = False
    propagation: str = ""  # "rprivate" when empty
    non_recursive: bool = False
    options: tuple[str, ...] = ()  # of a tmpfs


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    memory_bytes: int = 0
    cpu_nanos: int = 0
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0
    memory_swap_bytes: int = 0  # memory plus swap; -1: no limit
    memory_reservation_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    no_new_privileges: bool = False
    seccomp: str = ""  # empty: the default; "unconfined"; otherwise a profile's JSON
    apparmor: str = ""
    selinux: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    unmask_paths: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    """`name` as setrlimit(2) has it, in lower case without "RLIMIT_"; -1: unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    max_bytes: int = 0
    max_files: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerConfig:
    """What the user asked for."""

    image: str
    entrypoint: tuple[str, ...] = ()
    clear_entrypoint: bool = False
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    working_directory: str = ""
    user: str = ""
    hostname: str = ""
    terminal: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    stop_timeout_ns: int | None = None
    mounts: tuple[MountPoint, ...] = ()
    network: str = ""  # "none" when empty
    resources: Resources = Resources()
    security: Security = Security()
    ulimits: tuple[Ulimit, ...] = ()
    auto_remove: bool = False
    read_only: bool = False
    shm_size: int = 0
    oom_score_adj: int | None = None
    umask: int | None = None
    extra_hosts: tuple[str, ...] = ()  # "name:address"
    domainname: str = ""
    log: LogOptions = LogOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecConfig:
    """A process to run beside the container's own; empty fields take the container's."""

    argv: tuple[str, ...]
    environment: tuple[str, ...] = ()
    working_directory: str = ""
    user: str = ""
    terminal: bool = False
    open_stdin: bool = False
    privileged: bool = False
    attach_first: bool = False


class Status(Enum):
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"
    REMOVING = "removing"


class Move(Enum):
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    EXIT = "exit"
    REMOVE = "remove"


MOVES: Mapping[tuple[Status, Move], Status] = {
    (Status.CREATED, Move.START): Status.RUNNING,
    (Status.EXITED, Move.START): Status.RUNNING,
    (Status.RUNNING, Move.PAUSE): Status.PAUSED,
    (Status.PAUSED, Move.RESUME): Status.RUNNING,
    (Status.RUNNING, Move.EXIT): Status.EXITED,
    (Status.PAUSED, Move.EXIT): Status.EXITED,
    (Status.CREATED, Move.REMOVE): Status.REMOVING,
    (Status.EXITED, Move.REMOVE): Status.REMOVING,
    (Status.REMOVING, Move.REMOVE): Status.REMOVING,
}


def moved(status: Status, move: Move, *, name: str) -> Status:
    """Where `move` leads from `status`. Raises FailedPrecondition naming both for a move that is not allowed."""
    target = MOVES.get((status, move))
    if target is None:
        raise FailedPrecondition("container", name, f"it is {status.value}, so it cannot {move.value}")
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """How a process ended."""

    exit_code: int  # 0..255, 128+signal
    reason: str = ""  # "", "oom", "shim-lost", "host-restart", "start-failed"
    oom_killed: bool = False
    started_at_ns: int = 0
    exited_at_ns: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the last task did. `pid` and `shim_pid` are 0 when nothing runs."""

    status: Status = Status.CREATED
    pid: int = 0
    shim_pid: int = 0
    exit: ExitStatus | None = None
    error: str = ""  # why the last start failed
    started_at_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container record: intent, what the image was at create, and the state of what ran last."""

    id: str
    name: str
    namespace: str
    config: ContainerConfig
    image_id: str  # digest of the image configuration
    image_name: str  # full reference at create, empty when created by id
    argv: tuple[str, ...]
    created_at_ns: int
    request_id: str = ""
    state: State = State()

    @property
    def status(self) -> Status:
        return self.state.status

    @property
    def snapshot_key(self) -> str:
        return self.id
