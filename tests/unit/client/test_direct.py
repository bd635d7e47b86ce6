"""Output read from the shim's socket itself: frames however they are cut, the end, and a shim that lets go."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from corten._direct import DirectOutput
from corten_api.errors import DataLoss

TOKEN = b"t" * 32


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">B3xI", stream, len(data)) + data


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "stream.sock"))
        made.listen()
        yield made


def serve(listener: socket.socket, *pieces: bytes) -> None:
    def work() -> None:
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(32, socket.MSG_WAITALL) == TOKEN
            for piece in pieces:
                connection.sendall(piece)

    threading.Thread(target=work, daemon=True).start()


def read_all(output: DirectOutput) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    while (part := output.read()) is not None:
        found[part[0]] = found.get(part[0], b"") + bytes(part[1])
    output.close()
    return found


def test_frames_of_both_streams_come_apart(listener: socket.socket, tmp_path: Path) -> None:
    serve(listener, frame(1, b"out") + frame(2, b"err") + frame(1, b"more") + frame(3, b""))
    output = DirectOutput(str(tmp_path), TOKEN)
    assert read_all(output) == {"stdout": b"outmore", "stderr": b"err"}
    assert output.whole


def test_a_frame_may_come_in_any_pieces(listener: socket.socket, tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000  # larger than the buffer
    whole = frame(1, data) + frame(3, b"")
    serve(listener, *(whole[start : start + 99_991] for start in range(0, len(whole), 99_991)))
    output = DirectOutput(str(tmp_path), TOKEN)
    assert read_all(output) == {"stdout": data}
    assert output.whole


def test_a_shim_that_lets_go_is_no_end(listener: socket.socket, tmp_path: Path) -> None:
    serve(listener, frame(1, b"a part")[:10])
    output = DirectOutput(str(tmp_path), TOKEN)
    assert read_all(output) == {"stdout": b"a "}
    assert not output.whole


def test_what_is_no_frame_is_refused(listener: socket.socket, tmp_path: Path) -> None:
    serve(listener, frame(9, b"x"))
    output = DirectOutput(str(tmp_path), TOKEN)
    with pytest.raises(DataLoss, match="type 9"):
        output.read()
    output.close()


def test_a_socket_that_cannot_be_reached_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DirectOutput(str(tmp_path / "elsewhere"), TOKEN)


def test_leaving_wakes_the_reader(listener: socket.socket, tmp_path: Path) -> None:
    output = DirectOutput(str(tmp_path), TOKEN)
    threading.Timer(0.05, output.leave).start()
    assert output.read() is None
    output.close()
