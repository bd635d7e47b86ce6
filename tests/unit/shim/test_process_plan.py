"""The plan of a process: who it becomes and in which order, as data."""

from __future__ import annotations

from typing import Any

import pytest
from corten_shim import credentials, scheduling
from corten_shim.identity import Identity
from corten_shim.linux.errors import RuntimeFault
from corten_shim.operations import Operation
from corten_shim.process_plan import Planned, process_plan
from corten_shim.seccomp import Filter
from corten_shim.usermap import IdMap

ROOT = Identity(0, 0, [], "/root")
ALICE = Identity(1000, 1001, [], "/home/alice")
KILL = 1 << 5


def plan_of(process: dict[str, Any], *, identity: Identity = ROOT, held: int = (1 << 41) - 1, **more: Any) -> Planned:
    return process_plan(process, identity=identity, held=held, **{"seccomp": None, **more})


def kinds_of(planned: tuple[Operation, ...]) -> list[str]:
    return [type(operation).__name__ for operation in planned]


def test_identity_comes_after_everything_that_takes_privileges_and_seccomp_last() -> None:
    process = {
        "args": ["true"],
        "cwd": "/",
        "noNewPrivileges": True,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}],
        "capabilities": {"bounding": ["CAP_KILL"]},
    }
    planned = plan_of(process, seccomp=Filter(b"12345678", 0))
    names = kinds_of(planned.before)
    assert names[-3:] == ["BoundingSet", "ResourceLimit", "BecomeUser"]
    assert names.index("WorkingDirectory") < names.index("ResourceLimit")
    assert kinds_of(planned.after) == ["Confine", "Execute"]


def test_the_home_of_the_user_is_added_unless_it_is_set() -> None:
    def environment(*entries: str) -> dict[bytes, bytes]:
        process = {"args": ["true"], "env": list(entries)}
        execute = plan_of(process).after[-1]
        assert isinstance(execute, credentials.Execute)
        return dict(execute.environment)

    assert environment("A=1") == {b"A": b"1", b"HOME": b"/root"}
    assert environment("HOME=/x") == {b"HOME": b"/x"}


@pytest.mark.parametrize(
    ("process", "kind"),
    [
        ({"args": []}, "command"),
        ({"args": ["a\0b"]}, "command"),
        ({"args": ["a"], "env": ["NOVALUE"]}, "environment"),
        ({"args": ["a"], "rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}, "ulimit"),
        ({"args": ["a"], "rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]}, "ulimit"),
        ({"args": ["a"], "rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2}, "ulimit"),
    ],
)
def test_what_is_wrong_with_a_process_is_refused_before_anything_is_made(process: dict[str, Any], kind: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        plan_of(process)
    assert caught.value.kind == kind


def test_capabilities_that_are_not_to_be_had_are_left_out_with_a_warning() -> None:
    process = {
        "args": ["a"],
        "capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_FLY"], "effective": ["CAP_CHOWN"]},
    }
    planned = plan_of(process, held=KILL)
    (confine,) = (each for each in planned.after if isinstance(each, credentials.Confine))
    assert (confine.bounding, confine.effective) == (KILL, 0)
    (warning,) = planned.warnings
    assert "CAP_FLY" in warning
    assert "CAP_CHOWN" in warning


def test_pipes_are_given_to_the_user_as_the_host_knows_it_before_namespaces_change() -> None:
    process = {"args": ["a"]}
    plain = plan_of(process, identity=ALICE, streams=(7, 8, 9))
    assert credentials.OwnStreams(1000, 1001, (7, 8, 9)) in plain.early
    shifted = plan_of(
        {"args": ["a"]}, identity=ALICE, streams=(7,), maps=IdMap([(0, 10**5, 2000)], [(0, 2 * 10**5, 2000)])
    )
    assert credentials.OwnStreams(101000, 201001, (7,)) in shifted.early
    nobody = plan_of(process, identity=ALICE, streams=(7,), maps=IdMap([(0, 10**5, 10)], [(0, 10**5, 10)]))
    assert not [each for each in nobody.early if isinstance(each, credentials.OwnStreams)]


def test_in_a_user_namespace_hard_limits_are_raised_before_it_is_entered() -> None:
    process = {"args": ["a"], "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 9}]}
    assert not [each for each in plan_of(process).early if isinstance(each, credentials.RaiseLimit)]
    planned = plan_of(process, maps=IdMap([(0, 10**5, 10)], [(0, 10**5, 10)]))
    assert [each.hard for each in planned.early if isinstance(each, credentials.RaiseLimit)] == [9]


@pytest.mark.parametrize(("wanted", "otherwise", "taken"), [(5, 0, 5), (None, 0, 0), (None, None, None), (0, 7, 0)])
def test_the_oom_score_is_the_processes_or_what_is_usual_here(
    wanted: int | None, otherwise: int | None, taken: int | None
) -> None:
    process = {"args": ["a"]} | ({} if wanted is None else {"oomScoreAdj": wanted})
    scores = [
        each.value for each in plan_of(process, oom_score=otherwise).early if isinstance(each, credentials.OomScore)
    ]
    assert scores == ([] if taken is None else [taken])


def scheduled(process: dict[str, Any], linux: dict[str, Any] | None = None, *, is_exec: bool = False) -> list[str]:
    return kinds_of(scheduling.plan({"linux": linux or {}}, process, is_exec=is_exec))


def test_scheduling_is_planned_from_its_parts() -> None:
    process = {
        "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7},
        "execCPUAffinity": {"initial": "0", "final": "0-1"},
    }
    linux = {"personality": {"domain": "LINUX32"}, "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}}
    assert scheduled(process, linux) == ["MemoryPolicy", "Personality", "Scheduler", "IoPriority"]
    assert scheduled(process, is_exec=True) == ["Scheduler", "IoPriority", "Affinity"]
    assert scheduling.initial_affinity(process) == (0,)
    assert scheduling.numbers("x", "0-2,7") == (0, 1, 2, 7)


@pytest.mark.parametrize(
    "process",
    [
        {"scheduler": {"policy": "SCHED_FAST"}},
        {"scheduler": {"policy": "SCHED_OTHER", "nice": 20}},
        {"scheduler": {"policy": "SCHED_OTHER", "priority": 1}},
        {"scheduler": {"policy": "SCHED_FIFO", "priority": 0}},
        {"scheduler": {"policy": "SCHED_RR", "priority": 100}},
        {"scheduler": {"policy": "SCHED_IDLE", "runtime": 1}},
        {"scheduler": {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_X"]}},
        {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}},
        {"ioPriority": {"class": "BE"}},
        {"execCPUAffinity": {"final": "3-1"}},
        {"execCPUAffinity": {"final": "0-99999999"}},
        {"execCPUAffinity": {"final": "a"}},
    ],
)
def test_scheduling_that_cannot_be_is_refused_by_name(process: dict[str, Any]) -> None:
    with pytest.raises(RuntimeFault) as caught:
        scheduled(process, is_exec=True)
    (name,) = process
    assert caught.value.kind.startswith(name)
