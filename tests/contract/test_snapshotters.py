"""What every snapshotter promises. One suite; each implementation runs through all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from corten_api.errors import (
    AlreadyExists,
    Conflict,
    CortenError,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from cortend.db.database import Database
from cortend.domain.mounts import Mount
from cortend.snapshots.copying import CopyingSnapshotter
from cortend.snapshots.directories import DirectorySnapshotter
from cortend.snapshots.overlay import OverlaySnapshotter
from cortend.snapshots.snapshotter import Kind

from tests.support.programs import run

pytestmark = pytest.mark.root
KINDS = {"overlay": OverlaySnapshotter, "copying": CopyingSnapshotter}


class Stand:
    """A snapshotter that can be stopped and started, and a place to mount."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root = root
        self._kind = KINDS[kind]
        self.start()

    def start(self) -> None:
        self.database = Database.open(self.root / "meta.db")
        self.snapshots: DirectorySnapshotter = self._kind(self.root / "snapshots", self.database)

    def stop(self) -> None:
        self.snapshots.close()
        self.database.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def directories(self) -> set[str]:
        return set(os.listdir(self.root / "snapshots"))

    def write(self, key: str, name: str, text: str) -> None:
        """Write a file through the snapshot's own mounts."""
        with Mounted(self.root / "mnt", self.snapshots.mounts(key)) as place:
            (place / name).write_text(text)

    def read(self, key: str) -> dict[str, str]:
        with Mounted(self.root / "mnt", self.snapshots.mounts(key)) as place:
            return {each.name: each.read_text() for each in place.iterdir()}

    def base(self, *names: str) -> str:
        """A chain of committed snapshots, each with a file of its name."""
        parent = None
        for name in names:
            self.snapshots.prepare(f"key-{name}", parent)
            self.write(f"key-{name}", name, name)
            self.snapshots.commit(f"key-{name}", name)
            parent = name
        assert parent is not None
        return parent


class Mounted:
    """The mounts of a snapshot at a place, for as long as the block runs."""

    def __init__(self, place: Path, mounts: tuple[Mount, ...]) -> None:
        self._place = place
        (self._mount,) = mounts

    def __enter__(self) -> Path:
        self._place.mkdir(exist_ok=True)
        options = ",".join(self._mount.options)
        kind = [] if self._mount.type == "bind" else ["-t", self._mount.type]
        run(["mount", *kind, "-o", options, self._mount.source, self._place])
        return self._place

    def __exit__(self, *_: object) -> None:
        run(["umount", self._place])


@pytest.fixture(params=sorted(KINDS))
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path, request.param)
    yield made
    made.stop()


def test_what_was_written_is_in_the_committed_snapshot_and_its_children(stand: Stand) -> None:
    top = stand.base("a", "b", "c")
    stand.snapshots.prepare("work", top)
    stand.write("work", "own", "mine")
    assert stand.read("work") == {"a": "a", "b": "b", "c": "c", "own": "mine"}
    stand.snapshots.view("look", top)
    assert stand.read("look") == {"a": "a", "b": "b", "c": "c"}


def test_two_children_of_one_parent_do_not_see_each_other(stand: Stand) -> None:
    top = stand.base("a")
    for key in ("x", "y"):
        stand.snapshots.prepare(key, top)
        stand.write(key, "a", key)
    assert stand.read("x") == {"a": "x"}
    assert stand.read("y") == {"a": "y"}


@pytest.mark.parametrize("layers", [(), ("a",), ("a", "b")])
def test_a_view_cannot_be_written(stand: Stand, layers: tuple[str, ...]) -> None:
    stand.snapshots.view("look", stand.base(*layers) if layers else None)
    assert stand.snapshots.stat("look").kind is Kind.VIEW
    with pytest.raises(OSError, match="Read-only"):
        stand.write("look", "x", "x")


