"""The configuration: file, flags, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from corten_api.errors import InvalidArgument
from cortend import config
from cortend.config import Config


def load(tmp_path: Path, text: str, **flags: object) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return config.load(path, required=True, overrides=flags)


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    found = config.load(tmp_path / "none.toml", required=False, overrides={})
    assert found == Config()
    assert found.socket == Path("/run/corten/engine.sock")


def test_flags_beat_the_file(tmp_path: Path) -> None:
    found = load(
        tmp_path, 'root = "/a"\nlog_level = "debug"\ncontainer_log_max_bytes = "5m"', root=Path("/b"), state=None
    )
    assert (found.root, found.log_level, found.container_log_max_bytes) == (Path("/b"), "debug", 5 << 20)


def test_the_socket_lies_in_the_state_directory_unless_told_otherwise(tmp_path: Path) -> None:
    assert load(tmp_path, "", state=Path("/x/y")).address == "unix:///x/y/engine.sock"
    assert load(tmp_path, "", state=Path("/x"), address="unix:///z.sock").address == "unix:///z.sock"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('colour = "red"', "colour"),
        ("root = 5", "root"),
        ('log_level = "loud"', "loud"),
        ("events_retained = true", "events_retained"),
        ("drain_seconds = -1", "drain_seconds"),
        ('cgroup_parent = "corten"', "corten"),
        ('cgroup_parent = "/a/../b"', "/a/../b"),
        ('snapshotter = "zfs"', "zfs"),
        ("container_log_max_files = 0", "container_log_max_files"),
        ('address = "tcp://0.0.0.0:1"', "mutual TLS"),
        ('address = "engine.sock"', "engine.sock"),
        ('address = "unix://relative"', "unix://relative"),
        ("root = [", "TOML"),
        ('root = "/a"\nstate = "/a"', "state"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        load(tmp_path, text)


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no such file"):
        config.load(tmp_path / "none.toml", required=True, overrides={})


def test_a_socket_path_that_does_not_fit_is_named(tmp_path: Path) -> None:
    state = Path("/" + "x" * 100)
    with pytest.raises(InvalidArgument, match=r"107 bytes, this one has 113") as raised:
        load(tmp_path, "", state=state)
    assert str(state) in raised.value.name
