"""The streams of one process: its stdin, its output, its log and everybody attached to it.

Owns who gets which bytes and how fast the output is read: no faster than the slowest attacher takes it, at the full
rate when nobody is attached. The descriptors are handled in `stdio` and `attacher`, the log's files in `logfile`.

    stdin:  attacher ... attacher -> Sink -> process
    output: process -> Output -> log, attacher ... attacher
"""

from __future__ import annotations

import os
import time

from corten_shim import logfile
from corten_shim.attacher import Attacher
from corten_shim.reactor import Reactor, Timer
from corten_shim.stdio import STDERR, STDOUT, Output, Sink, pipe_in, pipe_out, set_window_size

GRACE_SECONDS = 1.0
_NAMES = {STDOUT: logfile.STDOUT, STDERR: logfile.STDERR}


class StreamOptions:
    """How a process's streams are made; `stall_seconds` 0: an attacher may stall for ever."""

    __slots__ = ("log", "open_stdin", "stall_seconds", "stdin_once", "terminal")

    def __init__(
        self,
        *,
        terminal: bool,
        open_stdin: bool,
        stdin_once: bool,
        stall_seconds: float = 0.0,
        log: logfile.LogFile | None = None,
    ) -> None:
        self.terminal = terminal
        self.open_stdin = open_stdin
        self.stdin_once = stdin_once
        self.stall_seconds = stall_seconds
        self.log = log


class Streams:
    """Made before the process is: `open_pipes` or `adopt_terminal`, then `process_ended`, then `close`."""

    __slots__ = (
        "_attachers",
        "_ended",
        "_grace",
        "_options",
        "_outputs",
        "_reactor",
        "_sink",
        "_stall",
        "_terminal",
    )

    def __init__(self, reactor: Reactor, options: StreamOptions) -> None:
        self._reactor = reactor
        self._options = options
        self._sink: Sink | None = None
        self._outputs: list[Output] = []
        self._attachers: list[Attacher] = []
        self._terminal = -1
        self._ended = False
        self._grace: Timer | None = None
        self._stall: Timer | None = None

    @property
    def terminal(self) -> bool:
        return self._options.terminal

    def log_to(self, log: logfile.LogFile) -> None:
        """Write the output to `log` as well; the caller closes it."""
        self._options.log = log

    def open_pipes(self) -> tuple[int, int, int]:
        """The process's stdin, stdout and stderr; the caller closes them once the process has them."""
        if self._options.open_stdin:
            stdin, ours = pipe_in()
            self._sink = Sink(self._reactor, ours, self._stdin_drained)
        else:
            stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        theirs = []
        for channel in (STDOUT, STDERR):
            fd, end = pipe_out()
            self._outputs.append(Output(self._reactor, fd, channel, self._deliver, self._output_ended))
            theirs.append(end)
        self.pace()
        return stdin, theirs[0], theirs[1]

    def adopt_terminal(self, master: int) -> None:
        """The process has a terminal, of which `master` is ours."""
        os.set_blocking(master, False)
        self._terminal = master
        if self._options.open_stdin:
            self._sink = Sink(self._reactor, os.dup(master), self._stdin_drained)
        self._outputs.append(Output(self._reactor, os.dup(master), STDOUT, self._deliver, self._output_ended))
        self.pace()

    def resize(self, width: int, height: int) -> None:
        if self._terminal >= 0:
            set_window_size(self._terminal, width, height)

    def reserve(self, *, stdin: bool, channels: tuple[int, ...]) -> Attacher:
        """A place for an attacher to come; from here on it misses nothing."""
        attacher = Attacher(self._reactor, self, stdin=stdin, channels=channels)
        self._attachers.append(attacher)
        self.pace()
        return attacher

    def connected(self, attacher: Attacher) -> None:
        """`attacher` has its socket now."""
        self.pace()
        if self._ended and self._all_done:
            attacher.finish()

    def drop(self, attacher: Attacher) -> None:
        """`attacher` left, or is made to; the others and the process go on."""
        if attacher not in self._attachers:
            return
        self._attachers.remove(attacher)
        was_connected = attacher.connected
        attacher.close()
        if attacher.stdin and was_connected:
            self.stdin_ended()
        self.pace()

    def feed(self, data: bytes) -> None:
        """Bytes for stdin; thrown away where nobody reads it."""
        if self._sink is not None:
            self._sink.write(data)
            if self._sink.full:
                self._update_attachers()

    def stdin_ended(self) -> None:
        """One attacher has no more stdin."""
        if self._options.stdin_once:
            self.close_stdin()

    def close_stdin(self) -> None:
        """End the process's stdin; a terminal has no such thing."""
        if self._sink is not None and not self._options.terminal:
            self._sink.finish()

    @property
    def stdin_full(self) -> bool:
        return self._sink is not None and self._sink.full

    def pace(self) -> None:
        """Read from each output exactly when everybody who wants it can take more."""
        blocked: set[int] = set()
        for attacher in self._attachers:
            if attacher.blocked:
                blocked.update(attacher.channels)
        for output in self._outputs:
            if output.channel in blocked and not output.done:
                output.pause()
            else:
                output.resume()
        if blocked and self._stall is None and self._options.stall_seconds:
            self._stall = self._reactor.call_later(self._options.stall_seconds, self._drop_stalled)

    def process_ended(self) -> None:
        """The process is dead: what it wrote is still delivered, what others write later is not."""
        self._ended = True
        if self._sink is not None:
            self._sink.close()
            self._update_attachers()
        if self._all_done:
            self._finish()
        else:
            self._grace = self._reactor.call_later(GRACE_SECONDS, self._limit)

    def close(self) -> None:
        """Forget everything; whoever still writes is read and discarded until its end."""
        for timer in (self._grace, self._stall):
            if timer is not None:
                timer.cancel()
        for attacher in self._attachers:
            attacher.close()
        self._attachers = []
        for output in self._outputs:
            output.silence()
        if self._sink is not None:
            self._sink.close()
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1

    @property
    def _all_done(self) -> bool:
        return all(output.done for output in self._outputs)

    def _deliver(self, channel: int, data: bytes) -> None:
        if self._options.log is not None:
            self._options.log.append(data, _NAMES[channel])
        blocked = False
        for attacher in tuple(self._attachers):
            if channel in attacher.channels:
                attacher.send(channel, data)
                blocked = blocked or attacher.blocked
        if blocked:
            self.pace()

    def _output_ended(self) -> None:
        if self._ended and self._all_done:
            self._finish()

    def _finish(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
        for attacher in tuple(self._attachers):
            attacher.finish()

    def _limit(self) -> None:
        for output in tuple(self._outputs):
            output.limit()

    def _stdin_drained(self) -> None:
        self._update_attachers()

    def _update_attachers(self) -> None:
        for attacher in tuple(self._attachers):
            attacher.update()

    def _drop_stalled(self) -> None:
        self._stall = None
        limit = time.monotonic() - self._options.stall_seconds
        for attacher in tuple(self._attachers):
            if attacher.connected and attacher.blocked and attacher.progress_at <= limit:
                self.drop(attacher)
        self.pace()
