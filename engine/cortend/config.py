"""The engine's configuration: defaults, then the file, then the command line.

Owns the keys of the TOML file and their checks: an unknown key is an error that names it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from corten_api.errors import InvalidArgument

DEFAULT_FILE = Path("/etc/corten/config.toml")
SOCKET_PATH_MAX = 107  # bytes: sun_path of unix(7) less its NUL
_UNIX = "unix://"
_CGROUP = re.compile(r"(/[a-zA-Z0-9][a-zA-Z0-9_.-]*)+")
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"(\d+)\s*([kmg]?)i?b?", re.IGNORECASE)
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("json", "console")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    root: Path = Path("/var/lib/corten")
    state: Path = Path("/run/corten")
    address: str = "unix:///run/corten/engine.sock"
    log_level: str = "info"
    log_format: str = "json"
    cgroup_parent: str = "/corten"
    snapshotter: str = "overlay"
    events_retained: int = 10_000
    drain_seconds: int = 10
    container_log_max_bytes: int = 10 << 20
    container_log_max_files: int = 5
    attach_stall_seconds: int = 0  # 0: one that takes nothing holds its container up while it is there

    @property
    def socket(self) -> Path:
        """The path in `address`."""
        return Path(self.address.removeprefix(_UNIX))


def load(path: Path, *, required: bool, overrides: Mapping[str, Any]) -> Config:
    """The checked configuration. Raises InvalidArgument naming the key; a missing file is one only if `required`."""
    config = Config()
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if required:
            raise InvalidArgument("configuration file", str(path), "there is no such file") from None
    except OSError as error:
        raise InvalidArgument("configuration file", str(path), error.strerror or "cannot be read") from error
    else:
        config = _apply(config, _parse(path, text), str(path))
    given = {key: value for key, value in overrides.items() if value is not None}
    if "state" in given and "address" not in given and config.address == Config().address:
        given["address"] = f"{_UNIX}{Path(given['state']).absolute()}/engine.sock"
    return check(_apply(config, given, "command line"))


def check(config: Config) -> Config:
    """`config` with absolute directories. Raises InvalidArgument for what cannot be."""
    config = replace(config, root=config.root.absolute(), state=config.state.absolute())
    if not config.address.startswith(_UNIX):
        if config.address.startswith("tcp://"):
            detail = "this version listens on unix sockets only; TCP comes with mutual TLS in a later one"
            raise InvalidArgument("address", config.address, detail)
        raise InvalidArgument("address", config.address, '"unix:///absolute/path" is needed')
    if not config.socket.is_absolute():
        raise InvalidArgument("address", config.address, '"unix:///absolute/path" is needed')
    length = len(bytes(config.socket))
    if length > SOCKET_PATH_MAX:
        detail = f"a socket's path has at most {SOCKET_PATH_MAX} bytes, this one has {length}; use a shorter --state"
        raise InvalidArgument("address", config.address, detail)
    if config.root == config.state:
        raise InvalidArgument("state", str(config.state), "it must differ from the root directory")
    for key, value, choices in (
        ("log_level", config.log_level, LEVELS),
        ("log_format", config.log_format, FORMATS),
        ("snapshotter", config.snapshotter, ("overlay", "copying")),
    ):
        if value not in choices:
            raise InvalidArgument(key, value, f"one of {', '.join(choices)} is needed")
    if _CGROUP.fullmatch(config.cgroup_parent) is None:
        raise InvalidArgument("cgroup_parent", config.cgroup_parent, 'an absolute path such as "/corten" is needed')
    for key in ("events_retained", "drain_seconds", "container_log_max_bytes", "attach_stall_seconds"):
        if getattr(config, key) < 0:
            raise InvalidArgument(key, str(getattr(config, key)), "0 or more is needed")
    if not 1 <= config.container_log_max_files <= 1000:
        raise InvalidArgument("container_log_max_files", str(config.container_log_max_files), "1 to 1000 is needed")
    return config


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument("configuration file", str(path), f"it is not TOML: {error}") from error


def _apply(config: Config, values: Mapping[str, Any], source: str) -> Config:
    known = {each.name for each in fields(Config)}
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            detail = f"{source} has it, but there is no such key; known are {', '.join(sorted(known))}"
            raise InvalidArgument("configuration key", key, detail)
        changes[key] = _convert(key, value, getattr(config, key))
    return replace(config, **changes)


def _convert(key: str, value: Any, current: Any) -> Any:
    if key == "container_log_max_bytes" and isinstance(value, str):
        return _size(key, value)
    if isinstance(current, Path) and isinstance(value, str | Path) and str(value):
        return Path(value)
    if isinstance(value, type(current)) and not (isinstance(value, bool) and not isinstance(current, bool)):
        return value
    raise InvalidArgument(key, str(value), f"a value of type {_type_name(current)} is needed")


def _size(key: str, text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(key, text, 'a size such as "10m" is needed')
    return int(match[1]) * _SIZES[match[2].lower()]


def _type_name(value: Any) -> str:
    return {"str": "string", "int": "integer", "bool": "boolean"}.get(type(value).__name__, "string")
