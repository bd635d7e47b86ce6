"""How long a shim lives: in this process, without containers."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from corten_shim import server
from corten_shim.server import Server
from corten_shim.tasks import Tasks


class EndedContainer:
    """What the server asks of a container."""

    def __init__(self) -> None:
        self.init = SimpleNamespace(exit=object())
        self.destroyed = False

    def destroy(self) -> None:
        self.destroyed = True


def serving(directory: Path, tasks: Tasks) -> tuple[Server, socket.socket]:
    made = Server("a", str(directory), tasks)
    ours, theirs = socket.socketpair()
    made.accept(theirs)
    made.listen()
    return made, ours


def test_a_shim_that_gets_no_create_in_time_ends_and_takes_its_files_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CREATE_SECONDS", 0.05)
    made, client = serving(tmp_path, Tasks())
    assert sorted(os.listdir(tmp_path)) == ["shim.pid", "shim.sock", "stream.sock"]
    made.reactor.run()
    made.close()
    client.close()
    assert os.listdir(tmp_path) == []


def test_a_shim_nobody_is_connected_to_and_that_has_nothing_to_keep_ends(tmp_path: Path) -> None:
    made, client = serving(tmp_path, Tasks())
    client.close()
    made.reactor.run()
    made.close()
    assert os.listdir(tmp_path) == []


def test_an_ended_container_is_not_kept_once_its_bundle_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ORPHAN_SECONDS", 0.05)
    directory = tmp_path / "bundle"
    directory.mkdir()
    tasks = Tasks()
    container = EndedContainer()
    tasks._container = cast("Any", container)
    made, client = serving(directory, tasks)
    client.close()
    made.reactor.call_later(0.12, lambda: shutil.rmtree(directory))
    made.reactor.run()
    made.close()
    assert container.destroyed


def test_a_left_over_socket_is_replaced_and_sockets_are_roots_own(tmp_path: Path) -> None:
    first, client = serving(tmp_path, Tasks())
    second, other = serving(tmp_path, Tasks())
    assert (tmp_path / "shim.sock").stat().st_mode & 0o777 == 0o600
    for made, sock in ((first, client), (second, other)):
        sock.close()
        made.reactor.run()
        made.close()
