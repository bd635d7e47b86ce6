"""The virtual machine's disks: a root with this run's own Python and tools (cached), and the checkout as it is now.

Files are copied from the machine the tests run on, with the shared libraries they need, to the paths they have here: so
the guest runs the very Python and packages that plain `tests/run` uses, whatever distribution made them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support import images
from tests.support.paths import CHECKOUT, cache, cached
from tests.support.programs import run

PROGRAMS = (
    "bash", "tar", "umoci", "skopeo", "docker-registry", "zstd", "xz", "apparmor_parser",
    "cp", "du", "findmnt", "getfattr", "ls", "mount", "nsenter", "pgrep", "ps", "setfattr", "stat", "umount", "unshare",
)  # fmt: skip
LIBRARIES = ("libseccomp.so.2", "libgcc_s.so.1", "libnss_files.so.2")
GUEST_CACHE = "/var/cache/tests"
_EDITION = 5
_SIZE = "6G"  # sparse
_LEFT_OUT = {
    "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip",
    "site-packages", "dist-packages", "__pycache__",
}  # fmt: skip
_TOOLS_LEFT_OUT = re.compile(
    r"(mypy|mypyc|ruff|pip|setuptools|grpc_tools|hatchling|ast_serialize|librt)\b|.*__mypyc\..*"
)
_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost corten-vm\n::1 localhost\n",
    "hostname": "corten-vm\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "nameserver 127.0.0.1\n",
    "ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n",
}
_ELF = b"\x7fELF"


def root_disk() -> Path:
    """An ext4 image of the guest's root, without the checkout."""
    made = [images.busybox(), images.debian(), images.poisoned(), images.multi_platform()]
    keep = [each.layout.parent for each in made]
    files = sorted({*_python_files(), *_environment_files(), *_program_files(), *_library_files()})
    inputs = "\n".join([f"{_EDITION} {_SIZE} {_init()}", *map(str, keep), *map(_identity, files)])

    def make(directory: Path) -> None:
        tree = directory / "tree"
        _lay_out(tree)
        _copy(files, tree)
        for path in keep:
            shutil.copytree(path, tree / GUEST_CACHE[1:] / path.relative_to(cache()))
        _libraries(files, tree)
        run(["ldconfig", "-r", tree])
        run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, directory / "disk", _SIZE], timeout=300)
        shutil.rmtree(tree)

    return cached("vm-root", hashlib.sha256(inputs.encode()).hexdigest(), make) / "disk"


def checkout_archive(target: Path) -> None:
    """The checkout as a tar at `target`, generated code included; what only this machine needs is left out."""
    leave = [".git", ".venv", ".cache", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"]
    excludes = [f"--exclude={name}" for name in leave]
    run(["tar", "-C", CHECKOUT, "--exclude-caches-all", *excludes, "-cf", target, "."])


def _python_files() -> Iterator[Path]:
    """The interpreter and its standard library."""
    yield Path(os.path.realpath(sys.executable))
    for name in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        yield from _walk(Path(name), lambda part: part in _LEFT_OUT or part.startswith("config-"))
    library = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib") / (sysconfig.get_config_var("INSTSONAME") or "")
    if library.is_file() and ".so" in library.name:
        yield library


def _environment_files() -> Iterator[Path]:
    """The virtual environment without the tools that only `tests/house` uses."""
    yield Path(sys.prefix) / "pyvenv.cfg"
    yield from (path for path in (Path(sys.prefix) / "bin").iterdir() if path.is_file() and path.name != "ruff")
    yield from _walk(Path(sysconfig.get_path("purelib")), lambda part: _TOOLS_LEFT_OUT.match(part) is not None)


def _program_files() -> Iterator[Path]:
    yield images.BUSYBOX
    for name in PROGRAMS:
        if found := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            yield Path(found)


def _library_files() -> Iterator[Path]:
    """What is loaded by name, not by linking."""
    listed = run(["/sbin/ldconfig", "-p"])
    for name in LIBRARIES:
        if match := re.search(rf"^\s+{re.escape(name)} .*x86-64.* => (\S+)", listed, re.MULTILINE):
            yield Path(match[1])


def _walk(top: Path, leave_out: object) -> Iterator[Path]:
    assert callable(leave_out)
    for where, directories, names in os.walk(top):
        directories[:] = [each for each in directories if not leave_out(each)]
        yield from (Path(where) / name for name in names if not leave_out(name))


def _identity(path: Path) -> str:
    found = path.stat()
    return f"{path} {found.st_size} {found.st_mtime_ns}"


def _lay_out(tree: Path) -> None:
    for name in (
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "etc/ld.so.conf.d",
        "dev",
        "proc",
        "sys",
        "run",
        "root",
        "tmp",
    ):
        (tree / name).mkdir(parents=True, exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    for name, text in _ETC.items():
        (tree / "etc" / name).write_text(text)
    shutil.copyfile("/etc/os-release", tree / "etc/os-release")
    for path in Path("/etc/ld.so.conf.d").glob("*.conf"):
        shutil.copyfile(path, tree / "etc/ld.so.conf.d" / path.name)
    for applet in run([images.BUSYBOX, "--list"]).split():
        if applet != "busybox":
            (tree / "usr/bin" / applet).symlink_to("busybox")
    (tree / "init").write_text(_init())
    (tree / "init").chmod(0o755)


def _copy(files: Iterable[Path], tree: Path) -> None:
    """Each file to the path it has here, and every symbolic link on the way to it as the file it leads to."""
    for path in files:
        for name in {path, Path(os.path.realpath(path))}:
            target = tree / name.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            if path.is_symlink() and name == path:
                target.symlink_to(os.path.realpath(path))
            else:
                shutil.copy2(name, target)
        if path.suffix == ".py":
            _copy_bytecode(path, tree)


def _copy_bytecode(source: Path, tree: Path) -> None:
    """What Python has compiled here: compiling it under emulation takes minutes."""
    compiled = Path(importlib.util.cache_from_source(source))
    if compiled.is_file():
        target = tree / compiled.relative_to("/")
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(compiled, target)


def _libraries(files: Iterable[Path], tree: Path) -> None:
    """The shared libraries that `files` need, to where they are here."""
    binaries = [path for path in files if _is_elf(path)]
    needed: set[Path] = set()
    for start in range(0, len(binaries), 200):
        shown = run(["bash", "-c", 'ldd "$@" 2>/dev/null; true', "ldd", *binaries[start : start + 200]])
        needed |= {Path(each) for each in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", shown, re.MULTILINE)}
    for path in needed:
        target = tree / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(path, target)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _ELF


def _init() -> str:
    """The guest's pid 1. The kernel's command line cannot carry pytest's arguments: they come with the second disk."""
    return f"""#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
export CORTEN_TEST_CACHE={GUEST_CACHE} CORTEN_TEST_VM=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=0,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755 run /run
mount -t securityfs security /sys/kernel/security
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
ip link set lo up
hostname corten-vm
# As systemd leaves it: controllers on at the top, nobody's process there.
mkdir /sys/fs/cgroup/session
echo $$ > /sys/fs/cgroup/session/cgroup.procs
echo "+cpu +cpuset +io +memory +pids" > /sys/fs/cgroup/cgroup.subtree_control
mkdir -p {CHECKOUT}
tar -xf /dev/vdb -C {CHECKOUT}
cd {CHECKOUT}
sh ./.vm-command
echo "corten-vm-exit-status: $?"
sync
poweroff -f
"""
