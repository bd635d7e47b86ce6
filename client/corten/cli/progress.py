"""Progress of pulls and loads: bars on a terminal, lines otherwise.

Owns what is shown while layers come. rich is imported only where stderr is a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from corten_api.errors import Unavailable

from corten.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.images import Image, Progress

_SAID = {
    "waiting": "Waiting",
    "downloading": "Downloading",
    "verified": "Verified",
    "unpacking": "Extracting",
    "complete": "Pull complete",
    "exists": "Already exists",
}
_LAYER = ("layer", "rootfs")


def short(digest: str) -> str:
    """Twelve digits of a digest."""
    return digest.partition(":")[2][:12]


def follow(steps: Iterable[Progress], reference: str, *, quiet: bool = False) -> Image:
    """Shows the steps of a pull on stderr; the image at their end. Raises CortenError."""
    if quiet:
        return _last(steps, reference)
    if terminal.is_terminal(terminal.STDERR):
        with _Bars() as bars:
            return _last(steps, reference, bars)
    return _last(steps, reference, _Lines())


def _last(steps: Iterable[Progress], reference: str, shown: _Lines | _Bars | None = None) -> Image:
    for step in steps:
        if step.image is not None:
            return step.image
        if shown is not None and step.blob is not None and any(word in step.blob.media_type for word in _LAYER):
            shown.show(step)
    raise Unavailable("image", reference, "the engine ended the pull without an image")


class _Lines:
    """One line for every change of a layer."""

    def __init__(self) -> None:
        self._phases: dict[str, str] = {}

    def show(self, step: Progress) -> None:
        assert step.blob is not None
        digest = step.blob.digest
        if self._phases.get(digest) != step.phase and step.phase in ("complete", "exists"):
            print(f"{short(digest)}: {_SAID[step.phase]}", file=sys.stderr, flush=True)
        self._phases[digest] = step.phase


class _Bars:
    """One bar for every layer."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            TextColumn("{task.fields[phase]:<15}"),
            BarColumn(bar_width=30),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._progress.stop()

    def show(self, step: Progress) -> None:
        assert step.blob is not None
        digest, size = step.blob.digest, step.blob.size
        if digest not in self._tasks:
            self._tasks[digest] = self._progress.add_task(short(digest), total=size or None, phase="")
        done = size if step.phase in ("complete", "exists", "verified") else step.offset
        self._progress.update(self._tasks[digest], completed=done, phase=_SAID.get(step.phase, step.phase))