def test_stat_tells_kind_parent_and_labels(stand: Stand) -> None:
    top = stand.base("a")
    stand.snapshots.prepare("work", top, labels={"k": "1", "kept": "yes"})
    found = stand.snapshots.stat("work")
    assert (found.kind, found.parent, found.labels) == (Kind.ACTIVE, "a", {"k": "1", "kept": "yes"})
    found = stand.snapshots.commit("work", "b", labels={"k": "2"})
    assert (found.kind, found.name, found.parent, found.labels) == (Kind.COMMITTED, "b", "a", {"k": "2", "kept": "yes"})
    with pytest.raises(NotFound):
        stand.snapshots.stat("work")


def test_the_list_is_ordered_and_can_be_continued(stand: Stand) -> None:
    for name in ("c", "a", "b"):
        stand.snapshots.prepare(name, None)
    assert [each.name for each in stand.snapshots.list()] == ["a", "b", "c"]
    assert [each.name for each in stand.snapshots.list(after="a", limit=1)] == ["b"]


def test_removal_takes_the_directory_too(stand: Stand) -> None:
    stand.base("a")
    before = stand.directories()
    stand.snapshots.prepare("work", "a")
    stand.write("work", "x", "x")
    stand.snapshots.remove("work")
    stand.snapshots.view("look", "a")
    stand.snapshots.remove("look")
    stand.restart()
    assert stand.directories() == before


def test_what_others_stand_on_stays(stand: Stand) -> None:
    top = stand.base("a", "b")
    with pytest.raises(FailedPrecondition, match='"b" stands on it'):
        stand.snapshots.remove("a")
    stand.snapshots.view("look", top)
    with pytest.raises(FailedPrecondition, match='"look" stands on it'):
        stand.snapshots.remove("b")


def test_names_are_given_once(stand: Stand) -> None:
    stand.base("a")
    before = stand.directories()
    for name in ("a", "key"):
        if name == "key":
            stand.snapshots.prepare("key", None)
            before = stand.directories()
        with pytest.raises(AlreadyExists, match=name):
            stand.snapshots.prepare(name, None)
        with pytest.raises(AlreadyExists, match=name):
            stand.snapshots.view(name, "a")
    with pytest.raises(AlreadyExists, match='"a"'):
        stand.snapshots.commit("key", "a")
    assert stand.snapshots.stat("key").kind is Kind.ACTIVE
    assert stand.directories() == before


def test_what_does_not_fit_is_refused(stand: Stand) -> None:
    stand.base("a")
    stand.snapshots.prepare("key", "a")
    stand.snapshots.view("look", "a")
    refused: list[tuple[type[CortenError], object]] = [
        (NotFound, lambda: stand.snapshots.prepare("x", "nothing")),
        (NotFound, lambda: stand.snapshots.remove("nothing")),
        (NotFound, lambda: stand.snapshots.mounts("nothing")),
        (NotFound, lambda: stand.snapshots.usage("nothing")),
        (FailedPrecondition, lambda: stand.snapshots.prepare("x", "key")),
        (FailedPrecondition, lambda: stand.snapshots.mounts("a")),
        (FailedPrecondition, lambda: stand.snapshots.commit("a", "b")),
        (FailedPrecondition, lambda: stand.snapshots.commit("look", "b")),
        (FailedPrecondition, lambda: stand.snapshots.unpack_target("look")),
        (InvalidArgument, lambda: stand.snapshots.prepare("", None)),
        (InvalidArgument, lambda: stand.snapshots.prepare("a\nb", None)),
        (InvalidArgument, lambda: stand.snapshots.prepare("n" * 1000, None)),
    ]
    for error, call in refused:
        with pytest.raises(error):
            call()  # type: ignore[operator]


def test_what_is_held_is_neither_held_again_nor_committed_nor_removed(stand: Stand) -> None:
    stand.snapshots.prepare("work", None)
    with stand.snapshots.hold("work", "container 42 runs on it"):
        for call in (
            lambda: stand.snapshots.acquire("work", "again"),
            lambda: stand.snapshots.commit("work", "a"),
            lambda: stand.snapshots.remove("work"),
        ):
            with pytest.raises(Conflict, match="container 42 runs on it"):
                call()
    stand.snapshots.acquire("work", "container")
    stand.snapshots.release("work")
    stand.snapshots.commit("work", "a")


