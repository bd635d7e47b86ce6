"""Debian's cloud kernel as files, and an initramfs that mounts the root disk. Installs nothing."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.support import packages
from tests.support.paths import cached
from tests.support.programs import run

META_PACKAGE = "linux-image-cloud-amd64"
MODULES = ("virtio_pci", "virtio_blk", "overlay")
_EDITION = 1
_INIT = f"""#!/bin/sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in {" ".join(MODULES)}; do /bin/busybox modprobe $module || echo "initramfs: $module is missing"; done
tries=0
until [ -b /dev/vda ] || [ $tries = 100 ]; do /bin/busybox sleep 0.1; tries=$((tries + 1)); done
/bin/busybox mount -t ext4 /dev/vda /root || exec /bin/busybox poweroff -f
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /init
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What qemu boots."""

    version: str
    image: Path
    initramfs: Path


def kernel() -> Kernel:
    """The newest cloud kernel that the machine's apt sources have; downloaded when it is not in the cache yet."""
    package = _newest()

    def make(directory: Path) -> None:
        scratch = directory / "scratch"
        (archive,) = packages.download([package], scratch / "packages", dependencies=False)
        tree = scratch / "tree"
        run(["dpkg-deb", "-x", archive, tree])
        version = package.removeprefix("linux-image-")
        shutil.copyfile(tree / "boot" / f"vmlinuz-{version}", directory / "vmlinuz")
        _initramfs(tree, version, scratch / "initramfs", directory / "initramfs")
        shutil.rmtree(scratch)

    directory = cached("vm-kernel", f"{_EDITION} {package} {_INIT}", make)
    return Kernel(version=package, image=directory / "vmlinuz", initramfs=directory / "initramfs")


def _newest() -> str:
    said = run(["apt-cache", "depends", "--important", META_PACKAGE])
    match = re.search(r"Depends: (linux-image-\S+)", said)
    if match is None:
        raise AssertionError(f"apt knows no {META_PACKAGE}; is its index up to date (apt-get update)?\n{said}")
    return match[1]


def _initramfs(tree: Path, version: str, root: Path, target: Path) -> None:
    for name in ("bin", "dev", "proc", "root", f"lib/modules/{version}"):
        (root / name).mkdir(parents=True)
    shutil.copyfile("/bin/busybox", root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    (root / "bin/sh").symlink_to("busybox")
    modules = f"lib/modules/{version}"
    run(["busybox", "depmod", "-b", tree, version])
    for name in _with_dependencies(tree / modules / "modules.dep"):
        (root / modules / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree / modules / name, root / modules / name)
    run(["busybox", "depmod", "-b", root, version])
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    pack = 'set -o pipefail; cd "$1"; find . -print0 | cpio --null --quiet -o -H newc | gzip -1 > "$2"'
    run(["bash", "-c", pack, "pack", root, target])


def _with_dependencies(table: Path) -> set[str]:
    """The files of `MODULES` and of all they need, from a modules.dep."""
    needs = {}
    for line in table.read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {Path(path).name.split(".")[0].replace("-", "_"): path for path in needs}
    found: set[str] = set()
    todo = [by_name[name] for name in MODULES]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += needs[path]
    return found
