"""Images as users have them: made by umoci, served by docker-registry, pushed and archived by skopeo."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from corten_api import errors
from cortend.images.progress import Phase
from cortend.oci.platform import Platform
from cortend.registry.credentials import Credentials

from tests.support.image_engine import Engine, busybox_layout, docker_registry, engine, push
from tests.support.images import multi_platform

EXTRA = {"etc/motd": b"hello\n", "etc/issue": b"corten\n"}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return busybox_layout(tmp_path_factory.mktemp("image"), extra=EXTRA)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shares nothing but busybox's layer with `layout`."""
    return busybox_layout(tmp_path_factory.mktemp("other"), extra={"etc/motd": b"other\n"})


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, layout: Path) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        push(layout, f"{host}/team/busybox:1.0")
        yield host


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Engine]:
    async with engine(tmp_path / "root") as made:
        yield made


async def test_a_pushed_image_is_pulled_unpacked_and_on_disk(registry: str, storage: Engine, tmp_path: Path) -> None:
    steps, image = await storage.steps(f"{registry}/team/busybox:1.0")
    assert {Phase.RESOLVING, Phase.DOWNLOADING, Phase.VERIFIED, Phase.COMPLETE} <= {each.phase for each in steps}
    assert len(image.layers) == 3
    assert dict(image.labels) == {"made-by": "umoci"}
    assert image.size > 1_900_000
    assert image.content_size < image.size
    top = storage.snapshots.stat(image.chain_id)
    assert top.parent
    target = storage.snapshots.unpack_target
    storage.snapshots.prepare("probe", image.chain_id)
    found = {path.name for lower in target("probe").lower for path in (lower / "etc").glob("*")}
    assert found == {"motd", "issue"}
    async with engine(tmp_path / "root2") as _:
        pass


async def test_a_second_pull_asks_nobody_and_a_refresh_asks_for_the_digest_only(registry: str, storage: Engine) -> None:
    first = await storage.pull(f"{registry}/team/busybox:1.0")
    steps, again = await storage.steps(f"{registry}/team/busybox:1.0")
    assert [each.phase for each in steps][-1] is Phase.EXISTS
    assert again == first
    steps, again = await storage.steps(f"{registry}/team/busybox:1.0", refresh=True)
    assert [each.phase for each in steps][-1] is Phase.EXISTS
    assert again == first


async def test_a_refresh_moves_the_tag_and_leaves_the_old_image(
    registry: str, layout: Path, other: Path, storage: Engine
) -> None:
    push(layout, f"{registry}/moving:latest")
    old = await storage.pull(f"{registry}/moving")
    push(other, f"{registry}/moving:latest")
    assert (await storage.pull(f"{registry}/moving")).id == old.id
    new = await storage.pull(f"{registry}/moving", refresh=True)
    assert new.id != old.id
    left = storage.images.get(str(old.id), "default")
    assert left.tags == ()
    assert left.digests == old.digests


async def test_basic_authentication_against_a_real_registry(layout: Path, storage: Engine, tmp_path: Path) -> None:
    with docker_registry(tmp_path, password="hunter22") as host:  # noqa: S106
        push(layout, f"{host}/private:1", password="hunter22")  # noqa: S106
        with pytest.raises(errors.Unauthenticated, match="log in"):
            await storage.pull(f"{host}/private:1")
        with pytest.raises(errors.Unauthenticated) as caught:
            await storage.pull(f"{host}/private:1", credentials=Credentials(username="corten", password="wrong-one"))  # noqa: S106
        assert "wrong-one" not in str(caught.value)
        image = await storage.pull(
            f"{host}/private:1",
            credentials=Credentials(username="corten", password="hunter22"),  # noqa: S106
        )
    assert image.tags == (f"{host}/private:1",)


async def test_the_platform_is_chosen_from_an_index(registry: str, storage: Engine) -> None:
    made = multi_platform()
    push(made.layout, f"{registry}/multi:latest", more=("--all",))
    image = await storage.pull(f"{registry}/multi")
    assert image.platform == Platform.host()
    assert image.target.digest != image.manifest.digest
    with pytest.raises(errors.FailedPrecondition, match="linux/riscv64"):
        await storage.pull(f"{registry}/multi", platform=Platform.parse("linux/ppc64le"))


async def test_callers_of_one_reference_share_one_pull(registry: str, storage: Engine) -> None:
    reference = f"{registry}/team/busybox:1.0"
    images = await asyncio.gather(*(storage.pull(reference) for _ in range(8)))
    assert len({each.pulled_at_ns for each in images}) == 1


async def test_a_caller_that_leaves_does_not_end_the_pull_of_another(registry: str, storage: Engine) -> None:
    reference = f"{registry}/team/busybox:1.0"

    async def leave() -> None:
        async with aclosing(storage.images.pull(reference, namespace="default")) as steps:
            async for _ in steps:
                return

    _, image = await asyncio.gather(leave(), storage.pull(reference))
    assert storage.images.list().images == (image,)


async def test_a_pull_that_nobody_wants_any_more_is_given_up(registry: str, storage: Engine) -> None:
    async with aclosing(storage.images.pull(f"{registry}/team/busybox:1.0", namespace="default")) as steps:
        async for _ in steps:
            break
    await asyncio.sleep(0.2)
    assert storage.images.list().images == ()


