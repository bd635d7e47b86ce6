"""The shim's ends of one process's streams: what feeds its stdin, what reads its output.

Owns the descriptors and how they are read and written without ever blocking. Who gets the bytes is decided in
`streams`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios

from corten_shim.reactor import READ, WRITE, Reactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

STDOUT, STDERR, END = 1, 2, 3
CHUNK = 64 << 10
PIPE_SIZE = 256 << 10


def pipe_out() -> tuple[int, int]:
    """A pipe for output: (our end, not blocking; the process's end), larger than usual where the kernel allows it."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(ours, False)
    try:
        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EBUSY, errno.EINVAL):
            raise
    return ours, theirs


def pipe_in() -> tuple[int, int]:
    """A pipe for stdin: (the process's end; our end, not blocking)."""
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(ours, False)
    return theirs, ours


def set_window_size(terminal: int, width: int, height: int) -> None:
    """Tell the terminal, and with it whoever runs in it, its size. Raises OSError."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def waiting_bytes(fd: int) -> int:
    """How many bytes are in the pipe or terminal, unread."""
    (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))
    return int(count)


class Sink:
    """Feeds a process's stdin. Holds at most what one `write` left over; `drained` is called when it is gone."""

    __slots__ = ("_closing", "_drained", "_fd", "_pending", "_reactor")

    def __init__(self, reactor: Reactor, fd: int, drained: Callable[[], None]) -> None:
        self._reactor = reactor
        self._fd = fd
        self._drained = drained
        self._pending = memoryview(b"")
        self._closing = False

    @property
    def open(self) -> bool:
        """False once nobody will read: bytes are then thrown away."""
        return self._fd >= 0 and not self._closing

    @property
    def full(self) -> bool:
        return bool(self._pending)

    def write(self, data: bytes) -> None:
        """Pass on `data`; only while not `full`."""
        if not self.open:
            return
        self._pending = memoryview(data)
        self._push()
        if self._pending:
            self._reactor.add(self._fd, WRITE, self._writable)

    def finish(self) -> None:
        """Close stdin once everything written has been passed on."""
        self._closing = True
        if not self._pending:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self._reactor.remove(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._pending = memoryview(b"")

    def _writable(self, events: int) -> None:
        self._push()
        if self._pending:
            return
        if self._fd >= 0:
            self._reactor.remove(self._fd)
            if self._closing:
                self.close()
        self._drained()

    def _push(self) -> None:
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._fd, self._pending) :]
        except BlockingIOError:
            return
        except OSError:  # EPIPE, EIO: the process closed it, which is its right
            self.close()


class Output:
    """Reads what a process writes on one channel. Each chunk goes to `deliver`; the end is told by `ended`, once."""

    __slots__ = ("_budget", "_deliver", "_ended", "_fd", "_reactor", "_reading", "_silent", "channel")

    def __init__(
        self, reactor: Reactor, fd: int, channel: int, deliver: Callable[[int, bytes], None], ended: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._fd = fd
        self.channel = channel
        self._deliver = deliver
        self._ended = ended
        self._reading = False
        self._silent = False
        self._budget = -1
        self.resume()

    @property
    def done(self) -> bool:
        """No more bytes will be delivered."""
        return self._fd < 0 or self._silent

    def resume(self) -> None:
        if not self._reading and self._fd >= 0:
            self._reactor.add(self._fd, READ, self._readable)
            self._reading = True

    def pause(self) -> None:
        if self._reading:
            self._reactor.remove(self._fd)
            self._reading = False

    def limit(self) -> None:
        """Deliver what is waiting now, then no more: others than the process hold the pipe open."""
        if not self.done:
            self._budget = waiting_bytes(self._fd)
            if not self._budget:
                self.silence()
                self._ended()

    def silence(self) -> None:
        """From here on read and discard, so that whoever still writes is not stuck, and close at the end."""
        self._silent = True
        self.resume()

    def close(self) -> None:
        self.pause()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _readable(self, events: int) -> None:
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has the terminal open any more
            data = b""
        if self._silent:
            if not data:
                self.close()
            return
        if not data:
            self.close()
            self._ended()
            return
        if self._budget < 0:
            self._deliver(self.channel, data)
            return
        self._budget = max(0, self._budget - len(data))
        self._deliver(self.channel, data)
        if not self._budget:
            self.silence()
            self._ended()
