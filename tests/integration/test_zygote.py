"""The zygote, its spare and their builders: how shims come about, and what goes wrong then."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from corten_api import errors
from corten_api.shim import corten_pb2
from cortend.tasks.shim import Shim

from tests.support import leftovers
from tests.support.bundles import Boxes

pytestmark = pytest.mark.root


def about(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def test_a_failed_create_names_the_fault_and_leaves_nothing(boxes: Boxes) -> None:
    bundle = boxes.bundle(("true",), resources={"memory": {"limit": 1}})
    shims: list[Shim] = []

    async def create(new: Shim) -> int:
        shims.append(new)
        new.pid = (await new.describe()).shim_pid
        return await new.create([], options=corten_pb2.CreateOptions())

    with pytest.raises(errors.InvalidArgument, match="6 MiB"):
        await boxes.zygote.spawn(bundle.name, bundle, create)
    (shim,) = shims
    assert not (Path("/sys/fs/cgroup/pids") / boxes.cgroup_parent.strip("/") / bundle.name).exists()
    pid = shim.pid
    assert not await asyncio.to_thread(leftovers.gone, lambda: [str(pid)] if Path(f"/proc/{pid}").exists() else [])
    assert os.listdir(bundle) == ["config.json"]


async def test_a_malformed_request_is_not_the_zygotes_death(boxes: Boxes) -> None:
    zygote = boxes.zygote.pid
    for request in (b"{", b"dance", b"spawn", b"spawn\0a\0", b"spawn\0\0/", b"spawn\0a\0/", b"\xff\xfe", b"[" * 50_000):
        control = boxes.zygote._control
        assert control is not None
        await asyncio.get_running_loop().sock_sendall(control, request)
    box = await boxes.run("true")
    assert await box.wait() == 0
    assert boxes.zygote.pid == zygote


async def test_a_shim_that_cannot_be_says_why_and_one_that_cannot_even_do_that_is_unavailable(boxes: Boxes) -> None:
    bundle = boxes.bundle(("true",))
    with pytest.raises(errors.Unavailable, match="the id is empty"):
        await boxes.zygote.spawn("", bundle, lambda new: new.describe())
    with pytest.raises(errors.Unavailable, match="dies when it is asked"):
        await boxes.zygote.spawn("a", boxes.directory / "nonesuch", lambda new: new.describe())
    box = await boxes.run("true")
    assert await box.wait() == 0


def helpers(boxes: Boxes, name: str) -> list[int]:
    """The processes of the zygote that ps shows as `name`."""
    return [pid for pid in leftovers.processes_in(f"{boxes.cgroup_parent}/shims") if about(pid, "comm").strip() == name]


async def test_a_builder_that_was_killed_while_it_waited_is_replaced(boxes: Boxes) -> None:
    box = await boxes.run("true")
    assert await box.wait() == 0
    for _ in range(3):
        (builder,) = helpers(boxes, "corten-builder")
        os.kill(builder, signal.SIGKILL)
        box = await boxes.run("sh", "-c", "exit 3")
        assert await box.wait() == 3


async def test_no_builder_is_left_by_starts_and_an_exec_leaves_one_for_a_while_only(
    boxes: Boxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = await boxes.run("sleep", "1000")
    for _ in range(3):
        exec_id = await box.exec("true")
        await box.shim.start(exec_id=exec_id)
        assert await box.wait(exec_id=exec_id) == 0
        await box.shim.delete(exec_id=exec_id)

    def superfluous() -> list[str]:
        return [str(pid) for pid in helpers(boxes, "corten-builder")][1:]

    assert await asyncio.to_thread(leftovers.gone, superfluous, seconds=8) == []


async def test_shims_live_in_a_cgroup_of_their_own_and_protected(boxes: Boxes) -> None:
    box = await boxes.run("sleep", "1000")
    memberships = about(box.shim.pid, "cgroup")
    assert f"{boxes.cgroup_parent}/shims" in memberships
    assert int(about(box.shim.pid, "oom_score_adj")) <= 0
    assert about(box.shim.pid, "comm") == "corten-shim\n"
    assert os.readlink(f"/proc/{box.shim.pid}/exe").startswith("/memfd:")
