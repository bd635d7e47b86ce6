"""The small parts of tasks: waiters, locks, background work, exit records, the bundle's files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from corten_api.errors import InvalidArgument, NotFound
from cortend.domain.containers import ContainerConfig, ExecConfig, ExitStatus, MountPoint, MountType
from cortend.tasks import bundle, execs, exits
from cortend.tasks.background import Background
from cortend.tasks.locks import KeyedLocks
from cortend.tasks.records import failure_code
from cortend.tasks.waiters import Waiters

DONE = ExitStatus(exit_code=3)


async def test_every_waiter_learns_of_the_exit_and_later_ones_wait_for_the_next() -> None:
    waiters = Waiters()
    waiting = [asyncio.ensure_future(waiters.next_exit("a")) for _ in range(3)]
    await asyncio.sleep(0)
    waiters.exited("b", DONE)
    waiters.exited("a", DONE)
    assert await asyncio.gather(*waiting) == [DONE] * 3
    late = asyncio.ensure_future(waiters.next_exit("a"))
    await asyncio.sleep(0)
    assert not late.done()
    late.cancel()


async def test_a_removal_answers_its_waiters_and_fails_those_who_wait_for_an_exit() -> None:
    waiters = Waiters()
    removal = asyncio.ensure_future(waiters.removal("a"))
    leaving = asyncio.ensure_future(waiters.next_exit("a"))
    await asyncio.sleep(0)
    waiters.removed("a", DONE)
    assert await removal == DONE
    with pytest.raises(NotFound, match="removed before"):
        await leaving


async def test_a_waiter_that_gives_up_is_forgotten() -> None:
    waiters = Waiters()
    waiting = asyncio.ensure_future(waiters.removal("a"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiters._removals == {}


async def test_locks_exclude_by_key_only_and_leave_nothing() -> None:
    locks = KeyedLocks()
    order: list[str] = []

    async def work(key: str, name: str) -> None:
        async with locks.holding(key):
            order.append(f"{name}+")
            await asyncio.sleep(0.01)
            order.append(f"{name}-")

    await asyncio.gather(work("a", "one"), work("a", "two"), work("b", "three"))
    assert order.index("one-") < order.index("two+")
    assert order.index("three+") < order.index("one-")
    assert locks._locks == {}


async def test_closing_the_background_cancels_what_runs() -> None:
    background = Background()
    task = background.start(asyncio.sleep(60), name="sleep")
    await background.close()
    assert task.cancelled()


def test_an_exit_record_is_read_as_the_shim_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "exit.json"
    path.write_text(
        '{"exit_code":137,"signal":9,"oom":true,"reason":"oom","started_at_ns":1,"exited_at_ns":2,"error":""}'
    )
    assert exits.read(path) == ExitStatus(exit_code=137, reason="oom", oom_killed=True, started_at_ns=1, exited_at_ns=2)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"exit_code":"x"}'])
def test_a_broken_exit_record_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "exit.json"
    path.write_text(text)
    assert exits.read(path) is None
    assert exits.read(tmp_path / "missing") is None


def test_the_hosts_file_knows_the_container_and_what_was_asked_for() -> None:
    config = ContainerConfig(image="x", extra_hosts=("db:10.0.0.1", "six:[::5]"), domainname="example.org")
    lines = bundle.hosts(config, hostname="web").decode().splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert "127.0.1.1\tweb.example.org web" in lines
    assert lines[-2:] == ["10.0.0.1\tdb", "::5\tsix"]


def test_servers_on_the_hosts_loopback_are_of_no_use_in_an_own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"search example.org\nnameserver 127.0.0.53\nnameserver 9.9.9.9\nnameserver ::1\noptions edns0\n"
    monkeypatch.setattr(bundle, "_host_file", lambda path: text)
    own = bundle.resolv_conf(ContainerConfig(image="x"))
    assert own == b"search example.org\nnameserver 9.9.9.9\noptions edns0\n"
    assert bundle.resolv_conf(ContainerConfig(image="x", network="host")) == text


def test_a_bind_source_that_is_missing_is_named_unless_it_is_to_be_made(tmp_path: Path) -> None:
    missing = MountPoint(type=MountType.BIND, source=str(tmp_path / "none"), target="/x")
    with pytest.raises(NotFound, match="none"):
        bundle.check_sources(ContainerConfig(image="x", mounts=(missing,)))
    made = MountPoint(type=MountType.BIND, source=str(tmp_path / "none"), target="/x", create_source=True)
    bundle.check_sources(ContainerConfig(image="x", mounts=(made,)))


@pytest.mark.parametrize(
    "config",
    [
        ExecConfig(argv=()),
        ExecConfig(argv=("",)),
        ExecConfig(argv=("a\0",)),
        ExecConfig(argv=("a",), environment=("=b",)),
        ExecConfig(argv=("a",), working_directory="b"),
    ],
)
def test_an_exec_that_can_never_run_is_refused(config: ExecConfig) -> None:
    with pytest.raises(InvalidArgument):
        execs.check(config)


def test_a_failed_start_has_the_exit_code_that_a_shell_would_give() -> None:
    assert failure_code(NotFound("executable", "x", "not in PATH")) == 127
    assert failure_code(InvalidArgument("executable", "x", "exec format error")) == 126
    assert failure_code(InvalidArgument("user", "x", "unknown")) == 128
