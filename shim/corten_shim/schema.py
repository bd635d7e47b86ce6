"""What `config.json` may hold: names, types and ranges, as a table, and the check of a document against it.

Owns the shape of OCI runtime-spec 1.2's configuration for Linux. What values mean together is for those who use them.
Unknown names are passed over, as the specification demands; a known one of the wrong type or out of range is refused by
its path, before anything is made.
Source: runtime-spec schema/config-schema.json, config-linux.json, defs.json, defs-linux.json.
"""

from __future__ import annotations

from corten_shim.linux.errors import INVALID_ARGUMENT, RuntimeFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SHOWN = 80


class Text:
    """A string; `one_of` limits it, `absolute` asks for a path from the root. NUL is never allowed."""

    __slots__ = ("absolute", "empty", "one_of")

    def __init__(self, *one_of: str, absolute: bool = False, empty: bool = True) -> None:
        self.one_of = one_of
        self.absolute = absolute
        self.empty = empty

    def check(self, value: object, path: str) -> None:
        if not isinstance(value, str):
            raise refused(path, value, "a string is needed")
        if "\0" in value:
            raise refused(path, value, "it holds a NUL character")
        if self.one_of and value not in self.one_of:
            raise refused(path, value, f"one of {', '.join(self.one_of)} is needed")
        if not value and not self.empty:
            raise refused(path, value, "it must not be empty")
        if self.absolute and value and not value.startswith("/"):
            raise refused(path, value, "an absolute path is needed")


