"""Mounts as users write them: `-v`, `--mount` and `--tmpfs`.

Owns the three notations. Whether a source exists is the engine's to say.
"""

from __future__ import annotations

import os

from corten.containers import MountPoint

_PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_TRUE = {"", "1", "true"}
_FALSE = {"0", "false"}
_MOUNT_KEYS = (
    "type, source (src), target (dst, destination), readonly (ro), bind-propagation, bind-recursive, "
    "bind-nonrecursive, tmpfs-size, tmpfs-mode"
)


def parse_volume(text: str) -> MountPoint:
    """`SOURCE:TARGET[:OPTIONS]`: a bind whose missing source directory is made. Raises ValueError."""
    parts = text.split(":")
    if len(parts) == 1:
        raise ValueError(f'"{text}": anonymous volumes are not there yet: write HOST-PATH:CONTAINER-PATH')
    if len(parts) > 3 or not all(parts[:2]):
        raise ValueError(f'"{text}" is no volume: write HOST-PATH:CONTAINER-PATH[:ro]')
    source, target = parts[0], parts[1]
    if source.startswith((".", "~")):
        source = os.path.abspath(os.path.expanduser(source))
    if not source.startswith("/"):
        raise ValueError(f'"{text}": named volumes are not there yet: write an absolute host path (or ./{source})')
    read_only, propagation, non_recursive = False, "", False
    for option in filter(None, parts[2].split(",") if len(parts) == 3 else []):
        if option in ("ro", "rw"):
            read_only = option == "ro"
        elif option in _PROPAGATION:
            propagation = option
        elif option in ("bind", "rbind"):
            non_recursive = option == "bind"
        else:
            known = "ro, rw, rbind, bind, " + ", ".join(sorted(_PROPAGATION))
            raise ValueError(f'"{text}": "{option}" is no option of a bind: there are {known}')
    return MountPoint(
        type="bind",
        source=source,
        target=_target(text, target),
        read_only=read_only,
        create_source=True,
        propagation=propagation,
        non_recursive=non_recursive,
    )


def parse_tmpfs(text: str) -> MountPoint:
    """`TARGET[:OPTIONS]`. Raises ValueError."""
    target, _, options = text.partition(":")
    found = tuple(filter(None, options.split(",")))
    return MountPoint(
        type="tmpfs",
        target=_target(text, target),
        read_only="ro" in found,
        options=tuple(option for option in found if option not in ("ro", "rw")),
    )


def parse_mount(text: str) -> MountPoint:
    """`type=bind,source=/a,target=/b,readonly`: a missing source is refused. Raises ValueError."""
    given: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = item.partition("=")
        key = key.lower()
        given[{"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}.get(key, key)] = value
    kind = given.pop("type", "bind")
    if kind == "volume":
        raise ValueError(f'"{text}": named volumes are not there yet: use type=bind or type=tmpfs')
    if kind not in ("bind", "tmpfs"):
        raise ValueError(f'"{text}": "{kind}" is no type of mount: there are bind and tmpfs')
    target = _target(text, given.pop("target", ""))
    read_only = _truth(text, "readonly", given.pop("readonly", "false"))
    make = _bind if kind == "bind" else _tmpfs
    mount = make(text, given).replace(target=target, read_only=read_only)
    if given:
        raise ValueError(f'"{text}": "{next(iter(given))}" is no key of a {kind} mount: there are {_MOUNT_KEYS}')
    return mount


def _bind(text: str, given: dict[str, str]) -> MountPoint:
    source = given.pop("source", "")
    if source.startswith((".", "~")):
        source = os.path.abspath(os.path.expanduser(source))
    if not source.startswith("/"):
        raise ValueError(f'"{text}": a bind needs source= with an absolute path')
    propagation = given.pop("bind-propagation", "")
    if propagation and propagation not in _PROPAGATION:
        known = ", ".join(sorted(_PROPAGATION))
        raise ValueError(f'"{text}": "{propagation}" is no propagation: there are {known}')
    recursive = given.pop("bind-recursive", "enabled")
    if recursive not in ("enabled", "disabled"):
        raise ValueError(f'"{text}": bind-recursive is enabled or disabled, not "{recursive}"')
    non_recursive = _truth(text, "bind-nonrecursive", given.pop("bind-nonrecursive", "false"))
    return MountPoint(
        type="bind",
        source=source,
        target="",
        propagation=propagation,
        non_recursive=non_recursive or recursive == "disabled",
    )


def _tmpfs(text: str, given: dict[str, str]) -> MountPoint:
    if given.pop("source", ""):
        raise ValueError(f'"{text}": a tmpfs has no source')
    options = []
    for key, name in (("tmpfs-size", "size"), ("tmpfs-mode", "mode")):
        if key in given:
            options.append(f"{name}={given.pop(key)}")
    return MountPoint(type="tmpfs", target="", options=tuple(options))


def _truth(text: str, key: str, value: str) -> bool:
    if value.lower() not in _TRUE | _FALSE:
        raise ValueError(f'"{text}": {key} is true or false, not "{value}"')
    return value.lower() in _TRUE


def _target(text: str, target: str) -> str:
    if not target.startswith("/"):
        raise ValueError(f'"{text}": the path in the container must be absolute, not "{target}"')
    return target
