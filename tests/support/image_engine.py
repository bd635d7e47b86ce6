"""A whole images engine in a directory, and other people's tools to make and serve images. No assertions here."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cortend.content.store import ContentStore
from cortend.db.database import Database
from cortend.domain.images import Image
from cortend.events.log import EventLog
from cortend.gc import GarbageCollector
from cortend.images.assembly import Assembler
from cortend.images.load import Loader
from cortend.images.progress import Progress
from cortend.images.pull import Puller
from cortend.images.service import ImageService
from cortend.layers.chain import ChainUnpacker
from cortend.layers.unpacker import Unpacker
from cortend.registry.repository import Registry
from cortend.registry.transport import Limits
from cortend.snapshots.overlay import OverlaySnapshotter

from tests.support.programs import run

QUICK = Limits(connect=2, stall=1.0, answer=3, slow_window=1.0, attempts=4, first_delay=0.02, longest_delay=0.1)


@dataclass
class Engine:
    """The storage half of an engine, its parts open to tests."""

    database: Database
    content: ContentStore
    snapshots: OverlaySnapshotter
    collector: GarbageCollector
    images: ImageService
    users: dict[str, list[tuple[str, str, bool]]]

    async def pull(self, reference: str, namespace: str = "default", **options: object) -> Image:
        """Pull to the end."""
        return (await self.steps(reference, namespace, **options))[1]

    async def steps(
        self, reference: str, namespace: str = "default", **options: object
    ) -> tuple[list[Progress], Image]:
        """Pull to the end; every step and the image."""
        steps: list[Progress] = []
        async for step in self.images.pull(reference, namespace=namespace, **options):  # type: ignore[arg-type]
            if isinstance(step, Image):
                return steps, step
            steps.append(step)
        raise AssertionError("the pull ended without an image")

    async def load(self, data: bytes, namespace: str = "default") -> list[Image]:
        """Load an archive in pieces."""

        async def stream() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 100_000):
                yield data[start : start + 100_000]

        steps = self.images.load(stream(), namespace=namespace)
        return [step async for step in steps if isinstance(step, Image)]

    def blobs(self) -> set[str]:
        """Digests of everything in the content store."""
        return {str(each.digest) for each in self.content.list()}


@asynccontextmanager
async def engine(root: Path, *, limits: Limits = QUICK) -> AsyncIterator[Engine]:
    """An engine under `root`, which may hold an earlier one's state."""
    await asyncio.to_thread(root.mkdir, exist_ok=True)
    database = Database.open(root / "meta.db")
    content = ContentStore(root / "content")
    snapshots = OverlaySnapshotter(root / "snapshots", database)
    chains = ChainUnpacker(Unpacker(content), snapshots)
    events = EventLog(database)
    collector = GarbageCollector(database, content, snapshots, container_snapshots=lambda: ())
    assembler = Assembler(database, content, snapshots, chains, events)
    registry = Registry(limits=limits)
    users: dict[str, list[tuple[str, str, bool]]] = {}
    collector.used_images = lambda _, image_id: bool(users.get(image_id))
    images = ImageService(
        database,
        assembler,
        Puller(assembler, registry, collector),
        Loader(assembler, collector),
        collector,
        events,
        in_use=lambda _, image_id: users.get(image_id, ()),
    )
    try:
        yield Engine(database, content, snapshots, collector, images, users)
    finally:
        await images.close()
        await registry.close()
        snapshots.close()
        database.close()
        await asyncio.sleep(0)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def docker_registry(directory: Path, *, password: str = "") -> Iterator[str]:
    """Debian's docker-registry on loopback; gives "127.0.0.1:port". With `password` it asks user "corten" for it."""
    port = free_port()
    auth = ""
    if password:
        hashed = directory / "htpasswd"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import crypt
        hashed.write_text(f"corten:{crypt.crypt(password, '$2b$04$abcdefghijklmnopqrstuu')}\n")
        auth = f"auth:\n  htpasswd:\n    realm: test\n    path: {hashed}\n"
    config = directory / "registry.yml"
    config.write_text(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n"
        f"storage:\n  filesystem:\n    rootdirectory: {directory}/storage\n  delete:\n    enabled: true\n"
        f"http:\n  addr: 127.0.0.1:{port}\n{auth}"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            raise RuntimeError(f"docker-registry ended with {process.returncode}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    raise RuntimeError("docker-registry does not answer")


def busybox_layout(directory: Path, *, extra: dict[str, bytes] | None = None) -> Path:
    """An OCI layout made by umoci: one layer with busybox, and one for each file of `extra`; its tag is "latest"."""
    layout, root = directory / "layout", directory / "bundle" / "rootfs"
    image = f"{layout}:latest"
    run(["umoci", "init", "--layout", layout])
    run(["umoci", "new", "--image", image])
    for name, data in {"bin/busybox": Path("/bin/busybox").read_bytes(), **(extra or {})}.items():
        run(["umoci", "unpack", "--image", image, directory / "bundle"])
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
        (root / name).chmod(0o755)
        run(["umoci", "repack", "--image", image, directory / "bundle"])
        shutil.rmtree(directory / "bundle")
    run(["umoci", "config", "--image", image, "--config.cmd", "/bin/busybox", "--config.label", "made-by=umoci"])
    return layout


def push(layout: Path, target: str, *, password: str = "", more: tuple[str, ...] = ()) -> None:
    """Copy a layout's image into a registry, by skopeo."""
    credentials = ["--dest-creds", f"corten:{password}"] if password else []
    words = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", *credentials, *more]
    run([*words, f"oci:{layout}:latest", f"docker://{target}"])
