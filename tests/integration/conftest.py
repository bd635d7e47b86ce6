"""What several integration tests ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import leftovers
from tests.support.bundles import Boxes


@pytest.fixture
async def boxes(tmp_path: Path) -> AsyncIterator[Boxes]:
    made = Boxes(tmp_path, f"{leftovers.CGROUP}-shim")
    await made.zygote.start()
    yield made
    await made.close()
    left = leftovers.gone(lambda: [str(path) for path in leftovers.cgroups(made.cgroup_parent)])
    assert not left
    assert not leftovers.mounts(str(tmp_path))
