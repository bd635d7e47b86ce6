"""User namespaces: which ids of a container are which of the host, and the namespace that holds such a map.

Owns the map's rules, its text, and making a namespace of it. A namespace is made by a child that does nothing else and
ends; the descriptor keeps it. So the maps are written by somebody who is still privileged, and the same descriptor
serves to enter the namespace and to shift the ids of mounts.
Source: user_namespaces(7), runtime-spec config-linux.md "User namespace mappings".
"""

from __future__ import annotations

import os
import signal

from corten_shim.linux import const, libc, namespace, process
from corten_shim.linux.errors import INTERNAL, INVALID_ARGUMENT, RuntimeFault, from_oserror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

MOST_RANGES = 340  # user_namespaces(7): of one map, since Linux 4.15
_LAST = 2**32 - 1  # no id: the kernel's "leave it"


class IdMap:
    """Ranges (first id in the container, first on the host, how many) for users and for groups."""

    __slots__ = ("groups", "users")

    def __init__(self, users: list[tuple[int, int, int]], groups: list[tuple[int, int, int]]) -> None:
        """Raises RuntimeFault for ranges that overlap or pass the last id."""
        self.users = _checked("uidMappings", users)
        self.groups = _checked("gidMappings", groups)

    def __bool__(self) -> bool:
        return bool(self.users or self.groups)


def from_spec(section: dict[str, Any]) -> IdMap:
    """The maps in `section.uidMappings` and `section.gidMappings`; empty where there are none."""
    return IdMap(_ranges(section.get("uidMappings")), _ranges(section.get("gidMappings")))


def _ranges(mappings: list[dict[str, int]] | None) -> list[tuple[int, int, int]]:
    return [(each["containerID"], each["hostID"], each["size"]) for each in mappings or ()]


def _checked(kind: str, ranges: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    if len(ranges) > MOST_RANGES:
        raise RuntimeFault(INVALID_ARGUMENT, kind, str(len(ranges)), f"at most {MOST_RANGES} ranges are possible")
    for side, name in ((0, "containerID"), (1, "hostID")):
        end = 0
        for each in sorted(ranges, key=lambda each: each[side]):
            if each[side] < end:
                raise RuntimeFault(INVALID_ARGUMENT, kind, _text(each), f"its {name} lies in another range too")
            end = each[side] + each[2]
        if end > _LAST:
            raise RuntimeFault(INVALID_ARGUMENT, kind, str(end), f"ids end at {_LAST - 1}")
    return ranges


def host_id(ranges: list[tuple[int, int, int]], inside: int) -> int:
    """What id `inside` of the container is on the host, -1 for none."""
    for first, host, size in ranges:
        if first <= inside < first + size:
            return host + inside - first
    return -1


def make(maps: IdMap) -> int:
    """Descriptor of a new user namespace with these maps. The caller has CAP_SETUID and CAP_SETGID over the ids.

    Raises RuntimeFault naming the range that the kernel refuses.
    """
    if not maps.users or not maps.groups:
        raise RuntimeFault(INVALID_ARGUMENT, "namespace", "user", "it needs uidMappings and gidMappings")
    told, tell = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _be_keeper(tell)
    os.close(tell)
    try:
        answer = os.read(told, 16)
        if answer != b"0":
            number = int(answer or b"5")
            error = OSError(number, os.strerror(number), "user", None, "unshare")
            raise from_oserror("namespace", "user", error)
        _write_map(child, "uid_map", "uidMappings", maps.users)
        _write_map(child, "gid_map", "gidMappings", maps.groups)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(told)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _be_keeper(tell: int) -> NoReturn:
    """In the child: have a namespace of its own, say so, and be killed."""
    try:
        libc.die_with_parent(signal.SIGKILL)
        namespace.unshare(const.CLONE_NEWUSER)
        os.write(tell, b"0")
        while True:
            signal.pause()
    except OSError as error:
        os.write(tell, b"%d" % (error.errno or 5))
    finally:
        os._exit(1)


def _write_map(child: int, name: str, kind: str, ranges: list[tuple[int, int, int]]) -> None:
    text = "".join(f"{_text(each)}\n" for each in ranges)
    try:
        fd = os.open(f"/proc/{child}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        detail = f"the kernel refuses it: {os.strerror(error.errno or 0)}"
        raise RuntimeFault(INVALID_ARGUMENT, kind, text.strip().replace("\n", ", ")[:200], detail) from error


def _text(mapping: tuple[int, int, int]) -> str:
    return " ".join(map(str, mapping))


def become_root() -> None:
    """In a namespace that was just entered: be its user and group 0, with all its capabilities.

    Raises RuntimeFault where 0 is not mapped: there is nobody who could prepare the container.
    """
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    except OSError as error:
        detail = "user and group 0 of the container are mapped to nobody of the host; map them"
        raise RuntimeFault(INVALID_ARGUMENT, "uidMappings", "0", detail) from error
    process.set_dumpable(False)  # changing ids made it what fs.suid_dumpable says


def unsupported(what: str, error: OSError) -> RuntimeFault:
    """The fault for a mount whose ids cannot be shifted."""
    call = f"{error.filename2}: " if isinstance(error.filename2, str) else ""
    detail = f"its ids cannot be shifted (idmapped mount): {call}{os.strerror(error.errno or 0)}; "
    return RuntimeFault(INTERNAL, "mount", what, f"{detail}its filesystem or this kernel does not offer it")
