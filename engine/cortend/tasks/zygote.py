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
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

import structlog
from corten_api.errors import FailedPrecondition, Internal, Unavailable
from corten_shim import placement
from corten_shim import ttrpc as shim_package_marker

from cortend import programs
from cortend.tasks.shim import Shim

log = structlog.get_logger()
T = TypeVar("T")

START_SECONDS = 10.0
PID_FILE, ERROR_FILE = "shim.pid", "shim.error"
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
        self._lock = asyncio.Lock()  # over its start and its end
        self._asking = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start it and wait until it answers. Raises FailedPrecondition for directories that others may write."""
        async with self._lock:
            await self._start()

    async def spawn(
        self, container_id: str, bundle: Path, begin: Callable[[Shim], Coroutine[None, None, T]]
    ) -> tuple[Shim, T]:
        """A new shim for `container_id`, and what `begin(shim)` returned: first calls, under way before it is there.

        A lost zygote is replaced, and all is begun anew. Raises what `begin` raises, or Unavailable: the shim ends.
        """
        try:
            return await self._spawn(container_id, bundle, begin)
        except _Lost:
            log.warning("zygote.lost", container=container_id)
        try:
            return await self._spawn(container_id, bundle, begin)
        except _Lost:
            raise Unavailable("shim", container_id, "the zygote dies when it is asked") from None

    async def _spawn(
        self, container_id: str, bundle: Path, begin: Callable[[Shim], Coroutine[None, None, T]]
    ) -> tuple[Shim, T]:
        """As `spawn`. Raises _Lost where nobody answers who could say why."""
        async with self._lock:
            control = await self._running()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        shim = await Shim.adopt(ours, container_id=container_id, bundle=bundle)
        try:
            with theirs:
                await self._ask(control, f"spawn\0{container_id}\0{bundle}".encode(), theirs.fileno())
            begun = await begin(shim)
            shim.pid = int((bundle / PID_FILE).read_bytes())
            return shim, begun
        except (Unavailable, BrokenPipeError, ConnectionResetError):
            shim.close()
            if (said := _last_words(bundle)) is not None:
                raise Unavailable("shim", container_id, said) from None
            async with self._lock:
                if self._control is control:
                    await self._stop()
            raise _Lost from None
        except BaseException as error:
            shim.close()
            if isinstance(error, OSError):
                raise Internal("zygote", str(self.pid), f"cannot be asked: {error.strerror}") from error
            raise

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
        if not await self._hears():
            detail = await self._why_not()
            await self._stop()
            raise Unavailable("zygote", interpreter, detail)

    async def _ask(self, control: socket.socket, request: bytes, fd: int) -> None:
        """Send a request; waits while more of them are queued than a socket takes."""
        loop = asyncio.get_running_loop()
        async with self._asking:
            while True:
                try:
                    socket.send_fds(control, [request], [fd])
                    return
                except BlockingIOError:
                    room = loop.create_future()
                loop.add_writer(control, _resolve, room)
                try:
                    await room
                finally:
                    loop.remove_writer(control)

    async def _running(self) -> socket.socket:
        """The control socket of a zygote that was alive just now."""
        if self._process is None or self._process.returncode is not None:
            await self._stop()
            await self._start()
        assert self._control is not None
        return self._control

    async def _hears(self) -> bool:
        """Whether it says that it is ready."""
        assert self._control is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                return bool(await asyncio.get_running_loop().sock_recv(self._control, 64))
        except (ConnectionResetError, TimeoutError):
            return False

    async def _why_not(self) -> str:
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


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Lost(Exception):
    """The zygote, or the spare that was to be the shim, died."""


def _last_words(bundle: Path) -> str | None:
    """Why the shim ended, where it could say so."""
    try:
        return (bundle / ERROR_FILE).read_text(errors="replace").strip()
    except OSError:
        return None


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
