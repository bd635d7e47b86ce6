"""The OCI configuration of a bundle: reading it, and the few questions that more than one module asks of it.

Owns the file's name and what an absent section means. What values it may hold is `schema`'s; what is done about it is
for `plan` to say.
"""

from __future__ import annotations

import json
import os

from corten_shim import faults, schema
from corten_shim.linux.errors import INVALID_ARGUMENT, RuntimeFault
from corten_shim.linux.namespace import FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FILE = "config.json"
MOST_BYTES = 16 << 20


def read(bundle: str) -> dict[str, Any]:
    """The bundle's `config.json`, checked. Raises RuntimeFault naming what is wrong with it."""
    try:
        with open(os.path.join(bundle, FILE), "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise faults.not_found("bundle", bundle, f"{FILE}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise faults.invalid("bundle", bundle, f"{FILE} is larger than {MOST_BYTES} bytes")
    spec = parse(data, "bundle", bundle)
    schema.check_spec(spec)
    return spec


def parse(data: bytes, kind: str, name: str) -> dict[str, Any]:
    """A JSON object. Raises RuntimeFault."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise faults.invalid(kind, name, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise faults.invalid(kind, name, "must be a JSON object")
    return value


def linux(spec: dict[str, Any]) -> dict[str, Any]:
    return spec.get("linux") or {}


def namespaces(spec: dict[str, Any]) -> tuple[int, list[tuple[str, int]]]:
    """Flags of the namespaces to make, and (path, flag) of those to join. Raises RuntimeFault."""
    new, joined, seen = 0, [], set()
    for entry in linux(spec).get("namespaces") or ():
        kind = entry["type"]
        if kind in seen:
            raise RuntimeFault(INVALID_ARGUMENT, "namespace", kind, "it is listed twice")
        seen.add(kind)
        if entry.get("path"):
            joined.append((entry["path"], FLAGS[kind]))
        else:
            new |= FLAGS[kind]
    if "mount" not in seen:
        raise RuntimeFault(INVALID_ARGUMENT, "namespace", "mount", "a container needs a mount namespace of its own")
    return new, joined


def has_own_pids(spec: dict[str, Any]) -> bool:
    """Whether the container's processes end with its first one: they do in a pid namespace that it began."""
    return any(each["type"] == "pid" and not each.get("path") for each in linux(spec).get("namespaces") or ())


def cgroup_path(spec: dict[str, Any]) -> str:
    path = linux(spec).get("cgroupsPath")
    if not isinstance(path, str) or not path.startswith("/") or ".." in path.split("/"):
        raise faults.invalid("linux.cgroupsPath", str(path), "must be an absolute path below the cgroup root")
    return path


def root_directory(spec: dict[str, Any], bundle: str) -> str:
    """The root filesystem's directory, for a caller that mounted nothing. Raises RuntimeFault."""
    path = (spec.get("root") or {}).get("path")
    if not path:
        raise faults.invalid("root.path", str(path), "must name the root filesystem's directory")
    return os.path.join(bundle, path)
