"""The container of this shim: its init, the processes exec'd beside it, its cgroup and its root.

Owns the order of things from create to delete, and that a step which fails leaves nothing of the earlier ones.
Processes are made in `builder`; messages and sockets are `tasks` and `server`.
"""

from __future__ import annotations

import os
import select
import signal
import time

from corten_shim import exitrecord, faults, lifecycle
from corten_shim.builder import Builder, Built, build_container, build_exec, run_hooks
from corten_shim.cgroups import Cgroup, open_cgroup
from corten_shim.exitrecord import Exit
from corten_shim.linux.errors import RuntimeFault
from corten_shim.logfile import LogFile
from corten_shim.process import Process
from corten_shim.reactor import Reactor, Timer
from corten_shim.rootfs import Mount
from corten_shim.spawned import Stdio
from corten_shim.streams import StreamOptions, Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corten_shim.linux.pages import PageNote
    from corten_shim.messages import CreateOptions

DEATH_SECONDS = 10.0
SPARE_SECONDS = 2.0


class Container:
    """Made by `create`; `processes` has the init under the exec id "" until it is deleted."""

    __slots__ = (
        "_cgroup_path",
        "_has_hooks",
        "_log",
        "_options",
        "_own_pids",
        "_reactor",
        "_root_fd",
        "_spare",
        "_spare_pages",
        "_spare_timer",
        "bundle",
        "id",
        "processes",
        "warnings",
    )

    def __init__(
        self, reactor: Reactor, *, id: str, bundle: str, options: CreateOptions, pages: PageNote | None = None
    ) -> None:
        """`pages` are what builders write to."""
        self._reactor = reactor
        self._options = options
        self._cgroup_path = ""
        self._log: LogFile | None = None
        self._root_fd = -1
        self._own_pids = True
        self._has_hooks = False
        self._spare: Builder | None = None
        self._spare_pages = pages
        self._spare_timer: Timer | None = None
        self.id = id
        self.bundle = bundle
        self.processes: dict[str, Process] = {}
        self.warnings: list[str] = []

    @property
    def init(self) -> Process:
        return self.find("")

    def find(self, exec_id: str) -> Process:
        """The process of that exec id, empty for the init. Raises RuntimeFault (NOT_FOUND)."""
        process = self.processes.get(exec_id)
        if process is None:
            if exec_id:
                raise faults.not_found("process", exec_id, f"is not a process of container {self.id}")
            raise faults.not_found("container", self.id, "is deleted")
        return process

    @property
    def log_lost_bytes(self) -> int:
        return self._log.lost_bytes if self._log is not None else 0

    def create(
        self, builder: Builder, mounts: list[Mount], *, terminal: bool, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Everything up to the init's exec; `meanwhile` is what the caller has to do in that time.

        Raises RuntimeFault, with nothing left behind.
        """
        process = self._process("", b"", terminal=terminal, stdin=self._options.open_stdin)
        process.window = (self._options.width, self._options.height)

        def prepare() -> None:
            if self._options.log_directory and self._log is None:
                self._log = open_log(self._options)
                process.streams.log_to(self._log)
            meanwhile()

        try:
            built = process.make(
                lambda stdio: build_container(
                    builder,
                    name=self.id,
                    bundle=self.bundle,
                    mounts=mounts,
                    stdio=stdio,
                    seccomp_cache=self._options.seccomp_cache,
                    meanwhile=prepare,
                )
            )
        except BaseException:
            self._release(process)
            raise
        self.warnings += built.spawned.warnings
        self._root_fd = built.root_fd
        self._cgroup_path = built.cgroup_path
        self._own_pids = built.own_pids
        self._has_hooks = built.has_hooks
        self.processes[""] = process

    def start(self, exec_id: str) -> Process:
        """Let the process run. Raises RuntimeFault; the process has then ended with 126, 127 or 125."""
        process = self.find(exec_id)
        process.move(lifecycle.START)
        process.started_at_ns = time.time_ns()
        try:
            if exec_id:
                self._require_running("exec in")
                self.warnings += process.make(lambda stdio: self._build_exec(process, stdio)).spawned.warnings
            self.warnings += process.release()
        except RuntimeFault as fault:
            if process.spawned is not None:
                process.spawned.abandon()
            self._ended(process, status=None, error=fault)
            raise
        if not exec_id:
            self._run_hooks("poststart", status="running", pid=process.pid)
        return process

    def exec(self, exec_id: str, spec: bytes, *, terminal: bool, stdin: bool) -> None:
        """Note a process (JSON of an OCI process) to run beside the init; `start` makes it."""
        if not exec_id or exec_id in self.processes:
            raise faults.already_exists("process", exec_id, "choose another exec id")
        self._require_running("exec in")
        self.processes[exec_id] = self._process(exec_id, spec, terminal=terminal, stdin=stdin)

    def kill(self, exec_id: str, number: int, *, everything: bool) -> None:
        """Signal one process, or every one of the container."""
        process = self.find(exec_id)
        if everything and 1 <= number <= 64:
            if process.exit is not None and not self.pids():
                raise faults.not_found(process.kind, process.name, "has ended already")
            for pid in self.pids():
                signal_process(pid, number)
        else:
            process.kill(number)
        if number == signal.SIGKILL and self.init.state == lifecycle.PAUSED:
            self.resume()  # a frozen process dies only when it runs again

    def pause(self) -> None:
        self._require_running("pause")
        self._cgroup().freeze()
        self.init.move(lifecycle.PAUSE)

    def resume(self) -> None:
        process = self.init
        lifecycle.after(process.state, lifecycle.RESUME, kind=process.kind, name=process.name)
        self._cgroup().thaw()
        process.move(lifecycle.RESUME)

    def pids(self) -> list[int]:
        return self._cgroup().pids() if self._cgroup_path else []

    def delete(self, exec_id: str) -> Process:
        """Forget an ended process; with the init everything of the container goes."""
        process = self.find(exec_id)
        if process.state == lifecycle.CREATED:
            self._abandon(process)
        process.move(lifecycle.DELETE)
        if exec_id:
            process.streams.close()
        else:
            for other in self.processes.values():
                other.streams.close()
            self._release(process)
            self._run_hooks("poststop", status="stopped")
        del self.processes[exec_id]
        return process

    def _run_hooks(self, stage: str, *, status: str, pid: int = 0) -> None:
        """Hooks whose failure changes nothing any more: it is a warning (runtime-spec runtime.md "Lifecycle")."""
        if not self._has_hooks:
            return
        try:
            run_hooks(self.bundle, self.id, (stage,), status=status, pid=pid)
        except RuntimeFault as fault:
            self.warnings.append(str(fault))

    def destroy(self) -> None:
        """Kill whatever runs and delete everything. Raises RuntimeFault where the kernel does not let it die."""
        process = self.init
        if process.exit is None and process.state != lifecycle.CREATED:
            self._cgroup().kill()
            if process.state == lifecycle.PAUSED:
                self.resume()
            self._await_death(process)
        self.delete("")

    def _await_death(self, init_process: Process) -> None:
        """Reap until the init is among the dead; those that were exec'd into its pid namespace must go first."""
        deadline = time.monotonic() + DEATH_SECONDS
        while init_process.exit is None:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                self.reaped(pid, status)
            elif time.monotonic() > deadline:
                raise faults.precondition("container", self.id, f"did not die within {DEATH_SECONDS:g} s of SIGKILL")
            else:
                select.select([init_process.pidfd], [], [], 0.01)

    def reopen_log(self) -> None:
        if self._log is None:
            raise faults.precondition("container", self.id, "has no log")
        self._log.reopen()

    def reaped(self, pid: int, status: int) -> None:
        """The kernel says that `pid` ended; an orphan the shim adopted is nobody's business."""
        for process in list(self.processes.values()):
            if process.pid == pid and process.exit is None:
                self._ended(process, status=status, error=None)

    def _ended(self, process: Process, *, status: int | None, error: RuntimeFault | None) -> None:
        if error is not None:
            code, number = start_exit_code(error), 0
        else:
            assert status is not None
            code = os.waitstatus_to_exitcode(status)
            number = -code if code < 0 else 0
        is_init = not process.exec_id
        end = Exit(
            128 + number if number else code,
            signal=number,
            oom=is_init and bool(self._cgroup_path) and self._cgroup().oom_kills() > 0,
            started_at_ns=process.started_at_ns,
            exited_at_ns=time.time_ns(),
            error=str(error) if error is not None else "",
        )
        if is_init:
            if self._cgroup_path and not self._own_pids:
                self._cgroup().kill()
            self._write_record(end)
        process.ended(end)
        if not is_init and self._cgroup_path:
            self._reactor.call_later(0.0, self._make_spare)

    def _make_spare(self) -> None:
        """After one exec the next is often near: have its builder ready, for a while, once nobody waits for us."""
        self._drop_spare()
        if self.init.state != lifecycle.RUNNING:
            return
        try:
            self._spare = Builder(self._spare_pages, network=False)
        except OSError:
            return  # whoever needs one will learn why
        self._spare_timer = self._reactor.call_later(SPARE_SECONDS, self._drop_spare)

    def _take_spare(self) -> Builder | None:
        spare, self._spare = self._spare, None
        if self._spare_timer is not None:
            self._spare_timer.cancel()
        return spare

    def _drop_spare(self) -> None:
        spare = self._take_spare()
        if spare is not None:
            spare.release()

    def _write_record(self, end: Exit) -> None:
        if self._options.exit_record:
            document = end.record(log_lost_bytes=self.log_lost_bytes)
            try:
                exitrecord.write(self._options.exit_record, document, durable=self._options.durable)
            except OSError as error:
                self.warnings.append(f"{self._options.exit_record} could not be written: {error.strerror}")

    def _process(self, exec_id: str, spec: bytes, *, terminal: bool, stdin: bool) -> Process:
        options = StreamOptions(
            terminal=terminal,
            open_stdin=stdin,
            stdin_once=bool(exec_id) or self._options.stdin_once,
            stall_seconds=self._options.attach_stall_ms / 1000,
        )
        streams = Streams(self._reactor, options)
        return Process(name=exec_id or self.id, exec_id=exec_id, spec=spec, streams=streams)

    def _build_exec(self, process: Process, stdio: Stdio) -> Built:
        return build_exec(
            self._take_spare() or Builder(),
            name=process.name,
            bundle=self.bundle,
            process=process.spec,
            init=(self.init.pidfd, self.init.pid),
            root_fd=self._root_fd,
            stdio=stdio,
            seccomp_cache=self._options.seccomp_cache,
        )

    def _abandon(self, process: Process) -> None:
        """Never started, never will be."""
        if process.spawned is not None:
            process.spawned.abandon()
        now = time.time_ns()
        end = Exit(137, signal=signal.SIGKILL, oom=False, started_at_ns=0, exited_at_ns=now)
        if not process.exec_id:
            self._write_record(end)
        process.ended(end)

    def _cgroup(self) -> Cgroup:
        return open_cgroup(self._cgroup_path)

    def _release(self, process: Process) -> None:
        """Kill what is left, and give back what create took, last first."""
        process.streams.close()
        self._drop_spare()
        if self._root_fd >= 0:
            os.close(self._root_fd)
            self._root_fd = -1
        if self._cgroup_path:
            cgroup, self._cgroup_path = self._cgroup(), ""
            cgroup.kill()
            cgroup.remove()
        if self._log is not None:
            self._log.close()

    def _require_running(self, action: str) -> None:
        state = self.init.state
        if state != lifecycle.RUNNING:
            detail = f"cannot {action} it: it is {lifecycle.NAMES[state]}; it must be running"
            raise faults.precondition("container", self.id, detail)


def open_log(options: CreateOptions) -> LogFile:
    try:
        return LogFile(options.log_directory, max_bytes=options.log_max_bytes, max_files=options.log_max_files)
    except OSError as error:
        raise faults.precondition("log directory", options.log_directory, f"{error.strerror}") from None


def signal_process(pid: int, number: int) -> None:
    """Signal `pid` unless it is gone by now."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def start_exit_code(fault: RuntimeFault) -> int:
    """What a shell calls the failure to start: 127 not found, 126 cannot be executed, 125 anything else."""
    if fault.kind != "executable":
        return 125
    return 127 if fault.code == faults.NOT_FOUND else 126
