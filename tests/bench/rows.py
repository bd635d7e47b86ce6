"""What is measured, a function a row. Targets are those of docs/budgets.md."""

from __future__ import annotations

import concurrent.futures
import contextlib
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import corten
from corten.containers import ContainerConfig

from tests.bench.measure import Row, interleaved, pss, row, rss, timed
from tests.bench.peers import Peer, shims
from tests.support.daemon import Daemon
from tests.support.images import TestImage

IDLE = 20
STARTS = 40
AT_ONCE = 8
STREAM_BYTES = 512 << 20


@dataclass(frozen=True)
class Field:
    """Who is measured, with what."""

    daemon: Daemon
    peers: tuple[Peer, ...]
    image: TestImage
    runs: int

    @property
    def reference(self) -> str:
        return self.image.reference


def run_command(field: Field) -> Row:
    """`run --rm --network none` of a no-op, the whole command."""
    ours = field.daemon.command(
        "--address", field.daemon.address, "run", "--rm", "--network", "none", "busybox", "true"
    )
    actions: dict[str, Callable[[], float]] = {"corten": lambda: timed(ours)}
    for peer in field.peers:
        actions[peer.name] = lambda peer=peer: timed(peer.run(field.reference, "true"))  # type: ignore[misc]
    samples = interleaved(actions, field.runs)
    return row(
        "`run --rm --network none` of a no-op, whole command", "ms", samples, scale=1e3, target="<= ctr, <= docker/2"
    )


def life_cycle(field: Field) -> Row:
    """Create, start, wait and delete through the API, one after the other, on one connection."""
    with corten.Client(field.daemon.address) as client:

        def once() -> float:
            start = time.perf_counter()
            container = client.containers.create(_config("true")).container.id
            client.tasks.start(container)
            client.tasks.wait(container)
            client.containers.delete(container)
            return time.perf_counter() - start

        samples = interleaved({"corten": once}, max(40, field.runs), warmup=5)
    return row("create, start, wait, delete through the API", "ms", samples, scale=1e3, target="<= 25")


def execs(field: Field) -> Row:
    """A no-op exec'd in a running container through the API, until its exit is known."""
    with corten.Client(field.daemon.address) as client, _idle(client, 1) as (container,):

        def once() -> float:
            start = time.perf_counter()
            made = client.tasks.exec(container, ["true"])
            client.tasks.wait(container, exec_id=made.exec_id)
            return time.perf_counter() - start

        samples = interleaved({"corten": once}, max(40, field.runs), warmup=5)
    return row("exec of a no-op through the API", "ms", samples, scale=1e3, target="<= 8")


def starts(field: Field) -> Row:
    """Forty detached starts, eight at a time: Corten through its API, the others by their commands."""
    values: dict[str, float | str] = {}
    with contextlib.ExitStack() as clients:
        pool = [clients.enter_context(corten.Client(field.daemon.address)) for _ in range(AT_ONCE)]
        rates = []
        for _ in range(3):
            made: list[str] = []

            def start(number: int, made: list[str] = made) -> None:
                client = pool[number % AT_ONCE]
                container = client.containers.create(_config("sleep", "600")).container.id
                client.tasks.start(container)
                made.append(container)

            rates.append(_rate(start))
            for container in made:
                pool[0].containers.delete(container, force=True)
        values["corten"] = statistics.median(rates)
    for peer in field.peers:
        rate = _rate(lambda n, p=peer: timed(p.run_detached(field.reference, f"bench{n}", "sleep", "600")))  # type: ignore[misc]
        for number in range(STARTS):
            peer.remove(f"bench{number}")
        values[peer.name] = rate
    return Row("detached starts, 8 at a time", "per s", values, target=">= 40")


def _rate(start: Callable[[int], object]) -> float:
    lanes = [[number for number in range(STARTS) if number % AT_ONCE == lane] for lane in range(AT_ONCE)]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        begin = time.perf_counter()
        for lane in [pool.submit(lambda lane=lane: [start(number) for number in lane]) for lane in lanes]:  # type: ignore[misc]
            lane.result()
        return STARTS / (time.perf_counter() - begin)


