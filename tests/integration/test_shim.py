"""A real zygote, real shims and real containers, driven as the daemon drives them; no daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from corten_api import errors
from corten_api.shim import corten_pb2, task_pb2
from cortend.tasks.shim import Shim
from cortend.tasks.stream import Channel

from tests.support.bundles import Boxes, read_all, read_until

pytestmark = pytest.mark.root

WITH_STDIN = corten_pb2.CreateOptions(open_stdin=True, stdin_once=True)


def about(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def test_a_process_runs_and_its_output_log_and_exit_are_all_there(boxes: Boxes) -> None:
    box = await boxes.create("sh", "-c", "echo out; echo err >&2; exit 7")
    with await box.shim.attach() as stream:
        await box.shim.start()
        assert await read_all(stream) == {Channel.STDOUT: b"out\n", Channel.STDERR: b"err\n"}
    assert await box.wait() == 7
    record = box.exit_record
    assert (record["exit_code"], record["signal"], record["oom"], record["reason"]) == (7, 0, False, "")
    assert record["started_at_ns"] <= record["exited_at_ns"] <= time.time_ns()
    assert b"stdout F out\n" in box.log
    assert b"stderr F err\n" in box.log
    state = await box.shim.state()
    assert (state.status, state.exit_status) == (task_pb2.STOPPED, 7)
    await box.remove()
    assert os.listdir(box.shim.bundle) == ["config.json"]


async def test_wait_is_answered_to_all_who_asked_before_and_after_the_end(boxes: Boxes) -> None:
    box = await boxes.create("sh", "-c", "read line; exit 3", options=WITH_STDIN)
    early = [asyncio.create_task(box.wait()) for _ in range(3)]
    await box.shim.start()
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in early)
    await box.shim.close_io()
    assert await asyncio.gather(*early) == [3, 3, 3]
    assert await box.wait() == 3


async def test_a_signal_ends_it_with_128_and_its_number_and_the_dead_cannot_be_killed(boxes: Boxes) -> None:
    box = await boxes.run("sleep", "1000")
    with pytest.raises(errors.InvalidArgument, match="65"):
        await box.shim.kill(65)
    await box.shim.kill(signal.SIGKILL)
    assert await box.wait() == 137
    assert box.exit_record["signal"] == 9
    assert box.exit_record["reason"] == ""
    with pytest.raises(errors.NotFound):
        await box.shim.kill(signal.SIGKILL)


@pytest.mark.parametrize(
    ("argv", "kind", "code"),
    [(("nonesuch",), errors.NotFound, 127), (("/etc/passwd",), errors.PermissionDenied, 126)],
)
async def test_what_cannot_be_executed_is_named_and_recorded(
    boxes: Boxes, argv: tuple[str, ...], kind: type[errors.CortenError], code: int
) -> None:
    box = await boxes.create(*argv)
    with pytest.raises(kind, match=argv[0]) as raised:
        await box.shim.start()
    assert raised.value.kind == "executable"
    assert await box.wait() == code
    assert box.exit_record["reason"] == "start-failed"
    assert argv[0] in box.exit_record["error"]
    await box.remove()


async def test_stdin_reaches_the_process_and_half_closing_ends_it(boxes: Boxes) -> None:
    box = await boxes.create("wc", "-c", options=WITH_STDIN)
    with await box.shim.attach(stdin=True) as stream:
        await box.shim.start()
        for _ in range(40):
            await stream.write(b"x" * 100_000)
        await stream.close_stdin()
        assert (await read_all(stream))[Channel.STDOUT].strip() == b"4000000"


async def test_stdin_that_nobody_reads_harms_neither_side(boxes: Boxes) -> None:
    script = "trap 'echo alive; exit 0' TERM; exec <&-; echo closed; while :; do sleep 0.05; done"
    box = await boxes.create("sh", "-c", script, options=WITH_STDIN)
    with await box.shim.attach(stdin=True) as stream:
        await box.shim.start()
        await read_until(stream, b"closed\n")
        await stream.write(b"x" * 3_000_000)
        await box.shim.kill(signal.SIGTERM)
        assert (await read_all(stream))[Channel.STDOUT] == b"alive\n"
    assert await box.wait() == 0


async def test_a_detached_process_keeps_its_stdin_where_stdin_is_not_once(boxes: Boxes) -> None:
    box = await boxes.run("cat", options=corten_pb2.CreateOptions(open_stdin=True))
    for text in (b"one\n", b"two\n"):
        with await box.shim.attach(stdin=True) as stream:
            await stream.write(text)
            await read_until(stream, text)
    await box.shim.close_io()
    assert await box.wait() == 0


async def test_a_terminal_has_its_size_echoes_and_takes_ctrl_d(boxes: Boxes) -> None:
    options = corten_pb2.CreateOptions(open_stdin=True, width=90, height=30)
    box = await boxes.create(
        "sh", "-c", "stty size; read line; stty size; cat; echo end", terminal=True, options=options
    )
    with await box.shim.attach(stdin=True) as stream:
        await box.shim.start()
        await read_until(stream, b"30 90\r\n")
        await box.shim.resize_pty(100, 40)
        await stream.write(b"hello\n")
        assert b"hello" in await read_until(stream, b"40 100\r\n")
        await stream.close_stdin()
        with await box.shim.attach(stdin=True) as other:
            await other.write(b"\x04")
            assert b"end\r\n" in (await read_all(other))[Channel.STDOUT]
    assert await box.wait() == 0


async def test_a_slow_attacher_holds_the_process_back_and_loses_nothing(boxes: Boxes) -> None:
    size = 20_000_000
    box = await boxes.create("sh", "-c", f"head -c {size} /dev/zero; echo done >&2")
    with await box.shim.attach() as stream:
        await box.shim.start()
        await asyncio.sleep(0.5)
        assert box.directory.joinpath("log").stat().st_size < 3_000_000
        found = await read_all(stream)
    assert len(found[Channel.STDOUT]) == size
    assert found[Channel.STDERR] == b"done\n"
    assert await box.wait() == 0


async def test_a_stalled_attacher_is_dropped_and_the_others_and_the_log_go_on(boxes: Boxes) -> None:
    options = corten_pb2.CreateOptions(attach_stall_ms=300)
    box = await boxes.create("sh", "-c", "head -c 3000000 /dev/zero", options=options)
    with await box.shim.attach() as stalled, await box.shim.attach() as stream:
        await box.shim.start()
        assert len((await read_all(stream))[Channel.STDOUT]) == 3_000_000
        assert await box.wait() == 0
        with pytest.raises(errors.Unavailable):
            await read_all(stalled)
    assert len(box.log) > 3_000_000


async def test_an_attacher_that_vanishes_does_not_stop_the_process(boxes: Boxes) -> None:
    box = await boxes.create("sh", "-c", "head -c 5000000 /dev/zero; exit 4")
    stream = await box.shim.attach()
    await box.shim.start()
    await stream.read()
    stream.close()
    assert await box.wait() == 4


async def test_several_attachers_get_everything_and_a_late_one_the_end(boxes: Boxes) -> None:
    box = await boxes.create("sh", "-c", "echo one; read line; echo two", options=WITH_STDIN)
    streams = [await box.shim.attach() for _ in range(3)]
    await box.shim.start()
    await box.shim.close_io()
    for stream in streams:
        assert (await read_all(stream))[Channel.STDOUT] == b"one\ntwo\n"
        stream.close()
    with await box.shim.attach() as late:
        assert await read_all(late) == {Channel.STDOUT: b"", Channel.STDERR: b""}


async def test_an_exec_has_its_own_streams_exit_and_life(boxes: Boxes) -> None:
    box = await boxes.run("sleep", "1000")
    exec_id = await box.exec("sh", "-c", "cat; echo e >&2; exit 9", stdin=True)
    with await box.shim.attach(exec_id=exec_id, stdin=True) as stream:
        pid = await box.shim.start(exec_id=exec_id)
        await stream.write(b"in")
        await asyncio.sleep(0.1)
        assert (pid, exec_id) in await box.shim.pids()
        await stream.close_stdin()
        assert await read_all(stream) == {Channel.STDOUT: b"in", Channel.STDERR: b"e\n"}
    assert await box.wait(exec_id=exec_id) == 9
    with pytest.raises(errors.AlreadyExists):
        await box.shim.exec(exec_id, b"{}")
    assert (await box.shim.delete(exec_id=exec_id)).exit_status == 9
    with pytest.raises(errors.NotFound, match=exec_id):
        await box.shim.state(exec_id=exec_id)
    assert (await box.shim.state()).status == task_pb2.RUNNING
    assert b"e\n" not in box.log


async def test_an_exec_with_a_terminal_or_a_missing_program(boxes: Boxes) -> None:
    box = await boxes.run("sleep", "1000")
    exec_id = await box.exec("tty", terminal=True)
    with await box.shim.attach(exec_id=exec_id) as stream:
        await box.shim.start(exec_id=exec_id)
        assert (await read_all(stream))[Channel.STDOUT].startswith(b"/dev/pts/")
    missing = await box.exec("nonesuch")
    with pytest.raises(errors.NotFound, match="nonesuch"):
        await box.shim.start(exec_id=missing)
    assert await box.wait(exec_id=missing) == 127


async def test_execs_end_with_the_init_and_a_background_child_does_not_hang_one(boxes: Boxes) -> None:
    box = await boxes.run("sleep", "1000")
    leaver = await box.exec("sh", "-c", "sleep 500 & echo left")
    with await box.shim.attach(exec_id=leaver) as stream:
        await box.shim.start(exec_id=leaver)
        assert await box.wait(exec_id=leaver) == 0
        assert (await read_all(stream, seconds=3))[Channel.STDOUT] == b"left\n"
    await box.shim.delete(exec_id=leaver)
    sleeper = await box.exec("sleep", "1000")
    await box.shim.start(exec_id=sleeper)
    await box.shim.kill(signal.SIGKILL)
    assert await box.wait() == 137
    assert await box.wait(exec_id=sleeper) == 137
    with pytest.raises(errors.FailedPrecondition):
        await box.exec("true")


async def test_kill_all_signals_every_process(boxes: Boxes) -> None:
    box = await boxes.run("sh", "-c", "sleep 1000 & sleep 1000 & trap 'exit 5' TERM; wait; wait")
    await asyncio.sleep(0.2)
    assert len(await box.shim.pids()) == 3
    await box.shim.kill(signal.SIGTERM, everything=True)
    assert await box.wait() == 5


async def test_a_paused_container_stands_still_resumes_and_can_be_killed(boxes: Boxes) -> None:
    box = await boxes.run("sh", "-c", "while :; do echo x; sleep 0.01; done")
    await box.shim.pause()
    assert (await box.shim.state()).status == task_pb2.PAUSED
    await asyncio.sleep(0.1)
    size = len(box.log)
    await asyncio.sleep(0.2)
    assert len(box.log) == size
    with pytest.raises(errors.FailedPrecondition, match="paused"):
        await box.shim.pause()
    with pytest.raises(errors.FailedPrecondition, match="paused"):
        await box.exec("true")
    await box.shim.resume()
    await asyncio.sleep(0.2)
    assert len(box.log) > size
    await box.shim.pause()
    await box.shim.kill(signal.SIGKILL)
    assert await box.wait() == 137


async def test_an_oom_kill_is_in_the_record(boxes: Boxes) -> None:
    limit = {"memory": {"limit": 16 << 20, "swap": 16 << 20}}
    box = await boxes.run("sh", "-c", "exec tail /dev/zero", resources=limit)
    assert await box.wait() == 137
    assert box.exit_record["oom"] is True
    assert box.exit_record["reason"] == "oom"


async def test_illegal_moves_are_errors_that_name_the_state(boxes: Boxes) -> None:
    box = await boxes.create("sleep", "1000")
    with pytest.raises(errors.FailedPrecondition, match="created"):
        await box.shim.pause()
    await box.shim.start()
    with pytest.raises(errors.FailedPrecondition, match="running"):
        await box.shim.start()
    with pytest.raises(errors.FailedPrecondition, match="running"):
        await box.shim.delete()
    with pytest.raises(errors.FailedPrecondition, match="running"):
        await box.shim.shutdown()
    with pytest.raises(errors.FailedPrecondition, match="no terminal"):
        await box.shim.resize_pty(10, 10)
    with pytest.raises(errors.AlreadyExists):
        await box.shim.create([], options=corten_pb2.CreateOptions())


async def test_when_its_daemon_dies_a_container_goes_on_and_another_daemon_takes_it_over(boxes: Boxes) -> None:
    box = await boxes.run("sh", "-c", "while :; do echo x; sleep 0.05; done")
    box.shim.close()
    zygote = boxes.zygote.pid
    assert zygote is not None
    os.kill(zygote, signal.SIGKILL)
    await asyncio.sleep(0.3)
    box.shim = await Shim.connect(box.shim.bundle)
    described = await box.shim.describe()
    assert [process.status for process in described.processes] == [task_pb2.RUNNING]
    assert described.shim_pid == box.shim.pid
    size = len(box.log)
    with await box.shim.attach() as stream:
        await read_until(stream, b"x\n")
    assert len(box.log) > size
    fresh = await boxes.run("true")  # the lost zygote is replaced
    assert await fresh.wait() == 0
    await box.shim.kill(signal.SIGKILL)
    assert await box.wait() == 137


async def test_an_exit_while_nobody_looked_is_told_later(boxes: Boxes) -> None:
    box = await boxes.run("sh", "-c", "sleep 0.2; exit 6")
    box.shim.close()
    await asyncio.sleep(0.6)
    assert box.exit_record["exit_code"] == 6
    box.shim = await Shim.connect(box.shim.bundle)
    assert await box.wait() == 6


async def test_what_this_version_cannot_do_is_unimplemented_with_a_sentence(boxes: Boxes) -> None:
    box = await boxes.run("sleep", "1000")
    client = box.shim._client
    for method in ("Checkpoint", "Update", "Stats", "Nonesuch"):
        for service in ("containerd.task.v3.Task", "containerd.task.v2.Task"):
            with pytest.raises(errors.Unimplemented, match=r"\w+ \w+ \w+"):
                await client.call(service, method, task_pb2.StateRequest(), task_pb2.StateResponse, timeout=5)
    request = task_pb2.ExecProcessRequest(id=box.shim.container_id, exec_id="a", stdout="/run/fifo")
    with pytest.raises(errors.Unimplemented, match="/run/fifo"):
        await client.call("containerd.task.v2.Task", "Exec", request, task_pb2.StateResponse, timeout=5)


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n" * 20, b"\xff" * 400, b"\0\0\0\4\0\0\0\1\1\0\xff\xff\xff\xff", b"\0" * 10, b""],
)
@pytest.mark.parametrize("name", ["shim.sock", "stream.sock"])
async def test_garbage_closes_its_own_connection_only(boxes: Boxes, name: str, garbage: bytes) -> None:
    box = await boxes.run("sleep", "1000")
    directory = os.open(box.shim.bundle, os.O_PATH)
    reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/{name}")
    os.close(directory)
    writer.write(garbage)
    writer.write_eof()
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    assert (await box.shim.state()).status == task_pb2.RUNNING


async def test_reopen_log_follows_a_rename(boxes: Boxes) -> None:
    box = await boxes.run("sh", "-c", "while :; do echo x; sleep 0.01; done")
    await asyncio.sleep(0.1)
    (box.directory / "log").rename(box.directory / "moved")
    await box.shim.reopen_log()
    await asyncio.sleep(0.2)
    assert len(box.log) > 0
