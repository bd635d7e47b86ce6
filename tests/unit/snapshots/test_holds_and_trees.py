"""Holds exclude each other; trees are measured, copied and removed whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from corten_api.errors import Conflict
from cortend.snapshots import tree
from cortend.snapshots.holds import Holds

from tests.support.layers import tree as looks


def test_a_hold_excludes_others_until_it_ends() -> None:
    holds = Holds()
    with holds.hold("key", "first"), pytest.raises(Conflict, match="first"):
        holds.acquire("key", "second")
    holds.acquire("key", "second")
    holds.acquire("other", "third")
    holds.release("key")
    holds.release("key")
    holds.acquire("key", "fourth")


@pytest.mark.root
def test_a_copy_looks_like_its_original(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "d/e").mkdir(parents=True)
    (source / "d/f").write_bytes(b"data")
    os.link(source / "d/f", source / "d/e/g")
    (source / "l").symlink_to("/nowhere")
    os.mkfifo(source / "p")
    os.setxattr(source / "d/f", "user.colour", b"rust")
    os.chown(source / "d", 5, 6)
    (source / "d/f").chmod(0o4755)
    os.utime(source / "d", ns=(1, 1_234_567_890))
    with (source / "holes").open("wb") as holes:
        holes.seek(1 << 20)
        holes.write(b"x")
        holes.truncate(1 << 24)
    target.mkdir()
    tree.copy_tree(source, target)
    assert looks(target) == looks(source)
    assert (target / "holes").stat().st_blocks < 100
    tree.remove_tree(target)
    tree.remove_tree(target)
    assert not target.exists()


def test_hard_links_are_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    before = tree.disk_usage(tmp_path)
    os.link(tmp_path / "a", tmp_path / "b")
    assert tree.disk_usage(tmp_path) == before
