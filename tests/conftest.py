"""What every test may ask for: engines, images and a registry, all real, all gone afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import images, leftovers
from tests.support.images import TestImage
from tests.support.registry import Registry

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

# What depends on the kernel runs in the virtual machine too (`tests/run --vm`), beside what is marked `vm` itself.
IN_VM = (
    "tests/linux/test_unpack.py",
    "tests/linux/test_confinement.py",
    "tests/contract/test_snapshotters.py",
    "tests/integration/test_shim.py",
    "tests/integration/test_tasks.py",
    "tests/integration/test_zygote.py",
)
NEEDS_ROOT = "needs root: it makes namespaces, mounts and cgroups; run tests/run as root"


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(IN_VM) and "[copying" not in item.nodeid:
            item.add_marker(pytest.mark.vm)
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root") or "daemon" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason=NEEDS_ROOT))


@pytest.fixture(scope="session")
def run_directory() -> Iterator[Path]:
    """A short directory of this run: sockets have to fit below it. What the run has left at its end is an error."""
    before = leftovers.namespaces()
    directory = Path(tempfile.mkdtemp(prefix=f"ct-{leftovers.RUN}-", dir="/tmp"))
    yield directory
    text = str(directory)

    def look() -> list[str]:
        found = [*leftovers.mounts(text), *leftovers.mounts(leftovers.CGROUP), *leftovers.sockets(text)]
        found += [leftovers.describe(pid) for pid in leftovers.processes_of_run()]
        return [*found, *sorted(leftovers.namespaces() - before)]

    left = leftovers.gone(look, seconds=10)
    left += leftovers.gone(lambda: leftovers.remove_cgroups(leftovers.CGROUP))
    if not leftovers.mounts(text):
        shutil.rmtree(directory, ignore_errors=True)
    if left:
        pytest.fail("the whole run left behind:\n" + "\n".join(left))


@pytest.fixture(scope="session")
def registry(run_directory: Path) -> Iterator[Registry]:
    """An empty docker-registry on loopback; `registry.push(image)` gives the reference to pull."""
    server = Registry(run_directory / "registry")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def busybox_image() -> TestImage:
    return images.busybox()


@pytest.fixture(scope="session")
def debian_image() -> TestImage:
    return images.debian()


@pytest.fixture(scope="session")
def poisoned_image() -> TestImage:
    return images.poisoned()


@pytest.fixture(scope="session")
def multi_platform_image() -> TestImage:
    return images.multi_platform()


@pytest.fixture(scope="session")
def make_daemon(run_directory: Path) -> Iterator[Callable[..., Daemon]]:
    """`make_daemon(settings=[...])`: an engine of its own that is not started yet. Whoever makes it closes it."""
    from tests.support.daemon import Daemon

    made: list[Daemon] = []

    def make(**options: object) -> Daemon:
        name = f"d{len(made)}"
        daemon = Daemon(run_directory / name, name=name, **options)  # type: ignore[arg-type]
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.kill9()


@pytest.fixture(scope="module")
def shared_daemon(make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """One engine for the tests of a module. Tests ask for `daemon`, which cleans up after each of them."""
    daemon = make_daemon()
    daemon.start()
    yield daemon
    left = daemon.close()
    if left:
        pytest.fail("the engine left behind:\n" + "\n".join(left))


@pytest.fixture
def daemon(shared_daemon: Daemon) -> Iterator[Daemon]:
    """A running engine without containers; it is checked after the test that none of theirs left anything."""
    if not shared_daemon.running:
        shared_daemon.start()
    yield shared_daemon
    left = shared_daemon.clear()
    if left:
        pytest.fail("the test's containers left behind:\n" + "\n".join(left))


@pytest.fixture
def fresh_daemon(make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """An engine for this test alone, for tests that do things to it."""
    daemon = make_daemon()
    daemon.start()
    yield daemon
    left = daemon.close()
    if left:
        pytest.fail("the engine left behind:\n" + "\n".join(left))


def _loaded(daemon: Daemon, image: TestImage) -> str:
    if not daemon.api.has_image(image.reference):
        daemon.api.load(image.archive)
    return image.reference


@pytest.fixture
def busybox(daemon: Daemon, busybox_image: TestImage) -> str:
    """busybox, loaded into `daemon`; its full reference."""
    return _loaded(daemon, busybox_image)


@pytest.fixture
def debian(daemon: Daemon, debian_image: TestImage) -> str:
    """The small Debian with bash, coreutils, tar and python3, loaded into `daemon`; its full reference."""
    return _loaded(daemon, debian_image)


@pytest.fixture
def poisoned(daemon: Daemon, poisoned_image: TestImage) -> str:
    """busybox with a hostile Python standard library, loaded into `daemon`; its full reference."""
    return _loaded(daemon, poisoned_image)
