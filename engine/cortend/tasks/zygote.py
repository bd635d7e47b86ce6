"""The zygote as the daemon sees it: started from a sealed copy of the interpreter, asked for shims, replaced when lost.

Owns the zygote's process and its control socket. What happens inside is `corten_shim.zygote`; the shims it makes are
`cortend.tasks.shim` and outlive it.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import sys
import sysconfig
from pathlib import Path

from corten_api.errors import FailedPrecondition, Internal, Unavailable
from corten_shim import placement
from corten_shim import ttrpc as shim_package_marker

from cortend import programs
from cortend.tasks.shim import Shim

START_SECONDS = 10.0
SPAWN_SECONDS = 10.0
MFD_EXEC = 0x10
F_SEAL_EXEC = 0x20
_BOOTSTRAP = (
    "import sys; sys.path[:] = sys.argv[5:]; from corten_shim.zygote import main; "
    "main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])"
)


class Zygote:
    """One per daemon. `state` is the state directory, `cgroup_parent` that of containers and shims."""

    def __init__(self, state: Path, cgroup_parent: str) -> None:
        self._state = state
        self._cgroup_parent = cgroup_parent
        self._process: programs.Process | None = None
        self._control: socket.socket | None = None
        self._lock = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start it and wait until it answers. Raises FailedPrecondition for directories that others may write."""
        async with self._lock:
            await self._start()

    async def spawn(self, container_id: str, bundle: Path) -> Shim:
        """A new shim for `container_id`; a lost zygote is replaced first. Raises Unavailable."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        request = f"spawn\0{container_id}\0{bundle}".encode()
        try:
            with theirs:
                async with self._lock:
                    answer = await self._ask(container_id, request, theirs.fileno())
                    if answer is None:
                        await self._stop()
                        answer = await self._ask(container_id, request, theirs.fileno())
        except BaseException:
            ours.close()
            raise
        if answer is None or answer[0] != "pid":
            ours.close()
            detail = answer[1] if answer is not None else "the zygote dies when it is asked"
            raise Unavailable("shim", container_id, detail)
        return await Shim.adopt(ours, container_id=container_id, bundle=bundle, pid=int(answer[1]))

    async def close(self) -> None:
        """End the zygote; shims live on. Cgroups that hold nobody any more are removed."""
        async with self._lock:
            await self._stop()
        await asyncio.to_thread(placement.leave_nothing, self._cgroup_parent)

    async def _start(self) -> None:
        paths = await asyncio.to_thread(import_paths)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        interpreter = _base_executable()
        sealed = await asyncio.to_thread(sealed_copy, interpreter)
        arguments = [str(theirs.fileno()), self._cgroup_parent, str(sealed), str(self._state), *paths]
        try:
            self._process = await programs.start(
                [interpreter, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP, *arguments],
                executable=f"/proc/self/fd/{sealed}",
                pass_fds=(sealed, theirs.fileno()),
                stderr=programs.PIPE,
                env=_environment(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(sealed)
            theirs.close()
        self._control = ours
        if await self._receive(START_SECONDS) is None:
            detail = await self._last_words()
            await self._stop()
            raise Unavailable("zygote", interpreter, detail)

    async def _ask(self, container_id: str, request: bytes, fd: int) -> tuple[str, str] | None:
        """("pid", number) or ("error", sentence) for one request; None where the zygote is gone."""
        if self._process is None or self._process.returncode is not None:
            await self._stop()
            await self._start()
        assert self._control is not None
        try:
            socket.send_fds(self._control, [request], [fd])
        except (BrokenPipeError, ConnectionResetError):
            return None
        except OSError as error:
            raise Internal("zygote", str(self.pid), f"cannot be asked: {error.strerror}") from error
        while (answer := await self._receive(SPAWN_SECONDS)) is not None:
            about, _, told = answer.partition("\0")
            if about in (container_id, ""):  # not that of an earlier request whose caller gave up
                kind, _, text = told.partition("\0")
                return kind, text
        return None

    async def _receive(self, seconds: float) -> str | None:
        assert self._control is not None
        try:
            async with asyncio.timeout(seconds):
                data = await asyncio.get_running_loop().sock_recv(self._control, 64 << 10)
        except (ConnectionResetError, TimeoutError):
            return None
        return data.decode("utf-8", "replace") or None

    async def _last_words(self) -> str:
        assert self._process is not None
        assert self._process.stderr is not None
        try:
            async with asyncio.timeout(1):
                text = (await self._process.stderr.read()).decode("utf-8", "replace").strip()
        except TimeoutError:
            text = ""
        return f"did not start: {text.rpartition(chr(10))[2] or 'it said nothing'}"

    async def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            process, self._process = self._process, None
            try:
                async with asyncio.timeout(2):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def import_paths() -> list[str]:
    """The directories that the zygote imports from. Raises FailedPrecondition for one that others may write."""
    package = Path(shim_package_marker.__file__).resolve().parent
    stdlib = Path(sysconfig.get_path("stdlib"))
    dynamic = Path(str(sysconfig.get_config_var("DESTSHARED") or stdlib / "lib-dynload"))
    for directory in (stdlib, dynamic, package, package.parent):
        if directory.is_dir():
            _require_private(directory)
    return [str(path) for path in (stdlib, dynamic, package.parent) if path.is_dir()]


def _require_private(directory: Path) -> None:
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()):
        detail = f"shims import from it as root, but user {status.st_uid} owns it; give it to root"
        raise FailedPrecondition("directory", str(directory), detail)
    if status.st_mode & 0o022:
        detail = (
            f"shims import from it as root, but others may write it (mode {status.st_mode & 0o7777:o}); chmod go-w it"
        )
        raise FailedPrecondition("directory", str(directory), detail)


def sealed_copy(interpreter: str) -> int:
    """A descriptor of a copy of `interpreter` that nobody can change any more."""
    flags = os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("corten-python", flags | MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.3
            raise
        fd = os.memfd_create("corten-python", flags)
    with open(interpreter, "rb") as source:
        size = os.fstat(source.fileno()).st_size
        while (left := size - os.lseek(fd, 0, os.SEEK_CUR)) > 0:
            if not os.sendfile(fd, source.fileno(), None, left):
                break
    os.fchmod(fd, 0o500)
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals | F_SEAL_EXEC | fcntl.F_SEAL_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals | fcntl.F_SEAL_SEAL)
    return fd


def _base_executable() -> str:
    """The interpreter itself, not the link to it in a virtual environment."""
    return os.path.realpath(str(getattr(sys, "_base_executable", None) or sys.executable))


def _environment() -> dict[str, str]:
    """Little of the daemon's. A shared libpython is named: the copy cannot look for it beside itself."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("CORTEN_")}
    environment |= {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    library = sysconfig.get_config_var("LIBDIR")
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and library:
        environment["LD_LIBRARY_PATH"] = str(library)
    return environment
