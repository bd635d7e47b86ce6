"""Layers made for tests, stores to unpack them into, and trees as values to compare.

Owns building archives member by member, also those that no honest program writes. Asserts nothing.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cortend.content.store import ContentStore
from cortend.db.database import Database
from cortend.layers.chain import ChainUnpacker
from cortend.layers.limits import DEFAULT_LIMITS, Limits
from cortend.layers.unpacker import Unpacker
from cortend.oci.digest import Digest
from cortend.oci.manifest import OCI_LAYER, Descriptor
from cortend.snapshots.copying import CopyingSnapshotter
from cortend.snapshots.directories import DirectorySnapshotter
from cortend.snapshots.overlay import OverlaySnapshotter

TIME = 1_700_000_000
KINDS = {"overlay": OverlaySnapshotter, "copying": CopyingSnapshotter}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of an archive."""

    name: str
    kind: bytes = tarfile.REGTYPE
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = TIME
    link: str = ""
    device: tuple[int, int] = (0, 0)
    pax: tuple[tuple[str, str], ...] = ()


def file(name: str, data: bytes = b"", *, mode: int = 0o644) -> Member:
    return Member(name=name, data=data, mode=mode)


def directory(name: str, *, mode: int = 0o755) -> Member:
    return Member(name=name, kind=tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> Member:
    return Member(name=name, kind=tarfile.SYMTYPE, link=target, mode=0o777)


def hard_link(name: str, target: str) -> Member:
    return Member(name=name, kind=tarfile.LNKTYPE, link=target)


def archive(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive as Python's tarfile writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for each in members:
            info = tarfile.TarInfo(each.name)
            info.type, info.mode, info.uid, info.gid = each.kind, each.mode, each.uid, each.gid
            info.mtime = each.mtime
            info.linkname, info.size, info.pax_headers = each.link, len(each.data), dict(each.pax)
            info.devmajor, info.devminor = each.device
            tar.addfile(info, io.BytesIO(each.data))
    return buffer.getvalue()


def patched(block: bytes, *changes: tuple[int, bytes]) -> bytes:
    """A header with bytes replaced at offsets and its checksum made right again."""
    header = bytearray(block)
    for offset, data in changes:
        header[offset : offset + len(data)] = data
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


class Store:
    """A content store, metadata and a snapshotter in one directory. Close it."""

    def __init__(self, root: Path, kind: str = "overlay", limits: Limits = DEFAULT_LIMITS) -> None:
        self.database = Database.open(root / "meta.db")
        self.snapshots: DirectorySnapshotter = KINDS[kind](root / "snapshots", self.database)
        self.content = ContentStore(root / "content")
        self.chains = ChainUnpacker(Unpacker(self.content, limits=limits), self.snapshots)

    def add(self, blob: bytes, suffix: str = "") -> Descriptor:
        """Store a layer's blob; `suffix` is "", "+gzip" or "+zstd"."""
        return Descriptor(media_type=OCI_LAYER + suffix, digest=self.content.add(blob), size=len(blob))

    async def unpack(self, *archives: bytes, pack: Callable[[bytes], bytes] | None = None, suffix: str = "") -> str:
        """Unpack archives upon each other; the chain's name."""
        layers = [self.add(pack(each) if pack else each, suffix) for each in archives]
        return await self.chains.unpack_chain(layers, [Digest.of(each) for each in archives])

    def unpack_now(self, *archives: bytes) -> str:
        """As `unpack`, for tests without a loop."""
        return asyncio.run(self.unpack(*archives))

    def names(self) -> list[str]:
        return [each.name for each in self.snapshots.list()]

    def close(self) -> None:
        self.snapshots.close()
        self.database.close()


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def tree(root: Path, ignore: Sequence[str] = ()) -> dict[str, tuple[object, ...]]:
    """Everything below `root` by path: mode, owner, mtime, bytes or link or device, xattrs, and what it is linked with.

    The times of the paths in `ignore` are left out.
    """
    found: dict[str, tuple[object, ...]] = {}
    linked: dict[int, list[str]] = {}
    paths = [root, *(Path(top) / name for top, dirs, files in os.walk(root) for name in (*dirs, *files))]
    for path in paths:
        here = path.lstat()
        name = str(path.relative_to(root))
        content: object = None
        if stat.S_ISREG(here.st_mode):
            content = (here.st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        elif stat.S_ISLNK(here.st_mode):
            content = os.readlink(path)
        elif not stat.S_ISDIR(here.st_mode):
            content = here.st_rdev
        names = [each for each in os.listxattr(path, follow_symlinks=False) if not each.startswith("user.overlay.")]
        xattrs = tuple((each, os.getxattr(path, each, follow_symlinks=False)) for each in sorted(names))
        time_ns = None if name in ignore else here.st_mtime_ns
        found[name] = (oct(here.st_mode), here.st_uid, here.st_gid, time_ns, content, xattrs)
        if not stat.S_ISDIR(here.st_mode):
            linked.setdefault(here.st_ino, []).append(name)
    for names in linked.values():
        for name in names:
            found[name] = (*found[name], tuple(sorted(names)))
    return found
