"""The content store: immutable blobs named by their digest, kept as an OCI image layout.

Owns `oci-layout`, `blobs/sha256/` and `ingest/` under its root. A blob appears under its name only when it was verified
and is on disk. Knows neither images nor who needs a blob. Every call blocks; all may be made from any thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from corten_api.errors import AlreadyExists, DataLoss, NotFound, ResourceExhausted

from cortend.content.ingest import Ingest, anonymous_name, discard_anonymous
from cortend.oci.digest import Digest
from cortend.oci.manifest import Descriptor

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobInfo:
    """A stored blob."""

    digest: Digest
    size: int
    created_at_ns: int


class ContentStore:
    """Blobs under one directory. One process writes it at a time; within it every call is thread-safe."""

    def __init__(self, root: Path) -> None:
        """Open or make the store; what anonymous writers left behind is removed, partial blobs are kept."""
        self.root = root
        self._blobs = root / "blobs" / "sha256"
        self._ingest = root / "ingest"
        for directory in (root, self._blobs, self._ingest):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout = root / "oci-layout"
        if not layout.exists():
            layout.write_bytes(_LAYOUT)
        discard_anonymous(self._ingest)

    def exists(self, digest: Digest) -> bool:
        """True where the whole blob is here."""
        return self.path(digest).exists()

    def info(self, digest: Digest) -> BlobInfo:
        """Size and age of a blob. Raises NotFound."""
        try:
            return _info(digest, self.path(digest).stat())
        except FileNotFoundError:
            raise _missing(digest) from None

    def open(self, digest: Digest) -> BinaryIO:
        """A blob for reading; the caller closes it. It stays readable when the blob is deleted. Raises NotFound."""
        try:
            return self.path(digest).open("rb", buffering=0)
        except FileNotFoundError:
            raise _missing(digest) from None

    def read_bytes(self, digest: Digest, limit: int) -> bytes:
        """A small blob in one piece, its digest checked again.

        Raises ResourceExhausted for one larger than `limit` bytes, DataLoss for one damaged on disk, NotFound.
        """
        with self.open(digest) as blob:
            data = blob.read(limit + 1) if limit else b""
        if len(data) > limit:
            raise ResourceExhausted("blob", str(digest), f"is larger than {limit} bytes")
        if Digest.of(data) != digest:
            raise DataLoss("blob", str(digest), "its bytes on disk are damaged; delete it and pull again")
        return data

    def list(self) -> Iterator[BlobInfo]:
        """Every blob, ordered by digest; those deleted meanwhile are left out."""
        for name in sorted(os.listdir(self._blobs)):
            if _NAME.fullmatch(name):
                digest = Digest("sha256", name)
                try:
                    found = self.path(digest).stat()
                except FileNotFoundError:
                    continue
                yield _info(digest, found)

    def delete(self, digest: Digest) -> bool:
        """Remove a blob; False where there was none. Whether it is needed is the caller's to know."""
        try:
            self.path(digest).unlink()
        except FileNotFoundError:
            return False
        return True

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be. Raises Unimplemented for a digest other than sha256."""
        return self._blobs / Digest.stored(str(digest)).hex

    def writer(self, expected: Descriptor | None = None) -> Ingest:
        """Begin or resume writing a blob; with None its digest is what turns out, and nothing can be resumed.

        Continue at `.offset`. Raises AlreadyExists where the blob is here, Conflict while somebody else writes it.
        """
        if expected is None:
            return Ingest(self._ingest / anonymous_name(), self._blobs, None)
        target = self.path(expected.digest)
        return Ingest(self._ingest / target.name, self._blobs, expected)

    def add(self, data: bytes, expected: Descriptor | None = None) -> Digest:
        """Store bytes that are at hand; storing what is here already is fine."""
        digest = Digest.of(data)
        if self.exists(digest) and (expected is None or expected.digest == digest):
            return digest
        if expected is None:
            expected = Descriptor(media_type="", digest=digest, size=len(data))
        try:
            with Ingest(self._ingest / anonymous_name(), self._blobs, expected) as ingest:
                ingest.write(data)
                return ingest.commit()
        except AlreadyExists:  # somebody stored the same just now
            return digest

    def partial(self) -> dict[Digest, int]:
        """Bytes of every blob that is not complete, by digest."""
        found: dict[Digest, int] = {}
        for entry in os.scandir(self._ingest):
            if _NAME.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError):  # its writer finished meanwhile
                    found[Digest("sha256", entry.name)] = entry.stat().st_size
        return found

    def discard_partial(self, digest: Digest) -> None:
        """Forget what is here of an incomplete blob. Raises Conflict while it is being written."""
        path = self._ingest / digest.hex
        if path.exists():
            Ingest(path, self._blobs, None).abort(discard=True)


def _info(digest: Digest, found: os.stat_result) -> BlobInfo:
    if not stat.S_ISREG(found.st_mode):
        raise DataLoss("blob", str(digest), "is not a file")
    return BlobInfo(digest=digest, size=found.st_size, created_at_ns=found.st_mtime_ns)


def _missing(digest: Digest) -> NotFound:
    return NotFound("blob", str(digest), "is not in the content store")
