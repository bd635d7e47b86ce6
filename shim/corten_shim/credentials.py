"""What a process of a container may do and who it is: the operations between a finished world and exec.

Owns limits, labels, identity, capabilities, seccomp and the exec itself, as operations like those of `operations`.
Their order matters and is `plan`'s: bounding set before ids, ids before the final capabilities, seccomp last.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import stat

from corten_shim.linux import const, fd, process
from corten_shim.linux.errors import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    PERMISSION_DENIED,
    RuntimeFault,
)
from corten_shim.linux.libc import prctl
from corten_shim.operations import Operation, World

_SYS_ADMIN = 1 << 21
# Whatever Python, the shim or who started the engine ignores: a program must not inherit it so.
_RESET = tuple(sorted(set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}))


class OomScore(Operation):
    """The shim's own score protects the shim; the container gets its own, through the host's procfs."""

    __slots__ = ("value",)
    value: int

    def subject(self) -> tuple[str, str]:
        return "oom_score_adj", str(self.value)

    def perform(self, world: World) -> None:
        setting = os.open("self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC, dir_fd=world.host_proc)
        try:
            os.write(setting, str(self.value).encode())
        except PermissionError:
            now = os.pread(setting, 16, 0).decode().strip()
            world.warn(f"oom_score_adj {self.value} is lower than this host allows; it is {now}")
        finally:
            os.close(setting)


class ResourceLimit(Operation):
    """`kind` is the number of RLIMIT_*. What exceeds the hard limit is clamped to it where it cannot be raised."""

    __slots__ = ("kind", "name", "soft", "hard")  # noqa: RUF023 - the order of the arguments
    kind: int
    name: str
    soft: int
    hard: int

    def subject(self) -> tuple[str, str]:
        return "ulimit", f"{self.name}={self.soft}:{self.hard}"

    def perform(self, world: World) -> None:
        try:
            resource.setrlimit(self.kind, (self.soft, self.hard))
        except (ValueError, PermissionError):
            _, allowed = resource.getrlimit(self.kind)
            resource.setrlimit(self.kind, (_lower(self.soft, allowed), _lower(self.hard, allowed)))
            world.warn(f"ulimit {self.name}={self.soft}:{self.hard} exceeds this host's hard limit; {allowed} it is")


class RaiseLimit(Operation):
    """Raise a hard limit while that is allowed: in a user namespace it is not. If it fails, the limit itself tells."""

    __slots__ = ("kind", "name", "hard")  # noqa: RUF023 - the order of the arguments
    kind: int
    name: str
    hard: int

    def perform(self, world: World) -> None:
        soft, now = resource.getrlimit(self.kind)
        if now == resource.RLIM_INFINITY or (self.hard != resource.RLIM_INFINITY and self.hard <= now):
            return
        try:
            resource.setrlimit(self.kind, (soft, self.hard))
        except (ValueError, PermissionError):
            return


def _lower(wanted: int, allowed: int) -> int:
    if allowed == resource.RLIM_INFINITY:
        return wanted
    return allowed if wanted == resource.RLIM_INFINITY else min(wanted, allowed)


class Keyring(Operation):
    __slots__ = ("name",)
    name: str

    def perform(self, world: World) -> None:
        try:
            process.join_session_keyring(self.name)
        except OSError as error:
            # A kernel without keyrings has none to leak; a full quota must not keep containers from starting.
            if error.errno not in (errno.ENOSYS, errno.EDQUOT):
                raise
            world.warn(f"no session keyring of its own: {error.strerror}")


class SecurityLabel(Operation):
    """The AppArmor profile or SELinux label that exec switches to, by the host's procfs (CVE-2025-52881)."""

    __slots__ = ("attribute", "text")
    attribute: str
    text: str

    def subject(self) -> tuple[str, str]:
        return "security label", self.text

    def perform(self, world: World) -> None:
        setting = os.open(f"self/attr/{self.attribute}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=world.host_proc)
        try:
            os.write(setting, self.text.encode())
        finally:
            os.close(setting)


class OwnStreams(Operation):
    """Pipes of the process belong to its user (ids of the host), so that /dev/stdout can be opened."""

    __slots__ = ("uid", "gid", "descriptors")  # noqa: RUF023 - the order of the arguments
    uid: int
    gid: int
    descriptors: tuple[int, ...]

    def perform(self, world: World) -> None:
        for descriptor in self.descriptors:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.fchown(descriptor, self.uid, self.gid)


class Terminal(Operation):
    """Where there is a terminal, streams 0 to 2 are it, it controls the session, and it belongs to the user."""

    __slots__ = ("uid",)
    uid: int

    def subject(self) -> tuple[str, str]:
        return "terminal", ""

    def perform(self, world: World) -> None:
        if world.terminal < 0:
            return
        fcntl.ioctl(world.terminal, const.TIOCSCTTY, 0)
        for stream in (0, 1, 2):
            os.dup2(world.terminal, stream)
        if self.uid:
            os.fchown(0, self.uid, -1)


class WorkingDirectory(Operation):
    """Go to `path`, made where it is absent, and make sure that it lies inside the root (CVE-2024-21626)."""

    __slots__ = ("path",)
    path: str

    def subject(self) -> tuple[str, str]:
        return "working directory", self.path

    def perform(self, world: World) -> None:
        place = fd.make_directories(world.root, self.path)
        os.fchdir(place)
        os.close(place)
        # The kernel answers "(unreachable)..." for a directory outside; the C library makes ENOENT of it.
        if not os.getcwdb().startswith(b"/"):
            raise RuntimeFault(PERMISSION_DENIED, "working directory", self.path, "it lies outside the container")


class Umask(Operation):
    __slots__ = ("value",)
    value: int

    def perform(self, world: World) -> None:
        os.umask(self.value)


class NoNewPrivileges(Operation):
    __slots__ = ()

    def perform(self, world: World) -> None:
        prctl(const.PR_SET_NO_NEW_PRIVS, 1)


class BoundingSet(Operation):
    """Drop for good what the container may never have."""

    __slots__ = ("mask",)
    mask: int

    def perform(self, world: World) -> None:
        process.bound_capabilities(self.mask, last_capability(world))


def last_capability(world: World) -> int:
    setting = os.open("sys/kernel/cap_last_cap", os.O_RDONLY | os.O_CLOEXEC, dir_fd=world.host_proc)
    try:
        return int(os.read(setting, 16))
    finally:
        os.close(setting)


class BecomeUser(Operation):
    """Groups, gid and uid for good, keeping the capabilities for the operations to come."""

    __slots__ = ("uid", "gid", "groups")  # noqa: RUF023 - the order of the arguments
    uid: int
    gid: int
    groups: tuple[int, ...]

    def subject(self) -> tuple[str, str]:
        return "user", f"{self.uid}:{self.gid}"

    def perform(self, world: World) -> None:
        prctl(const.PR_SET_KEEPCAPS, 1)
        try:
            os.setgroups(self.groups)
        except PermissionError:  # of a user namespace that does not allow it (user_namespaces(7)): there are none then
            if self.groups:
                raise
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        prctl(const.PR_SET_KEEPCAPS, 0)
        process.set_dumpable(False)  # changing ids made it what fs.suid_dumpable says


class Confine(Operation):
    """The final capabilities and the seccomp filter, in the order that lets the filter be loaded.

    Without no_new_privs a filter needs CAP_SYS_ADMIN (seccomp(2)); it is held until the filter is in, and what
    comes after is capset and exec alone, so that a strict filter need allow no more.
    """

    __slots__ = ("bounding", "effective", "permitted", "inheritable", "ambient", "program", "flags")  # noqa: RUF023
    bounding: int
    effective: int
    permitted: int
    inheritable: int
    ambient: int
    program: bytes
    flags: int

    def subject(self) -> tuple[str, str]:
        return "capabilities and seccomp", ""

    def perform(self, world: World) -> None:
        inheritable = self.inheritable | self.ambient
        if self.ambient:
            process.set_capabilities(
                effective=self.effective | _SYS_ADMIN,
                permitted=self.permitted | _SYS_ADMIN,
                inheritable=inheritable,
            )
            process.set_ambient(self.ambient, 63)
        if self.program and prctl(const.PR_GET_NO_NEW_PRIVS):
            # Nothing but exec is left to do under the filter.
            process.set_capabilities(effective=self.effective, permitted=self.permitted, inheritable=inheritable)
            process.load_seccomp(self.program, self.flags)
            return
        if self.program:
            process.set_capabilities(
                effective=self.effective | _SYS_ADMIN, permitted=self.permitted | _SYS_ADMIN, inheritable=inheritable
            )
            process.load_seccomp(self.program, self.flags)
        process.set_capabilities(effective=self.effective, permitted=self.permitted, inheritable=inheritable)


class Execute(Operation):
    """Become the program: `argv` and `environment` as bytes, looked for in `path` where its name has no slash."""

    __slots__ = ("argv", "environment", "path")
    argv: tuple[bytes, ...]
    environment: tuple[tuple[bytes, bytes], ...]
    path: bytes

    def subject(self) -> tuple[str, str]:
        return "executable", os.fsdecode(self.argv[0])

    def perform(self, world: World) -> None:
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        environment = dict(self.environment)
        worst: OSError | None = None
        for candidate in self._candidates():
            try:
                os.execve(candidate, self.argv, environment)
            except OSError as error:
                # What exists but cannot be executed tells more than what is missing elsewhere.
                if worst is None or worst.errno in (errno.ENOENT, errno.ENOTDIR):
                    worst = error
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                    break
                if error.errno == errno.ENOENT and os.path.exists(candidate):
                    name = self.subject()[1]
                    raise RuntimeFault(
                        NOT_FOUND, "executable", name, "it is there, but the interpreter or loader that it names is not"
                    ) from None
        raise self._fault(worst)

    def _candidates(self) -> list[bytes]:
        if b"/" in self.argv[0]:
            return [self.argv[0]]
        # A relative entry would run what happens to lie in the working directory.
        return [part + b"/" + self.argv[0] for part in self.path.split(b":") if part.startswith(b"/")]

    def _fault(self, error: OSError | None) -> RuntimeFault:
        name = self.subject()[1]
        number = error.errno if error is not None else errno.ENOENT
        if number in (errno.ENOENT, errno.ENOTDIR):
            where = "" if b"/" in self.argv[0] else " in $PATH"
            return RuntimeFault(NOT_FOUND, "executable", name, f"not found{where}")
        if number == errno.ENOEXEC:
            return RuntimeFault(FAILED_PRECONDITION, "executable", name, "exec format error: no program of this host")
        if number == errno.E2BIG:
            return RuntimeFault(INVALID_ARGUMENT, "executable", name, "arguments and environment are too long")
        return RuntimeFault(PERMISSION_DENIED, "executable", name, os.strerror(number or 0).lower())