class Number:
    """A whole number from `low` to `high`, both included."""

    __slots__ = ("high", "low")

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def check(self, value: object, path: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise refused(path, value, "a whole number is needed")
        if not self.low <= value <= self.high:
            raise refused(path, value, f"{self.low} to {self.high} is possible")


class Flag:
    __slots__ = ()

    def check(self, value: object, path: str) -> None:
        if not isinstance(value, bool):
            raise refused(path, value, "true or false is needed")


class Many:
    """A list of `each`, of at most `most`."""

    __slots__ = ("each", "most")

    def __init__(self, each: Shape, most: int = 65536) -> None:
        self.each = each
        self.most = most

    def check(self, value: object, path: str) -> None:
        if not isinstance(value, list):
            raise refused(path, value, "a list is needed")
        if len(value) > self.most:
            raise refused(path, f"{len(value)} entries", f"at most {self.most} are possible")
        for number, each in enumerate(value):
            self.each.check(each, f"{path}[{number}]")


class Named:
    """An object whose names are the user's."""

    __slots__ = ("each",)

    def __init__(self, each: Shape) -> None:
        self.each = each

    def check(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise refused(path, value, "an object is needed")
        for name, each in value.items():
            if not name or "\0" in name:
                raise refused(path, name, "a name must not be empty or hold a NUL")
            self.each.check(each, f"{path}[{name[:_SHOWN]!r}]")


class Object:
    """An object of known names; `needed` are those that must be there. A null stands for an absent value."""

    __slots__ = ("fields", "needed")

    def __init__(self, needed: str = "", **fields: Shape) -> None:
        self.needed = needed.split()
        self.fields = fields

    def check(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise refused(path, value, "an object is needed")
        for name in self.needed:
            if value.get(name) is None:
                raise refused(f"{path}.{name}".lstrip("."), "", "it is needed")
        for name, shape in self.fields.items():
            if value.get(name) is not None:
                shape.check(value[name], f"{path}.{name}".lstrip("."))


if TYPE_CHECKING:
    Shape = Text | Number | Flag | Many | Named | Object


def refused(path: str, value: object, detail: str) -> RuntimeFault:
    """The refusal of one value: its path in the document, the value itself in short, what would be right."""
    shown = value if isinstance(value, str) else str(value)
    return RuntimeFault(INVALID_ARGUMENT, path or "config.json", shown[:_SHOWN], detail)


_TEXT = Text()
_TEXTS = Many(_TEXT)
_PATH = Text(absolute=True, empty=False)
_FLAG = Flag()
_INT32 = Number(-(2**31), 2**31 - 1)
_INT64 = Number(-(2**63), 2**63 - 1)
_UINT16 = Number(0, 2**16 - 1)
_UINT32 = Number(0, 2**32 - 1)
_UINT64 = Number(0, 2**64 - 1)
_ID = Number(0, 2**32 - 2)  # the last one means "leave it" to the kernel
_MAPPINGS = Many(Object("containerID hostID size", containerID=_ID, hostID=_ID, size=Number(1, 2**32 - 1)), 340)
_CAPABILITIES = Many(_TEXT, 1024)
_HOOKS = Many(Object("path", path=_PATH, args=_TEXTS, env=_TEXTS, timeout=Number(1, 2**31 - 1)), 1024)

_IO_PRIORITY = Object("class", priority=_INT32)
_IO_PRIORITY.fields["class"] = _TEXT  # a word that no Python argument may have

PROCESS = Object(
    "cwd args",
    terminal=_FLAG,
    consoleSize=Object(height=_UINT16, width=_UINT16),
    cwd=_PATH,
    env=_TEXTS,
    args=_TEXTS,
    commandLine=_TEXT,
    rlimits=Many(Object("type soft hard", type=_TEXT, soft=_UINT64, hard=_UINT64), 64),
    apparmorProfile=_TEXT,
    selinuxLabel=_TEXT,
    capabilities=Object(
        bounding=_CAPABILITIES,
        effective=_CAPABILITIES,
        inheritable=_CAPABILITIES,
        permitted=_CAPABILITIES,
        ambient=_CAPABILITIES,
    ),
    noNewPrivileges=_FLAG,
    oomScoreAdj=Number(-1000, 1000),
    scheduler=Object(
        "policy",
        policy=_TEXT,
        nice=_INT32,
        priority=_INT32,
        flags=_TEXTS,
        runtime=_UINT64,
        deadline=_UINT64,
        period=_UINT64,
    ),
    ioPriority=_IO_PRIORITY,
    execCPUAffinity=Object(initial=_TEXT, final=_TEXT),
    user=Object(uid=_ID, gid=_ID, umask=Number(0, 0o7777), additionalGids=Many(_ID, 65536), username=_TEXT),
)

_MOUNT = Object(
    "destination",
    destination=Text(empty=False),
    type=_TEXT,
    source=_TEXT,
    options=_TEXTS,
    uidMappings=_MAPPINGS,
    gidMappings=_MAPPINGS,
)

LINUX = Object(
    devices=Many(
        Object(
            "type path",
            type=Text("c", "b", "u", "p"),
            path=_PATH,
            fileMode=Number(0, 0o177777),
            major=_INT64,
            minor=_INT64,
            uid=_ID,
            gid=_ID,
        )
    ),
    namespaces=Many(
        Object(
            "type",
            type=Text("mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time"),
            path=Text(absolute=True),
        ),
        64,
    ),
    uidMappings=_MAPPINGS,
    gidMappings=_MAPPINGS,
    timeOffsets=Named(Object(secs=_INT64, nanosecs=Number(0, 999_999_999))),
    cgroupsPath=_TEXT,
    resources=Object(),
    rootfsPropagation=_TEXT,
    seccomp=Object(),
    sysctl=Named(_TEXT),
    maskedPaths=Many(_PATH),
    readonlyPaths=Many(_PATH),
    mountLabel=_TEXT,
    intelRdt=Object(),
    personality=Object("domain", domain=_TEXT, flags=_TEXTS),
    memoryPolicy=Object("mode", mode=_TEXT, nodes=_TEXT, flags=_TEXTS),
    netDevices=Named(Object(name=_TEXT)),
)

SPEC = Object(
    "ociVersion",
    ociVersion=_TEXT,
    hostname=_TEXT,
    domainname=_TEXT,
    annotations=Named(_TEXT),
    root=Object("path", path=Text(empty=False), readonly=_FLAG),
    process=PROCESS,
    mounts=Many(_MOUNT),
    hooks=Object(
        prestart=_HOOKS,
        createRuntime=_HOOKS,
        createContainer=_HOOKS,
        startContainer=_HOOKS,
        poststart=_HOOKS,
        poststop=_HOOKS,
    ),
    linux=LINUX,
)


def check_spec(spec: dict[str, Any]) -> None:
    """Raises RuntimeFault naming the first value that is not what the specification allows."""
    SPEC.check(spec, "")
    version = spec["ociVersion"]
    major = version.partition(".")[0]
    if major != "1":
        raise refused("ociVersion", version, "this runtime knows version 1 of the specification")


def check_process(process: dict[str, Any]) -> None:
    """As `check_spec`, for the process of an exec."""
    PROCESS.check(process, "process")