async def test_collecting_all_the_time_harms_no_pull(registry: str, storage: Engine) -> None:
    reference = f"{registry}/team/busybox:1.0"
    ended = asyncio.Event()

    async def collect() -> None:
        while not ended.is_set():
            await storage.collector.collect()

    collecting = asyncio.ensure_future(collect())
    for _ in range(5):
        image = await storage.pull(reference)
        await storage.collector.collect()
        assert {str(each) for each in (image.id, *(layer.digest for layer in image.layers))} <= storage.blobs()
        assert storage.snapshots.stat(image.chain_id)
        await storage.images.remove(reference, "default")
        assert storage.blobs() == set()
    ended.set()
    await collecting
    assert storage.snapshots.list() == []


async def test_removing_the_last_name_takes_blobs_and_snapshots_but_not_shared_ones(
    registry: str, layout: Path, other: Path, storage: Engine
) -> None:
    push(other, f"{registry}/other:latest")
    kept = await storage.pull(f"{registry}/other")
    gone = await storage.pull(f"{registry}/team/busybox:1.0")
    removed = await storage.images.remove(f"{registry}/team/busybox:1.0", "default")
    assert removed.deleted == (str(gone.id),)
    assert set(removed.untagged) == {*gone.tags, *gone.digests}
    blobs = {str(each) for each in (kept.id, kept.manifest.digest, *(layer.digest for layer in kept.layers))}
    assert storage.blobs() == blobs
    assert len(storage.snapshots.list()) == len(kept.layers)
    with pytest.raises(errors.NotFound, match="is not here"):
        storage.images.get(str(gone.id), "default")


async def test_tags_move_and_go_one_by_one(registry: str, storage: Engine) -> None:
    image = await storage.pull(f"{registry}/team/busybox:1.0")
    tagged = await storage.images.tag(image.id.short, "mine", "default")
    assert "docker.io/library/mine:latest" in tagged.tags
    assert storage.images.get("mine", "default").id == image.id
    with pytest.raises(errors.FailedPrecondition, match="several names"):
        await storage.images.remove(image.id.short, "default")
    removed = await storage.images.remove("mine", "default")
    assert removed.untagged == ("docker.io/library/mine:latest",)
    assert removed.deleted == ()
    removed = await storage.images.remove(image.id.short, "default")
    assert removed.deleted == (str(image.id),)


async def test_force_by_id_drops_every_name(registry: str, storage: Engine) -> None:
    image = await storage.pull(f"{registry}/team/busybox:1.0")
    await storage.images.tag(image.id.short, "mine:2", "default")
    removed = await storage.images.remove(str(image.id), "default", force=True)
    assert removed.deleted == (str(image.id),)
    assert storage.images.list().images == ()


async def test_an_image_in_use_stays(registry: str, storage: Engine) -> None:
    reference = f"{registry}/team/busybox:1.0"
    image = await storage.pull(reference)
    storage.users[str(image.id)] = [("c" * 64, "web", True)]
    for force in (False, True):
        with pytest.raises(errors.FailedPrecondition, match="running container web"):
            await storage.images.remove(reference, "default", force=force)
    storage.users[str(image.id)] = [("c" * 64, "web", False)]
    with pytest.raises(errors.FailedPrecondition, match="stopped container web"):
        await storage.images.remove(image.id.short, "default")
    storage.snapshots.prepare("container", image.chain_id)
    removed = await storage.images.remove(reference, "default", force=True)
    assert removed.deleted == (str(image.id),)
    assert storage.images.list().images == ()
    assert await storage.images.config(storage.images.get(str(image.id), "default"))
    assert storage.snapshots.stat(image.chain_id)
    storage.users.clear()
    storage.snapshots.remove("container")
    storage.collector.start(first=0.01, every=0.01)
    async with asyncio.timeout(5):
        while storage.blobs():  # noqa: ASYNC110 (what ends the wait is on disk)
            await asyncio.sleep(0.01)
    await storage.collector.close()
    assert storage.snapshots.list() == []


async def test_names_belong_to_the_namespace_that_made_them(registry: str, storage: Engine) -> None:
    reference = f"{registry}/team/busybox:1.0"
    image = await storage.pull(reference, namespace="k8s.io")
    assert image.pinned("default")
    assert storage.images.get(reference, "default").id == image.id
    for text in (reference, image.id.short):
        with pytest.raises(errors.FailedPrecondition, match=r"k8s\.io"):
            await storage.images.remove(text, "default", force=True)
    both = await storage.pull(reference, namespace="default")
    assert not both.pinned("default")
    assert both.tags == (reference,)
    removed = await storage.images.remove(reference, "default")
    assert removed.deleted == ()
    removed = await storage.images.remove(reference, "k8s.io")
    assert removed.deleted == (str(image.id),)


async def test_snapshots_that_are_missing_are_unpacked_again(registry: str, storage: Engine) -> None:
    image = await storage.pull(f"{registry}/team/busybox:1.0")
    storage.snapshots.remove(image.chain_id)
    assert await storage.images.ensure_unpacked(image) == image.chain_id
    assert storage.snapshots.stat(image.chain_id)


async def test_lists_are_paged_by_tokens(registry: str, other: Path, storage: Engine) -> None:
    push(other, f"{registry}/other:latest")
    await storage.pull(f"{registry}/other")
    await storage.pull(f"{registry}/team/busybox:1.0")
    first = storage.images.list(size=1)
    second = storage.images.list(size=1, token=first.next_token)
    assert first.images[0].id < second.images[0].id
    assert second.next_token == ""
    with pytest.raises(errors.InvalidArgument, match="page token"):
        storage.images.list(token="%%%")  # noqa: S106
