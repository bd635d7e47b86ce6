"""Who `USER` is, from files that an image may have filled with anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from corten_shim.identity import MAX_FILE, capability_mask, capability_names, from_spec, look_up
from corten_shim.linux.errors import RuntimeFault

USERS = """\
root:x:0:0:root:/root:/bin/sh
# a comment:x:1:1::/:/
broken
alice:x:1000:100::/home/alice:/bin/sh
twin:x:1000:7::/home/twin:/bin/sh
nohome:x:1001:1001
large:x:4294967296:0::/:/
"""
GROUPS = "root:x:0:\nusers:x:100:\nbuilders:x:2000:alice,bob\naudio:x:29:alice\nbroken:x:y:alice\n"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(USERS)
    (tmp_path / "etc/group").write_text(GROUPS)
    return tmp_path


@pytest.fixture
def root(image: Path) -> Iterator[int]:
    fd = os.open(image, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, [], "/root"),
        ("root", 0, 0, [], "/root"),
        ("alice", 1000, 100, [2000, 29], "/home/alice"),
        ("1000", 1000, 100, [2000, 29], "/home/alice"),
        ("alice:audio", 1000, 29, [], "/home/alice"),
        ("alice:5", 1000, 5, [], "/home/alice"),
        ("alice:", 1000, 100, [2000, 29], "/home/alice"),
        (":builders", 0, 2000, [], "/root"),
        ("4711", 4711, 0, [], "/"),
        ("4711:4712", 4711, 4712, [], "/"),
        ("nohome", 1001, 1001, [], "/"),
    ],
)
def test_users_are_looked_up_by_name_and_number(
    root: int, user: str, uid: int, gid: int, groups: list[int], home: str
) -> None:
    found = look_up(user, root)
    assert (found.uid, found.gid, found.groups, found.home) == (uid, gid, groups, home)


@pytest.mark.parametrize("user", ["bob", "alice:nobody", "-1", "4294967295", "1000:4294967295", "large", "٣", "1_0"])
def test_what_is_no_user_is_refused_and_named(root: int, user: str) -> None:
    with pytest.raises(RuntimeFault) as caught:
        look_up(user, root)
    assert (caught.value.kind, caught.value.name) == ("user", user)


def test_an_image_without_the_files_has_root_and_numbers(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    assert (look_up("", fd).uid, look_up("12:13", fd).gid) == (0, 13)
    with pytest.raises(RuntimeFault):
        look_up("root", fd)
    os.close(fd)


def test_a_link_out_of_the_image_is_followed_inside_it(image: Path, root: int) -> None:
    (image / "etc/passwd").unlink()
    (image / "etc/passwd").symlink_to("../../../../../../../etc/other")
    (image / "etc/other").write_text("inside:x:42:42::/:/\n")
    assert look_up("inside", root).uid == 42


@pytest.mark.parametrize("kind", ["fifo", "directory", "huge"])
def test_what_is_no_plain_small_file_is_refused_without_waiting(image: Path, root: int, kind: str) -> None:
    path = image / "etc/passwd"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(MAX_FILE + 1)
    with pytest.raises(RuntimeFault) as caught:
        look_up("alice", root)
    assert caught.value.kind == "user database"


def test_numbers_of_a_spec_are_taken_and_the_home_is_looked_up(root: int) -> None:
    found = from_spec({"uid": 1000, "gid": 5, "additionalGids": [6]}, root)
    assert (found.uid, found.gid, found.groups, found.home) == (1000, 5, [6], "/home/alice")


@pytest.mark.parametrize(
    "user", [{"uid": -1}, {"uid": 2**32 - 1}, {"gid": 2**32 - 1}, {"additionalGids": [-1]}, {"uid": "0"}]
)
def test_ids_that_the_kernel_takes_for_no_change_are_refused(root: int, user: dict[str, object]) -> None:
    with pytest.raises(RuntimeFault):
        from_spec(user, root)


def test_capabilities_are_bits_and_unknown_ones_are_told() -> None:
    unknown: set[str] = set()
    assert capability_mask(["CAP_CHOWN", "CAP_KILL", "CAP_FLY"], unknown) == 0b100001
    assert unknown == {"CAP_FLY"}
    assert capability_mask(None, unknown) == 0
    assert capability_names(0b100001) == ["CAP_CHOWN", "CAP_KILL"]
