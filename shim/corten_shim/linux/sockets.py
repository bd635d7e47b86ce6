"""Unix sockets, and descriptors sent over them.

Owns the choice of the interpreter's own `_socket` instead of `socket`: that makes an enum of each number it is given or
gives, and what this writes to would be memory of each shim.
"""

from __future__ import annotations

import struct
from _socket import (
    AF_INET,
    AF_UNIX,
    CMSG_LEN,
    MSG_CMSG_CLOEXEC,
    MSG_NOSIGNAL,
    MSG_TRUNC,
    SCM_RIGHTS,
    SHUT_WR,
    SO_PEERCRED,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
    sethostname,
    socketpair,
)
from _socket import socket as Socket

__all__ = [
    "AF_INET",
    "AF_UNIX",
    "MSG_NOSIGNAL",
    "SHUT_WR",
    "SOCK_CLOEXEC",
    "SOCK_DGRAM",
    "SOCK_NONBLOCK",
    "SOCK_STREAM",
    "Socket",
    "accept",
    "pair",
    "peer",
    "receive",
    "send",
    "sethostname",
]

_CREDENTIALS = struct.Struct("iII")
_DESCRIPTOR = struct.Struct("i")


def pair(*, packets: bool = True) -> tuple[Socket, Socket]:
    """Two connected sockets that keep messages apart; without `packets` a plain stream. Not inherited by programs."""
    return socketpair(AF_UNIX, (SOCK_SEQPACKET if packets else SOCK_STREAM) | SOCK_CLOEXEC)


def accept(listener: Socket) -> Socket:
    """The next connection. Raises OSError."""
    descriptor, _address = listener._accept()  # type: ignore[attr-defined]
    return Socket(fileno=descriptor)


def send(sock: Socket, message: bytes, *descriptors: int) -> None:
    """One message with descriptors, of which the other side gets copies (unix(7), SCM_RIGHTS)."""
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))] if descriptors else []
    sock.sendmsg([message], ancillary)


def receive(sock: Socket, size: int, descriptors: int) -> tuple[bytes, list[int], bool]:
    """(message, descriptors, whether it was longer than `size`). Empty at the end. Programs do not inherit them."""
    message, ancillary, flags, _address = sock.recvmsg(size, CMSG_LEN(descriptors * _DESCRIPTOR.size), MSG_CMSG_CLOEXEC)
    found: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            whole = len(data) - len(data) % _DESCRIPTOR.size
            found += [number for (number,) in _DESCRIPTOR.iter_unpack(data[:whole])]
    return message, found, bool(flags & MSG_TRUNC)


def peer(sock: Socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of who connected (unix(7), SO_PEERCRED)."""
    pid, uid, gid = _CREDENTIALS.unpack(sock.getsockopt(SOL_SOCKET, SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid, gid