def shim_memory(field: Field) -> Row:
    """Proportional memory of the process that stays with each of twenty idle containers."""
    values: dict[str, float | str] = {}
    with corten.Client(field.daemon.address) as client, _idle(client, IDLE) as containers:
        time.sleep(1)
        pids = [client.containers.get(container).state.shim_pid for container in containers]
        values["corten"] = sum(map(pss, pids)) / len(pids) / 1e6
    for peer in field.peers:
        for number in range(IDLE):
            timed(peer.run_detached(field.reference, f"idle{number}", "sleep", "600"))
        time.sleep(1)
        pids = shims(peer.shim_program, peer)
        values[peer.name] = sum(map(pss, pids)) / len(pids) / 1e6 if pids else "?"
        for number in range(IDLE):
            peer.remove(f"idle{number}")
    return Row("memory per idle container (PSS of its shim), 20 of them", "MB", values, target="<= 2.2")


def daemon_memory(field: Field) -> Row:
    """Resident memory of the daemon at rest: cortend without its zygote, docker with the containerd it started."""
    values: dict[str, float | str] = {}
    assert field.daemon.process is not None
    values["corten"] = rss(field.daemon.process.pid) / 1e6
    for peer in field.peers:
        pids = peer.pids()
        values[peer.name] = sum(map(rss, pids)) / 1e6 if pids else "none"
    return Row("the daemon at rest (RSS)", "MB", values, target="<= 80")


def stream(field: Field) -> Row:
    """Bytes a second through the foreground command into a pipe, counted."""
    argv = ("sh", "-c", f"dd if=/dev/zero bs=1M count={STREAM_BYTES >> 20} 2>/dev/null")
    ours = _ours(field, "busybox", *argv)
    actions: dict[str, Callable[[], float]] = {"corten": lambda: _count(ours)}
    for peer in field.peers:
        actions[peer.name] = lambda peer=peer: _count(peer.run(field.reference, *argv))  # type: ignore[misc]
    samples = interleaved(actions, 3)
    values = {name: STREAM_BYTES / statistics.median(seconds) / 1e6 for name, seconds in samples.items()}
    return Row("`run` of a program that writes 512 MiB, `| wc -c`", "MB/s", values, target=">= 200")


def tar_stream(field: Field) -> Row:
    """`run IMAGE tar c /` into a reader that stalls for three seconds: complete or not."""
    reference = field.image.reference
    argv = ["tar", "c", "-C", "/", "bin", "etc"]
    command = _ours(field, reference, *argv)
    whole = len(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)
    slow = ["sh", "-c", "sleep 3; head -c 1000; sleep 3; wc -c"]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    reader = subprocess.run(slow, stdin=writer.stdout, capture_output=True, check=True, timeout=120)
    assert writer.stdout is not None
    writer.stdout.close()
    status = writer.wait(60)
    counted = int(reader.stdout[1000:])
    complete = status == 0 and counted + 1000 == whole
    return Row(
        "`run IMAGE tar c` into a reader that stalls", "complete", {"corten": "yes" if complete else "NO"}, "yes"
    )


def _ours(field: Field, *words: str) -> list[str]:
    return field.daemon.command("--address", field.daemon.address, "run", "--rm", *words)


def _count(command: list[str]) -> float:
    start = time.perf_counter()
    writer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    counted = subprocess.run(["wc", "-c"], stdin=writer.stdout, capture_output=True, check=True)
    assert writer.stdout is not None
    writer.stdout.close()
    status = writer.wait()
    seconds = time.perf_counter() - start
    if status != 0 or int(counted.stdout) != STREAM_BYTES:
        raise RuntimeError(f"{command[0]} gave {int(counted.stdout)} of {STREAM_BYTES} bytes, exit status {status}")
    return seconds


def _config(*argv: str) -> ContainerConfig:
    return ContainerConfig(image="busybox", command=argv, network="none")


@contextlib.contextmanager
def _idle(client: corten.Client, count: int) -> Iterator[list[str]]:
    containers = []
    try:
        for _ in range(count):
            containers.append(client.containers.create(_config("sleep", "600")).container.id)
            client.tasks.start(containers[-1])
        yield containers
    finally:
        for container in containers:
            client.containers.delete(container, force=True)


ROWS: dict[str, Callable[[Field], Row]] = {
    "run": run_command,
    "cycle": life_cycle,
    "exec": execs,
    "starts": starts,
    "shims": shim_memory,
    "daemon": daemon_memory,
    "stream": stream,
    "stall": tar_stream,
}
