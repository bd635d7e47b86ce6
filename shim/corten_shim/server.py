"""The shim: one process, one container, one loop.

Owns the sockets in the bundle, the connections, the reaping of children and how long the shim lives: it ends when its
container is deleted, or was never created or started in time. What calls do is in `tasks`.
"""

from __future__ import annotations

import gc
import os
import signal

from corten_shim.attachments import Attachments
from corten_shim.connection import Connection
from corten_shim.linux.errors import RuntimeFault
from corten_shim.linux.sockets import Socket
from corten_shim.listener import Listener, remove
from corten_shim.reactor import READ, Reactor, Timer
from corten_shim.streams import Streams
from corten_shim.tasks import Tasks

CREATE_SECONDS = 10.0
START_SECONDS = 60.0
SHUTDOWN_SECONDS = 10.0
ORPHAN_SECONDS = 30.0
PID_FILE, TASK_SOCKET, STREAM_SOCKET = "shim.pid", "shim.sock", "stream.sock"


class Server:
    """Serves until `end`."""

    __slots__ = (
        "_attachments",
        "_connections",
        "_directory_fd",
        "_lifetime",
        "_listeners",
        "_over",
        "_tasks",
        "bundle",
        "failed",
        "id",
        "reactor",
    )

    def __init__(
        self,
        id: str,
        bundle: str,
        tasks: Tasks,
    ) -> None:
        """Raises OSError where there is no bundle."""
        self.id = id
        self.bundle = bundle
        self.reactor = Reactor()
        self._directory_fd = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._attachments = Attachments(self.reactor)
        self._tasks = tasks
        tasks.serve(self)
        self._over = False
        self.failed: BaseException | None = None  # what kept `end` from cleaning up
        self._connections: set[Connection] = set()
        self._lifetime: Timer | None = self.reactor.call_later(CREATE_SECONDS, self.end)
        self._listeners: list[Listener] = []

    def listen(self) -> None:
        """Make the sockets in the bundle, unless they are there. Raises OSError where it cannot hold them."""
        if self._listeners:
            return
        for name, accepted in ((TASK_SOCKET, self.accept), (STREAM_SOCKET, self._attachments.accept)):
            self._listeners.append(Listener(self.reactor, self._directory_fd, name, accepted))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(PID_FILE, flags, 0o600, dir_fd=self._directory_fd)
        os.write(fd, b"%d\n" % os.getpid())
        os.close(fd)

    def accept(self, sock: Socket) -> None:
        """Serve ttrpc on `sock`."""
        self._connections.add(Connection(self.reactor, sock, self._tasks.handlers, self._disconnected))

    def reserve(self, streams: Streams, *, stdin: bool, channels: tuple[int, ...], connection: Connection) -> bytes:
        """A token for one stream socket."""
        return self._attachments.reserve(streams, stdin=stdin, channels=channels, connection=connection)

    def created(self) -> None:
        self._live_for(START_SECONDS)

    def started(self) -> None:
        self._live_for(None)

    def deleted(self) -> None:
        self._live_for(SHUTDOWN_SECONDS)

    def end(self) -> None:
        """Clean up and leave; a container that is still there is killed, with its record written."""
        if self._over:
            return
        self._over = True
        container = self._tasks.container
        if container is not None:
            try:
                container.destroy()
            except (RuntimeFault, OSError) as error:
                self.failed = error
                self._complain(error)
        self._tasks.release()
        for listener in self._listeners:
            listener.close()
        remove(PID_FILE, self._directory_fd)
        self.reactor.stop()

    def close(self) -> None:
        """Give back the last descriptors, after the end; a process that leaves need not."""
        for connection in tuple(self._connections):
            connection.close()
        self.reactor.close()
        os.close(self._directory_fd)

    def reap(self) -> None:
        """Collect every child that ended, adopted ones included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if self._tasks.container is not None:
                self._tasks.container.reaped(pid, status)

    def _live_for(self, seconds: float | None) -> None:
        if self._lifetime is not None:
            self._lifetime.cancel()
        self._lifetime = self.reactor.call_later(seconds, self.end) if seconds is not None else None

    def _disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._attachments.connection_closed(connection)
        if self._tasks.container is None and not self._connections:
            self.end()  # whoever wanted this shim is gone, and there is nothing to keep
        elif not self._connections:
            self.reactor.call_later(ORPHAN_SECONDS, self._look_for_bundle)

    def _look_for_bundle(self) -> None:
        """Nobody can come any more once the bundle is gone: then an ended container is not kept."""
        container = self._tasks.container
        if self._connections or container is None:
            return
        if container.init.exit is not None and os.fstat(self._directory_fd).st_nlink == 0:
            self.end()
        else:
            self.reactor.call_later(ORPHAN_SECONDS, self._look_for_bundle)

    def _complain(self, error: BaseException) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open("shim.error", flags, 0o600, dir_fd=self._directory_fd)
        os.write(fd, f"{type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        os.close(fd)


def main(id: str, bundle: str, first: Socket, tasks: Tasks) -> None:
    """Be the shim of container `id` until it is over. `first` is the connection of whoever asked for it.

    SIGCHLD has a handler. Raises OSError where the bundle is of no use.
    """
    gc.enable()  # what the zygote froze is not looked at
    server = Server(id, bundle, tasks)
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def children(events: int) -> None:
        os.read(woken, 4096)
        server.reap()

    server.reactor.add(woken, READ, children)
    server.accept(first)
    server.reactor.call_later(0.0, server.listen)  # a create that waits already comes first, and sees to it itself
    server.reactor.run()
