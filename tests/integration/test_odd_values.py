"""Values that nobody thought of, in every field: each is taken, or named in one line that is fit for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from corten_api.v1 import containers_pb2 as pb

from tests.support.daemon import Daemon
from tests.support.refusals import nothing_left, refusal, told
from tests.support.running import Running

pytestmark = pytest.mark.root

ODD = ["a\0b", "a\nb", "\x1b[31mred", "x" * 5000, "☃" * 2000, "../../x", "/", "=", ":::", "9" * 40, "/proc/self/fd/0"]
TEXTS = ("image", "working_directory", "user", "hostname", "stop_signal", "network", "domainname")
LISTS = ("environment", "entrypoint", "extra_hosts", "command")


@pytest.fixture
def running(daemon: Daemon, busybox: str) -> Running:
    return Running(lambda: daemon.api, busybox)


def odd_configs(value: str) -> Iterator[dict[str, Any]]:
    yield from ({each: value} for each in TEXTS)
    yield from ({each: [value]} for each in LISTS)
    yield {"labels": {value: value}, "annotations": {value: value}}
    for field in ("source", "target", "propagation"):
        mount: dict[str, Any] = {"type": pb.MountPoint.TYPE_BIND, "source": "/usr", "target": "/x", field: value}
        yield {"mounts": [pb.MountPoint(**mount)]}
    yield {"mounts": [pb.MountPoint(type=pb.MountPoint.TYPE_TMPFS, target="/x", options=[value])]}
    yield {"security": pb.Security(cap_add=[value])}
    yield {"security": pb.Security(devices=[value])}
    yield {"ulimits": [pb.Ulimit(name=value, soft=1, hard=1)]}
    yield {"resources": pb.Resources(cpuset_cpus=value)}


@pytest.mark.parametrize("value", ODD, ids=[str(number) for number in range(len(ODD))])
def test_whatever_the_value_it_is_taken_or_named_in_one_line(daemon: Daemon, running: Running, value: str) -> None:
    with nothing_left(daemon):
        for config in odd_configs(value):
            command = config.pop("command", ["true"])
            container = accepted(lambda c=config, w=command: running.create(*w, **c))  # type: ignore[misc]
            if container is not None:
                accepted(lambda c=container: running.start(c))  # type: ignore[misc]
                running.delete(container, force=True)


def accepted(call: Callable[[], Any]) -> Any:
    """What `call` gave, None where it was refused: in one line that blames the value and holds no control character."""
    answers: list[Any] = []
    with suppress(grpc.RpcError):
        answers.append(call())
    if answers:
        return answers[0]
    error = refusal(call)
    assert type(error).__name__ not in ("Internal", "Unavailable"), error
    assert str(error).isprintable()
    return None


def test_what_is_too_large_for_a_message_is_refused_and_the_rest_listed_in_pages(
    daemon: Daemon, running: Running
) -> None:
    with nothing_left(daemon):
        many = [f"A{number}={'x' * 1000}" for number in range(1100)]
        assert told(refusal(lambda: running.create("true", environment=many))) == ("InvalidArgument", "container", "")
    container = running.run("sleep", "60")
    assert type(refusal(lambda: running.exec(container, *["x" * 1000] * 5000))).__name__ == "InvalidArgument"
    made = {container} | {running.create("true", environment=many[:1000]) for _ in range(3)}
    first = daemon.api.containers.List(pb.ListContainersRequest(all=True), timeout=30)
    rest = pb.ListContainersRequest(all=True)
    rest.page.token = first.next_token
    second = daemon.api.containers.List(rest, timeout=30)
    assert not second.next_token
    assert sorted(each.id for each in (*first.containers, *second.containers)) == sorted(made)
    for each in made:
        running.delete(each, force=True)
