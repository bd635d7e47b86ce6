"""What a refusal is: one error of the closed set, in one line, and an engine that holds what it held before.

Owns the comparison of everything an engine keeps, and the decoding of its errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from corten_api import status
from corten_api.errors import CortenError
from corten_api.v1 import containers_pb2 as pb
from corten_api.v1 import content_pb2, images_pb2, snapshots_pb2

from tests.support import consistency, leftovers
from tests.support.daemon import Daemon


def traces(daemon: Daemon) -> set[str]:
    """All that the engine keeps: records, snapshots, blobs, bundles, logs, cgroups and processes, described."""
    api = daemon.api
    containers = api.containers.List(pb.ListContainersRequest(all=True), timeout=30).containers
    snapshots = api.snapshots.List(snapshots_pb2.ListSnapshotsRequest(), timeout=30).snapshots
    blobs = api.content.List(content_pb2.ListContentRequest(), timeout=30).blobs
    images = api.images.List(images_pb2.ListImagesRequest(), timeout=30).images
    found = {f"container {each.name} ({each.id})" for each in containers}
    found |= {f"snapshot {each.name}" for each in snapshots}
    found |= {f"blob {each.digest}" for each in blobs}
    found |= {f"image {each.id} {each.names}" for each in images}
    for pattern in ("content/ingest/*", "containers/*", "snapshots/*"):
        found |= {str(path) for path in daemon.root.glob(pattern)}
    found |= {str(path) for path in (daemon.state / "shims").glob("*")}
    found |= {
        str(path) for path in leftovers.cgroups(daemon.cgroup) if path.name not in (daemon.directory.name, "shims")
    }
    helpers = {pid for name in consistency.HELPERS for pid in consistency.named(daemon, name)}
    found |= {leftovers.describe(pid) for pid in leftovers.processes_in(daemon.cgroup) if pid not in helpers}
    return found | set(leftovers.mounts(str(daemon.directory)))


@contextmanager
def nothing_left(daemon: Daemon, *, but: Callable[[str], bool] = lambda _: False) -> Iterator[None]:
    """What the block adds to the engine is gone soon after it, save what `but` names; nothing else is gone either."""
    before = traces(daemon)
    yield
    left = leftovers.gone(lambda: [each for each in traces(daemon) - before if not but(each)])
    assert left == []
    assert {each for each in before - traces(daemon) if "/snapshots/trash-" not in each} == set()


def refusal(call: Callable[[], object]) -> CortenError:
    """The error that `call` ends with, as the client decodes it."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    trailer = dict(error.trailing_metadata()).get(status.DETAIL_KEY)
    assert trailer is not None, f"an error of the closed set: {error}"
    decoded = status.decode(error.code().value[0], error.details(), trailer)
    assert error.details().startswith(str(decoded)[:40])
    assert error.details().isprintable()
    return decoded


def told(error: CortenError) -> tuple[str, str, str]:
    return type(error).__name__, error.kind, error.name
