"""Who a process in a container is: user, groups and home from the container's own files; capabilities by name.

Owns docker's rules for `USER` and the names of capabilities. Reads the container's /etc/passwd and /etc/group below its
root, as hostile input: regular files only, of bounded size, a line at a time, malformed lines skipped.
"""

from __future__ import annotations

from corten_shim.linux.errors import INVALID_ARGUMENT, RuntimeFault, from_oserror
from corten_shim.linux.fd import read_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILE = 16 << 20
MAX_ID = 2**31 - 1  # as docker has it
MAX_SPEC_ID = 2**32 - 2
MAX_GROUPS = 65536  # NGROUPS_MAX

# capabilities(7), in the order of their numbers.
CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
CAPABILITY_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
_NUMBERS = {f"CAP_{name}": number for number, name in enumerate(CAPABILITIES)}


class Identity:
    """`home` is "/" where the container's files know none."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def capability_mask(names: list[str] | None, unknown: set[str]) -> int:
    """Bits of the named capabilities; names that nobody knows go to `unknown`."""
    mask = 0
    for name in names or ():
        number = _NUMBERS.get(name)
        if number is None:
            unknown.add(name)
        else:
            mask |= 1 << number
    return mask


def capability_names(mask: int) -> list[str]:
    return [name for name, number in _NUMBERS.items() if mask >> number & 1]


def from_spec(user: dict[str, object], root: int) -> Identity:
    """The identity of OCI `process.user`; its `username`, where there is one, is looked up below `root`."""
    text = user.get("username")
    if isinstance(text, str):
        return look_up(text, root)
    uid, gid, groups = user.get("uid", 0), user.get("gid", 0), user.get("additionalGids") or []
    if not (isinstance(uid, int) and isinstance(gid, int) and isinstance(groups, list)):
        raise RuntimeFault(INVALID_ARGUMENT, "user", str(user), "uid, gid and additionalGids are numbers")
    for number in (uid, gid, *groups):
        # The kernel takes 2**32-1 for "leave it as it is", which would be root.
        if not isinstance(number, int) or not 0 <= number <= MAX_SPEC_ID:
            raise RuntimeFault(INVALID_ARGUMENT, "user", str(number), f"ids are 0 to {MAX_SPEC_ID}")
    known = _find_user(str(uid), root)
    return Identity(uid, gid, groups, known[3] if known is not None else "/")


def look_up(text: str, root: int) -> Identity:
    """docker's `USER`: "", "name", "uid", each with ":group" or ":gid".

    A number that no file knows is taken as it is; a name that no file knows is refused. The first line that matches
    counts. With a group said, there are no others.
    """
    name, colon, group = text.partition(":")
    wanted = name or "0"
    identity = Identity(0, 0, [], "/")
    known = _find_user(wanted, root)
    if known is not None:
        login, identity.uid, identity.gid, identity.home = known
        if not (colon and group):
            identity.groups = _groups_of(login, root)
    elif wanted.isascii() and wanted.isdecimal():
        identity.uid = _bounded(wanted, text)
    else:
        raise RuntimeFault(INVALID_ARGUMENT, "user", text, f"no line for {wanted} in the container's /etc/passwd")
    if colon and group:
        identity.gid = _group_id(group, text, root)
    _bounded(str(identity.uid), text)
    _bounded(str(identity.gid), text)
    return identity


def _bounded(number: str, text: str) -> int:
    if len(number) > 10 or int(number) > MAX_ID:
        raise RuntimeFault(INVALID_ARGUMENT, "user", text, f"ids are 0 to {MAX_ID}")
    return int(number)


def _lines(path: str, root: int, fields: int) -> Iterator[list[str]]:
    try:
        data = read_regular(root, path, MAX_FILE)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_oserror("user database", path, error) from error
    for line in data.split(b"\n"):
        parts = line.decode("utf-8", "surrogateescape").strip().split(":")
        if len(parts) >= fields and not parts[0].startswith("#"):
            yield parts


def _number(text: str) -> int:
    """The id in a field, -1 for what is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else -1


def _find_user(wanted: str, root: int) -> tuple[str, int, int, str] | None:
    number = _number(wanted)
    for parts in _lines("/etc/passwd", root, 4):
        uid, gid = _number(parts[2]), _number(parts[3])
        if uid >= 0 and gid >= 0 and (parts[0] == wanted or uid == number):
            return parts[0], uid, gid, (parts[5] if len(parts) > 5 else "") or "/"
    return None


def _group_id(wanted: str, text: str, root: int) -> int:
    number = _number(wanted)
    for parts in _lines("/etc/group", root, 3):
        gid = _number(parts[2])
        if gid >= 0 and (parts[0] == wanted or gid == number):
            return gid
    if wanted.isascii() and wanted.isdecimal():
        return _bounded(wanted, text)
    raise RuntimeFault(INVALID_ARGUMENT, "user", text, f"no line for group {wanted} in the container's /etc/group")


def _groups_of(login: str, root: int) -> list[int]:
    found: list[int] = []
    for parts in _lines("/etc/group", root, 4):
        gid = _number(parts[2])
        if 0 <= gid <= MAX_ID and login in parts[3].split(",") and gid not in found:
            found.append(gid)
    return found[:MAX_GROUPS]
