"""The OCI configuration: what is refused by its schema, and the questions that are asked of it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from corten_shim import schema, spec, usermap
from corten_shim.linux import const
from corten_shim.linux.errors import RuntimeFault
from corten_shim.usermap import IdMap
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.runtime import container_spec

WHOLE: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
    "root": {"path": "rootfs"},
    "linux": {"namespaces": [{"type": "mount"}]},
}


def changed(path: str, value: object) -> dict[str, Any]:
    """WHOLE with `value` at the dotted `path`."""
    document: dict[str, Any] = json.loads(json.dumps(WHOLE))
    at: Any = document
    *parents, last = path.split(".")
    for name in parents:
        at = at.setdefault(name, {})
    at[last] = value
    return document


def test_the_specs_of_the_engine_are_in_order() -> None:
    schema.check_spec(WHOLE)
    schema.check_spec(container_spec(("true",)))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("ociVersion", 1, "ociVersion"),
        ("ociVersion", "2.0.0", "ociVersion"),
        ("process.args", "true", "process.args"),
        ("process.args", ["a", 1], "process.args[1]"),
        ("process.args", ["a\0b"], "process.args[0]"),
        ("process.cwd", "relative", "process.cwd"),
        ("process.user", {"uid": -1}, "process.user.uid"),
        ("process.user", {"uid": 2**32 - 1}, "process.user.uid"),
        ("process.user", {"uid": True}, "process.user.uid"),
        ("process.user", {"additionalGids": [2**32]}, "process.user.additionalGids[0]"),
        ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": -1, "hard": 1}], "process.rlimits[0].soft"),
        ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 1}], "process.rlimits[0].hard"),
        ("process.oomScoreAdj", 1001, "process.oomScoreAdj"),
        ("process.terminal", "yes", "process.terminal"),
        ("process.consoleSize", {"height": 70000, "width": 1}, "process.consoleSize.height"),
        ("process.capabilities", {"bounding": "all"}, "process.capabilities.bounding"),
        ("mounts", {}, "mounts"),
        ("mounts", [{"type": "tmpfs"}], "mounts[0].destination"),
        ("hooks.prestart", [{"path": "bin/x"}], "hooks.prestart[0].path"),
        ("hooks.prestart", [{"path": "/x", "timeout": 0}], "hooks.prestart[0].timeout"),
        ("linux.namespaces", [{"type": "disk"}], "linux.namespaces[0].type"),
        ("linux.namespaces", [{"type": "pid", "path": "x"}], "linux.namespaces[0].path"),
        ("linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 0}], "linux.uidMappings[0].size"),
        ("linux.devices", [{"type": "x", "path": "/dev/x"}], "linux.devices[0].type"),
        ("linux.maskedPaths", ["relative"], "linux.maskedPaths[0]"),
        ("linux.sysctl", {"a": 1}, "linux.sysctl['a']"),
        ("linux.timeOffsets", {"boottime": {"nanosecs": 10**9}}, "linux.timeOffsets['boottime'].nanosecs"),
        ("annotations", {"": "x"}, "annotations"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(path: str, value: object, named: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        schema.check_spec(changed(path, value))
    assert caught.value.kind == named


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    *(f"process.{name}" for name in schema.PROCESS.fields),
    *(f"linux.{name}" for name in schema.LINUX.fields),
    *(name for name in schema.SPEC.fields if name not in ("process", "linux")),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FIELDS), JSON)
def test_whatever_a_field_holds_it_is_taken_or_refused_and_nothing_else_happens(field: str, value: object) -> None:
    with contextlib.suppress(RuntimeFault):
        schema.check_spec(changed(field, value))


def test_a_bundle_is_read_whole_and_its_faults_name_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault, match=r"config\.json"):
        spec.read(str(tmp_path))
    config = tmp_path / "config.json"
    for text, words in (("{", "not JSON"), ("[]", "object"), ("[" * 100_000, "not JSON"), ("{}", "ociVersion")):
        config.write_text(text)
        with pytest.raises(RuntimeFault, match=words):
            spec.read(str(tmp_path))
    config.write_text(json.dumps(WHOLE))
    assert spec.read(str(tmp_path)) == WHOLE


def test_namespaces_are_made_or_joined() -> None:
    spaces = [{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": "/run/netns/x"}]
    new, joined = spec.namespaces({"linux": {"namespaces": spaces}})
    assert new == const.CLONE_NEWNS | const.CLONE_NEWPID
    assert joined == [("/run/netns/x", const.CLONE_NEWNET)]
    assert spec.has_own_pids({"linux": {"namespaces": spaces}})
    assert not spec.has_own_pids({"linux": {"namespaces": [{"type": "pid", "path": "/proc/1/ns/pid"}]}})


@pytest.mark.parametrize("kinds", [("pid",), ("mount", "pid", "pid"), ()])
def test_namespaces_that_cannot_be_are_refused(kinds: tuple[str, ...]) -> None:
    with pytest.raises(RuntimeFault) as caught:
        spec.namespaces({"linux": {"namespaces": [{"type": kind} for kind in kinds]}})
    assert caught.value.kind == "namespace"


@pytest.mark.parametrize(
    "ranges",
    [[(0, 0, 10), (5, 100, 10)], [(0, 100, 10), (20, 105, 10)], [(0, 0, 2**32)], [(n, n, 1) for n in range(341)]],
)
def test_id_maps_that_overlap_or_pass_the_end_are_refused(ranges: list[tuple[int, int, int]]) -> None:
    with pytest.raises(RuntimeFault) as caught:
        IdMap(ranges, [])
    assert caught.value.kind == "uidMappings"


def test_an_id_is_found_in_its_range() -> None:
    ranges = [(0, 1000, 10), (100, 5000, 2)]
    assert [usermap.host_id(ranges, each) for each in (0, 9, 10, 101)] == [1000, 1009, -1, 5001]
