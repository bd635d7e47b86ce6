"""Debian packages as files: downloaded from the machine's own apt sources, unpacked into a directory.

Installs nothing: no maintainer script runs and dpkg's database stays as it is.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.programs import run

_MERGED = ("bin", "sbin", "lib", "lib64")


def download(names: list[str], into: Path, *, dependencies: bool) -> list[Path]:
    """The .deb files of `names`, with all they depend on if asked. Raises ProgramFailed without a reachable mirror."""
    into.mkdir(parents=True, exist_ok=True)
    if dependencies:
        (into / "partial").mkdir(exist_ok=True)
        status = into / "status"
        status.touch()
        options = {
            "Dir::State::status": str(status),  # nothing counts as installed: the whole closure is fetched
            "Dir::Cache::archives": str(into),
            "APT::Install-Recommends": "0",
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "1",
        }
        flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        run(["apt-get", *flags, "-y", "--download-only", "install", *names], timeout=300)
    else:
        run(["apt-get", "-o", "APT::Sandbox::User=root", "download", *names], timeout=300, cwd=into)
    return sorted(into.glob("*.deb"))


def unpack(packages: list[Path], root: Path) -> None:
    """Unpack `packages` below `root`, a merged-/usr tree as Debian's."""
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        command = 'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"'
        run(["bash", "-c", command, "unpack", package, root])
