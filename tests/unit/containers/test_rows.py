"""Container records: stored whole, found as docker finds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from corten_api.errors import AlreadyExists, InvalidArgument, NotFound
from cortend.db import containers as rows
from cortend.db.database import Database
from cortend.domain.containers import (
    Container,
    ContainerConfig,
    ExitStatus,
    MountPoint,
    MountType,
    Resources,
    Security,
    State,
    Status,
    Ulimit,
)
from cortend.oci.image_config import ImageConfig
from cortend.oci.platform import Platform

IMAGE = ImageConfig(platform=Platform("linux", "amd64"), user="1000", command=("sh",), labels={"x": "y"})


def container(number: int, name: str, *, namespace: str = "default", created: int = 0) -> Container:
    return Container(
        id=f"{number:064x}",
        name=name,
        namespace=namespace,
        config=ContainerConfig(image="busybox"),
        image_id="sha256:" + "a" * 64,
        image_name="docker.io/library/busybox:latest",
        argv=("sh",),
        created_at_ns=created or (number & 0xFFFF) + 1,
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "meta.db")
    yield opened
    opened.close()


def insert(database: Database, *containers: Container) -> None:
    for each in containers:
        database.write_now(lambda tx, each=each: rows.insert(tx, each, IMAGE), durable=False)  # type: ignore[misc]


def test_every_field_comes_back_as_it_was(database: Database) -> None:
    config = ContainerConfig(
        image="busybox",
        entrypoint=("/bin/sh",),
        environment=("A=b", "ü=ö"),
        labels={"k": "v"},
        mounts=(MountPoint(type=MountType.BIND, source="/a", target="/b", read_only=True),),
        resources=Resources(memory_bytes=1 << 30),
        security=Security(cap_add=("NET_ADMIN",)),
        ulimits=(Ulimit(name="nofile", soft=1, hard=-1),),
        oom_score_adj=-5,
        stop_timeout_ns=0,
    )
    state = State(status=Status.EXITED, exit=ExitStatus(exit_code=137, oom_killed=True, reason="oom"), started_at_ns=5)
    whole = replace(container(1, "one"), config=config, state=state, request_id="r1")
    insert(database, whole)
    assert database.read(lambda tx: rows.get(tx, whole.id)) == whole
    assert database.read(lambda tx: rows.by_request(tx, "default", "r1")) == whole
    assert database.read(lambda tx: rows.image_of(tx, whole.id)) == IMAGE


def test_a_word_is_an_id_then_a_name_then_a_prefix(database: Database) -> None:
    one, two = container(0xA1 << 240, "b2"), container(0xB2 << 240, "other")
    insert(database, one, two)

    def find(text: str) -> str:
        return database.read(lambda tx: rows.find(tx, "default", text)).id

    assert find(one.id) == one.id
    assert find("b2") == one.id, "a name goes before the beginning of an id"
    assert find("/other") == two.id
    assert find(two.id[:12]) == two.id


def test_an_ambiguous_prefix_says_how_many_there_are(database: Database) -> None:
    insert(database, container((0xAB << 240) + 1, "one"), container((0xAB << 240) + 2, "two"))
    with pytest.raises(InvalidArgument, match="2 containers"):
        database.read(lambda tx: rows.find(tx, "default", f"{0xAB << 240:064x}"[:8]))


@pytest.mark.parametrize("text", ["nobody", "ffff", "f" * 64])
def test_what_is_not_there_is_not_found(database: Database, text: str) -> None:
    with pytest.raises(NotFound, match=text):
        database.read(lambda tx: rows.find(tx, "default", text))


def test_an_empty_word_is_refused(database: Database) -> None:
    with pytest.raises(InvalidArgument):
        database.read(lambda tx: rows.find(tx, "default", ""))


def test_namespaces_do_not_see_each_other(database: Database) -> None:
    insert(database, container(1, "same"), container(2, "same", namespace="k8s.io"))
    assert database.read(lambda tx: rows.find(tx, "k8s.io", "same")).id.endswith("2")
    with pytest.raises(NotFound):
        database.read(lambda tx: rows.find(tx, "third", "same"))


def test_a_name_in_use_names_its_holder(database: Database) -> None:
    insert(database, container(1, "same"))
    with pytest.raises(AlreadyExists, match="000000000000"):
        insert(database, container(2, "same"))


def test_renaming_to_a_taken_name_is_refused_and_to_its_own_is_fine(database: Database) -> None:
    one, two = container(1, "one"), container(2, "two")
    insert(database, one, two)
    with pytest.raises(AlreadyExists):
        database.write_now(lambda tx: rows.rename(tx, one, "two"))
    database.write_now(lambda tx: rows.rename(tx, one, "one"))
    database.write_now(lambda tx: rows.rename(tx, one, "three"))
    assert database.read(lambda tx: rows.name_of(tx, one.id)) == "three"


def test_pages_go_from_the_newest_and_meet_every_container_once(database: Database) -> None:
    insert(database, *(container(n, f"name{n}", created=5) for n in range(7)))
    seen: list[str] = []
    after: tuple[int, str] | None = None
    while batch := database.read(lambda tx: rows.page(tx, "default", after=after, limit=3)):  # noqa: B023
        seen += [each.id for each in batch]
        after = (batch[-1].created_at_ns, batch[-1].id)
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 7


def test_counts_are_by_state(database: Database) -> None:
    insert(database, container(1, "one"), container(2, "two"))
    database.write_now(lambda tx: rows.put_state(tx, container(1, "one").id, State(status=Status.RUNNING, pid=5)))
    assert database.read(rows.counts) == {Status.RUNNING: 1, Status.CREATED: 1}
    assert not database.write_now(lambda tx: rows.put_state(tx, "f" * 64, State()))
