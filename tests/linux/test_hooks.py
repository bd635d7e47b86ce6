"""OCI hooks: when they run, what they are told, and what a failing one means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import leftovers
from tests.support.runtime import Runtime, Spec

pytestmark = [pytest.mark.root, pytest.mark.vm]


@pytest.fixture(scope="module")
def runtime(run_directory: Path) -> Runtime:
    return Runtime(run_directory / "hooks")


@pytest.fixture(autouse=True)
def leaves_nothing(runtime: Runtime) -> Iterator[None]:
    yield
    assert leftovers.cgroups_of_runtimes() == []


def hook(script: str, **fields: object) -> Spec:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], **fields}


def hooks(**stages: list[Spec]) -> Callable[[Spec], None]:
    return lambda spec: spec.update(hooks=stages, annotations={"note": "mine"})


def test_hooks_run_in_their_order_and_are_told_the_state(runtime: Runtime, tmp_path: Path) -> None:
    log = tmp_path / "log"
    note = f"read -r state; printf '%s %s\\n' NAME \"$state\" >> {log}"
    stages = ("prestart", "createRuntime", "createContainer")
    change = hooks(**{name: [hook(note.replace("NAME", name))] for name in stages})
    outcome = runtime.run("true", change=change)
    assert (outcome.fault, outcome.exit_code) == (None, 0)
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [name for name, _ in lines] == list(stages)
    for _, state in lines:
        document = json.loads(state)
        assert document["status"] == "creating"
        assert document["pid"] > 1
        assert document["annotations"] == {"note": "mine"}
        assert (document["id"], Path(document["bundle"]).name) == ("box", "bundle")


def test_each_stage_is_where_the_specification_puts_it(runtime: Runtime, tmp_path: Path) -> None:
    here = Path("/proc/self/ns/mnt").readlink()
    log = tmp_path / "log"
    look = f"readlink /proc/self/ns/mnt >> {log}"
    inside = "readlink /proc/self/ns/mnt > /where; cat /etc/passwd | head -1 >> /where"
    change = hooks(createRuntime=[hook(look)], createContainer=[hook(look)], startContainer=[hook(inside)])
    outcome = runtime.run("sh", "-c", "cat /where; readlink /proc/self/ns/mnt", change=change)
    assert outcome.fault is None, outcome.fault
    runtime_ns, container_ns = log.read_text().split()
    assert runtime_ns == str(here)
    first, account, last = outcome.output.splitlines()
    assert first == last == container_ns != runtime_ns
    assert account == "root:x:0:0::/root:/bin/sh"


@pytest.mark.parametrize("stage", ["prestart", "createRuntime", "createContainer", "startContainer"])
def test_a_failing_hook_is_the_end_of_the_container_and_its_words_are_told(runtime: Runtime, stage: str) -> None:
    marker = "echo reached > /reached"
    outcome = runtime.run("sh", "-c", marker, change=hooks(**{stage: [hook("echo no luck; exit 3")]}))
    assert outcome.fault is not None
    _code, kind, name, detail = outcome.fault
    assert (kind, name) == ("hook", "/bin/sh")
    assert f"the {stage} hook ended with exit code 3: no luck" in detail
    assert outcome.exit_code is None


@pytest.mark.parametrize("stage", ["createRuntime", "createContainer"])
def test_a_hook_that_takes_too_long_is_killed(runtime: Runtime, stage: str) -> None:
    outcome = runtime.run("true", change=hooks(**{stage: [hook("sleep 30", timeout=1)]}))
    assert outcome.fault is not None
    assert "longer than 1 s" in outcome.fault[3]


def test_a_hook_that_is_not_there_or_was_killed_says_so(runtime: Runtime) -> None:
    missing = runtime.run("true", change=hooks(createRuntime=[{"path": "/nonesuch"}]))
    assert missing.fault is not None
    assert "No such file or directory" in missing.fault[3]
    killed = runtime.run("true", change=hooks(createRuntime=[hook("kill -9 $$")]))
    assert killed.fault is not None
    assert "killed by signal 9" in killed.fault[3]


def test_a_hook_gets_its_own_environment_and_may_ignore_its_input_and_talk_much(
    runtime: Runtime, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    quiet = hook(f"exec <&-; env > {log}; yes | head -c 1000000; sleep 0.1 &", env=["PATH=/usr/bin:/bin", "A=b=c"])
    assert runtime.run("true", change=hooks(createRuntime=[quiet])).fault is None
    variables = dict(line.split("=", 1) for line in log.read_text().splitlines())
    assert variables.pop("A") == "b=c"
    assert set(variables) <= {"PATH", "PWD", "SHLVL", "_", "OLDPWD"}