def test_usage_is_what_du_counts(stand: Stand) -> None:
    stand.snapshots.prepare("work", None)
    with Mounted(stand.root / "mnt", stand.snapshots.mounts("work")) as place:
        (place / "data").write_bytes(b"x" * 100_000)
        os.link(place / "data", place / "again")
        with (place / "sparse").open("wb") as sparse:
            sparse.truncate(1 << 30)
        du = int(run(["du", "-s", "--block-size=1", place]).split()[0])
    assert stand.snapshots.usage("work").size_bytes == du
    assert stand.snapshots.usage("work").inodes == 3
    stand.snapshots.commit("work", "a")
    assert stand.snapshots.usage("a").size_bytes == du


def test_the_root_keeps_the_mode_and_owner_of_the_parents(stand: Stand) -> None:
    stand.snapshots.prepare("work", None)
    with Mounted(stand.root / "mnt", stand.snapshots.mounts("work")) as place:
        place.chmod(0o1777)
        os.chown(place, 1000, 2000)
    stand.snapshots.commit("work", "a")
    stand.snapshots.prepare("child", "a")
    with Mounted(stand.root / "mnt", stand.snapshots.mounts("child")) as place:
        found = place.stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o1777, 1000, 2000)


def test_everything_is_there_after_a_restart(stand: Stand) -> None:
    top = stand.base("a", "b")
    stand.snapshots.prepare("work", top)
    stand.write("work", "own", "mine")
    stand.restart()
    assert stand.read("work") == {"a": "a", "b": "b", "own": "mine"}
    stand.snapshots.prepare("more", top)
    assert [each.name for each in stand.snapshots.list()] == ["a", "b", "more", "work"]


def test_what_a_crash_left_behind_is_swept(stand: Stand) -> None:
    stand.base("a")
    before = stand.directories()
    for name in ("900", "trash-7"):
        (stand.root / "snapshots" / name / "fs").mkdir(parents=True)
    (stand.root / "snapshots/trash-7/fs/file").write_text("x")
    stand.restart()
    stand.stop()
    assert stand.directories() == before
    stand.start()


@pytest.mark.parametrize("part", ["", "fs", "work"])
def test_an_active_snapshot_that_a_power_loss_took_is_made_again(stand: Stand, part: str) -> None:
    stand.base("a")
    before = stand.directories()
    stand.snapshots.prepare("lost", "a")
    (number,) = stand.directories() - before
    stand.stop()
    taken = stand.root / "snapshots" / number / part
    if taken.exists():
        taken.rename(stand.root / "elsewhere")
    stand.start()
    assert stand.read("lost") == {"a": "a"}
    stand.write("lost", "b", "b")


def test_a_committed_snapshot_whose_directory_is_gone_is_forgotten(stand: Stand) -> None:
    stand.base("a")
    (number,) = stand.directories()
    stand.stop()
    (stand.root / "snapshots" / number).rename(stand.root / "elsewhere")
    stand.start()
    assert stand.snapshots.list() == []


def test_damage_below_others_is_told_not_hidden(stand: Stand) -> None:
    stand.base("a")
    (number,) = stand.directories()
    stand.snapshots.prepare("work", "a")
    if stand.read("work") and isinstance(stand.snapshots, OverlaySnapshotter):
        (stand.root / "snapshots" / number).rename(stand.root / "elsewhere")
        with pytest.raises(DataLoss, match="is gone"):
            stand.snapshots.mounts("work")


def test_a_directory_that_mount_cannot_name_is_refused(stand: Stand) -> None:
    with pytest.raises(InvalidArgument, match="mount"):
        type(stand.snapshots)(stand.root / "a,b", stand.database)
