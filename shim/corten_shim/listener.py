"""A listening unix socket in the bundle, and who may connect to it.

Owns binding (through the directory's descriptor, so that the bundle's path may be of any length), the peer check and
removal. What is spoken on an accepted socket is the business of `connection` and `attachments`.
"""

from __future__ import annotations

import os

from corten_shim.linux import sockets
from corten_shim.linux.sockets import Socket
from corten_shim.reactor import READ, Reactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Listener:
    """Accepts on `name` in the directory `directory_fd` and hands each allowed socket to `accepted`."""

    __slots__ = ("_accepted", "_directory_fd", "_name", "_reactor", "_sock")

    def __init__(self, reactor: Reactor, directory_fd: int, name: str, accepted: Callable[[Socket], None]) -> None:
        """Raises OSError where the socket cannot be made; one of that name that is left over is replaced."""
        self._reactor = reactor
        self._directory_fd = directory_fd
        self._name = name
        self._accepted = accepted
        self._sock = Socket(sockets.AF_UNIX, sockets.SOCK_STREAM | sockets.SOCK_NONBLOCK | sockets.SOCK_CLOEXEC)
        remove(name, directory_fd)
        mask = os.umask(0o177)
        try:
            self._sock.bind(f"/proc/self/fd/{directory_fd}/{name}")
        finally:
            os.umask(mask)
        self._sock.listen(64)
        reactor.add(self._sock.fileno(), READ, self._ready)

    def close(self) -> None:
        self._reactor.remove(self._sock.fileno())
        self._sock.close()
        remove(self._name, self._directory_fd)

    def _ready(self, events: int) -> None:
        try:
            sock = sockets.accept(self._sock)
        except OSError:  # the peer left again, or there are no descriptors left: the next one may have more luck
            return
        if allowed(sock):
            self._accepted(sock)
        else:
            sock.close()


def remove(name: str, directory_fd: int) -> None:
    """Remove a file, unless the engine, whose bundle it is, was faster."""
    try:
        os.unlink(name, dir_fd=directory_fd)
    except FileNotFoundError:
        return


def allowed(sock: Socket) -> bool:
    """Whether the peer is root or runs as the shim does."""
    _pid, uid, _gid = sockets.peer(sock)
    return uid in (0, os.geteuid())
