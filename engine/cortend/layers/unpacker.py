"""Unpacking one layer: a confined worker process reads the blob and fills a snapshot's directory.

Owns starting, watching and ending the worker, and turning its verdict into errors. What is in an archive is looked at
only by the worker (`layers.worker`), which sees nothing but that directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corten_api import errors
from corten_api.errors import CortenError, DataLoss, Internal, ResourceExhausted

from cortend.content.store import ContentStore
from cortend.layers.limits import DEFAULT_LIMITS, Limits
from cortend.oci.digest import Digest
from cortend.oci.manifest import Descriptor, layer_compression
from cortend.programs import start
from cortend.snapshots.snapshotter import UnpackTarget

_BOOTSTRAP = "import sys; sys.path[:0] = {paths!r}; from cortend.layers.worker import main; main()"
_ERRORS = {each.__name__: each for each in errors.LEAVES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What a layer was: `size` bytes of archive and so many `entries`; `skipped_xattrs` names what was left out."""

    size: int
    entries: int
    skipped_xattrs: tuple[str, ...]


class Unpacker:
    """Applies layers from a content store. At most `parallel` workers run at once."""

    def __init__(self, content: ContentStore, *, limits: Limits = DEFAULT_LIMITS, parallel: int = 2) -> None:
        """`limits` hold for each layer."""
        self._content = content
        self._limits = limits
        self._slots = asyncio.Semaphore(parallel)

    async def unpack(
        self, layer: Descriptor, diff_id: Digest, target: UnpackTarget, progress: Callable[[int], None]
    ) -> Unpacked:
        """Apply `layer` to `target`, verifying that its archive has `diff_id`.

        `progress` is told compressed bytes now and then. After an error `target` holds rubbish: remove the snapshot.
        Raises NotFound (blob), DataLoss (damaged or lying about its digest), InvalidArgument (an archive that is
        refused; the detail names the entry), ResourceExhausted (a limit, or the disk).
        """
        request = json.dumps(
            {
                "compression": layer_compression(layer.media_type).value,
                "size": layer.size,
                "directory": str(target.directory),
                "lower": [str(each) for each in target.lower],
                "whiteouts": target.whiteouts.value,
                "limits": asdict(self._limits),
            }
        )
        async with self._slots:
            with await asyncio.to_thread(self._content.open, layer.digest) as blob:
                process = await start(
                    [sys.executable, "-I", "-S", "-c", _BOOTSTRAP.format(paths=_import_paths()), request],
                    stdin=blob.fileno(),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    env={},
                )
            try:
                verdict = await self._verdict(process, layer, progress)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())
        return _unpacked(verdict, layer, diff_id)

    async def _verdict(
        self, process: asyncio.subprocess.Process, layer: Descriptor, progress: Callable[[int], None]
    ) -> dict[str, Any]:
        """Read progress lines until the worker's last word."""
        assert process.stdout is not None
        while True:
            try:
                line = await asyncio.wait_for(process.stdout.readline(), self._limits.idle_seconds)
            except TimeoutError:
                detail = f"unpacking made no progress for {self._limits.idle_seconds:.0f} s"
                raise ResourceExhausted("layer", str(layer.digest), detail) from None
            if not line:
                status = await process.wait()
                raise Internal("layer", str(layer.digest), f"the unpacking worker ended with status {status}")
            message: dict[str, Any] = json.loads(line)
            if "offset" not in message:
                return message
            progress(message["offset"])


def _unpacked(verdict: dict[str, Any], layer: Descriptor, diff_id: Digest) -> Unpacked:
    if "error" in verdict:
        kind: type[CortenError] = _ERRORS.get(verdict["error"], Internal)
        raise kind("layer", str(layer.digest), verdict["detail"])
    found = Digest("sha256", verdict["diff_id"])
    if found != diff_id:
        detail = f"its archive has the digest {found}, but the image says {diff_id}"
        raise DataLoss("layer", str(layer.digest), detail)
    skipped = tuple(verdict["skipped_xattrs"])
    return Unpacked(size=verdict["size"], entries=verdict["entries"], skipped_xattrs=skipped)


def _import_paths() -> list[str]:
    """Where the worker finds what it imports: this process's directories, and nothing of the environment."""
    return [each for each in sys.path if each and Path(each).is_dir()]
