"""One blob being written: verified while it streams, visible only when it is whole and on disk.

Owns the file under `ingest/`, its lock and its hash. A named ingest survives a crash and is resumed by hashing again
what is there; an anonymous one (its digest not known beforehand) is thrown away.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from pathlib import Path
from types import TracebackType

from corten_api.errors import AlreadyExists, Conflict, DataLoss, FailedPrecondition, ResourceExhausted

from cortend.oci.digest import Digest
from cortend.oci.manifest import Descriptor

_ANONYMOUS = "anonymous-"
_CHUNK = 1 << 20


class Ingest:
    """A writer of one blob; leaving it without `commit` keeps what was written for the next one (`abort` discards)."""

    def __init__(self, path: Path, blobs: Path, expected: Descriptor | None) -> None:
        """Use `ContentStore.writer`."""
        self._path = path
        self._blobs = blobs
        self._expected = expected
        self._hash = hashlib.sha256()
        self._offset = 0
        self._file = _open_locked(path)
        try:
            if expected is not None and (blobs / expected.digest.hex).exists():
                path.unlink(missing_ok=True)
                raise AlreadyExists("blob", str(expected.digest), "is in the content store")
            self._rehash()
        except BaseException:
            os.close(self._file)
            self._file = -1
            raise

    @property
    def offset(self) -> int:
        """Bytes here already: where the next write goes."""
        return self._offset

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append. A blob that outgrows its descriptor is refused at once (DataLoss) and forgotten."""
        if self._file < 0:
            raise FailedPrecondition("blob", self._name(), "its writer is closed")
        if self._expected is not None and self._offset + len(data) > self._expected.size:
            size = self._expected.size
            self.abort(discard=True)
            raise DataLoss("blob", self._name(), f"is longer than the {size} bytes it was announced with")
        self._hash.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            os.ftruncate(self._file, self._offset)
            self.close()
            raise ResourceExhausted("blob", self._name(), f"cannot be written: {error.strerror}") from error
        self._offset += len(data)

    def restart(self) -> None:
        """Throw away what is here and begin at 0: for a source that cannot continue at `offset`."""
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self._offset = 0

    def commit(self) -> Digest:
        """Verify size and digest, put the blob under its name on disk, and close. DataLoss: it is forgotten."""
        if self._file < 0:
            raise FailedPrecondition("blob", self._name(), "its writer is closed")
        digest = Digest("sha256", self._hash.hexdigest())
        self._verify(digest)
        try:
            os.fsync(self._file)
            os.fchmod(self._file, 0o400)
            os.rename(self._path, self._blobs / digest.hex)
            _sync_directory(self._blobs)
        except OSError as error:
            raise ResourceExhausted("blob", str(digest), f"cannot be stored: {error.strerror}") from error
        finally:
            self.close()
        return digest

    def abort(self, *, discard: bool = False) -> None:
        """Stop writing. With `discard`, or where the ingest is anonymous, what was written is removed."""
        if self._file >= 0 and (discard or self._expected is None or self._path.name.startswith(_ANONYMOUS)):
            self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Release file and lock; closing twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _name(self) -> str:
        return str(self._expected.digest) if self._expected is not None else ""

    def _verify(self, digest: Digest) -> None:
        expected = self._expected
        if expected is None:
            return
        if self._offset < expected.size:
            self.close()  # what is here may be right: the rest can still come
            detail = f"has {self._offset} bytes, not the {expected.size} it was announced with"
            raise DataLoss("blob", self._name(), detail)
        if digest != expected.digest:
            self.abort(discard=True)
            raise DataLoss("blob", self._name(), f"its bytes have the digest {digest}")

    def _rehash(self) -> None:
        while data := os.read(self._file, _CHUNK):
            self._hash.update(data)
            self._offset += len(data)
        if self._expected is not None and self._offset > self._expected.size:
            self.restart()


def anonymous_name() -> str:
    """A file name for an ingest whose digest is not known."""
    return _ANONYMOUS + secrets.token_hex(16)


def discard_anonymous(directory: Path) -> None:
    """Remove what anonymous ingests of an earlier process left."""
    for entry in os.scandir(directory):
        if entry.name.startswith(_ANONYMOUS):
            os.unlink(entry.path)


def _open_locked(path: Path) -> int:
    """The ingest file, made where there is none, locked against everybody else."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink:
                return file
            os.close(file)  # its writer finished between open and lock
        except BlockingIOError:
            os.close(file)
            raise Conflict("blob", f"sha256:{path.name}", "is being written by somebody else") from None
        except BaseException:
            os.close(file)
            raise


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
