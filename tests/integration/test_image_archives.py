"""Image archives: those of skopeo and of old dockers, and those that nobody should have made."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from corten_api import errors
from cortend.oci.digest import Digest
from cortend.oci.platform import Platform

from tests.support.image_engine import Engine, busybox_layout, docker_registry, engine, push
from tests.support.images import multi_platform
from tests.support.programs import run

EXTRA = {"etc/motd": b"hello\n", "etc/issue": b"corten\n"}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return busybox_layout(tmp_path_factory.mktemp("image"), extra=EXTRA)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, layout: Path) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        push(layout, f"{host}/team/busybox:1.0")
        yield host


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Engine]:
    async with engine(tmp_path / "root") as made:
        yield made


def archive(layout: Path, path: Path, kind: str, name: str) -> bytes:
    """`layout` as skopeo writes it: "docker-archive" or "oci-archive"."""
    target = path / f"{kind}.tar"
    run(["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{layout}:latest", f"{kind}:{target}:{name}"])
    return target.read_bytes()


def tar(members: dict[str, bytes], *, links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            made.addfile(member)
    return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as made:
        return {each.name: made.extractfile(each).read() for each in made if each.isreg()}  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
async def test_an_archive_of_skopeo_is_loaded(
    kind: str, pack: Callable[[bytes], bytes], layout: Path, storage: Engine, tmp_path: Path
) -> None:
    data = archive(layout, tmp_path, kind, "docker.io/library/loaded:1.2")
    (image,) = await storage.load(pack(data))
    assert image.tags == ("docker.io/library/loaded:1.2",)
    assert len(image.layers) == 3
    assert storage.snapshots.stat(image.chain_id)
    assert storage.images.get("loaded:1.2", "default") == image
    assert (await storage.images.config(image)).command == ("/bin/busybox",)
    assert list(storage.content.root.glob("ingest/*")) == []


async def test_the_same_image_pulled_and_loaded_is_one(
    registry: str, layout: Path, storage: Engine, tmp_path: Path
) -> None:
    pulled = await storage.pull(f"{registry}/team/busybox:1.0")
    (loaded,) = await storage.load(archive(layout, tmp_path, "oci-archive", "docker.io/library/same:1"))
    assert loaded.id == pulled.id
    assert set(loaded.tags) == {*pulled.tags, "docker.io/library/same:1"}
    await storage.images.remove("same:1", "default")
    assert storage.images.get(f"{registry}/team/busybox:1.0", "default").id == pulled.id


def saved(layer: bytes, *, config: dict[str, object] | None = None, tags: list[str] | None = None) -> dict[str, bytes]:
    """The members of a classic `docker save` archive with one layer."""
    host = Platform.host()
    document = {
        "os": host.os,
        "architecture": host.architecture,
        "variant": host.variant,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        **(config or {}),
    }
    encoded = json.dumps(document).encode()
    name = f"{hashlib.sha256(encoded).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": tags or ["busybox:old"], "Layers": ["abc/layer.tar"]}]
    return {"manifest.json": json.dumps(manifest).encode(), name: encoded, "abc/layer.tar": layer}


async def test_layers_that_are_links_in_an_old_archive_are_followed(storage: Engine) -> None:
    members = saved(tar({"file": b"x"}))
    members["def/layer.tar"] = members.pop("abc/layer.tar")
    (image,) = await storage.load(tar(members, links={"abc/layer.tar": "../def/layer.tar"}))
    assert image.tags == ("docker.io/library/busybox:old",)


async def test_compressed_layers_in_an_old_archive_are_taken_as_they_are(storage: Engine) -> None:
    plain = tar({"file": b"x" * 1000})
    members = saved(plain)
    members["abc/layer.tar"] = gzip.compress(plain)
    (image,) = await storage.load(tar(members))
    assert image.layers[0].media_type.endswith("+gzip")
    assert image.layers[0].digest == Digest.of(members["abc/layer.tar"])


async def test_links_and_names_that_lead_out_reach_nothing(storage: Engine) -> None:
    members = saved(tar({"file": b"x"}))
    del members["abc/layer.tar"]
    for target in ("/etc/passwd", "../../../../../../etc/passwd", "abc/layer.tar"):
        with pytest.raises(errors.InvalidArgument, match=r'no file "abc/layer\.tar"'):
            await storage.load(tar(members, links={"abc/layer.tar": target}))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello world" * 100, "not a tar archive"),
        (b"BZh91AY&SY", "compressed with bzip2"),
        (gzip.compress(b"x" * 5000)[:-20], "damaged|not a tar archive"),
        (b"\x28\xb5\x2f\xfd" + b"junk" * 9, "damaged"),
        (tar({"a": b"b"}), "not an image archive"),
        (tar({"manifest.json": b"[]"}), "names 0 images"),
        (tar({"manifest.json": b"{"}), "cannot be read"),
        (tar({"index.json": b'{"schemaVersion":2,"manifests":[]}'}), "names no image"),
        (tar({"manifest.json": b"x" * (5 << 20)}), "larger than"),
        (tar(saved(tar({"file": b"x"})))[:4000], "cut off|middle of a header"),
        (tar(saved(tar({"file": b"x"}), tags=["Not/Valid:x"])), "lower case"),
        (tar(saved(tar({"../out": b"x"}))), "out"),
    ],
)
async def test_what_is_no_archive_is_refused_whole(data: bytes, words: str, storage: Engine) -> None:
    with pytest.raises(errors.CortenError, match=words):
        await storage.load(data)
    assert storage.images.list().images == ()
    assert storage.blobs() == set()
    assert storage.snapshots.list() == []


async def test_a_layer_that_is_not_what_its_configuration_says_is_refused(storage: Engine) -> None:
    members = saved(tar({"file": b"x"}))
    members["abc/layer.tar"] = tar({"file": b"y"})
    with pytest.raises(errors.DataLoss, match="digest"):
        await storage.load(tar(members))


async def test_a_configuration_that_is_not_what_its_name_says_is_refused(storage: Engine) -> None:
    members = saved(tar({"file": b"x"}))
    name = next(each for each in members if each.endswith(".json") and each != "manifest.json")
    members[name] += b" "
    with pytest.raises(errors.DataLoss, match="digest"):
        await storage.load(tar(members))


async def test_a_blob_of_a_layout_that_lies_is_refused(layout: Path, storage: Engine, tmp_path: Path) -> None:
    members = unpacked(archive(layout, tmp_path, "oci-archive", "docker.io/library/x:1"))
    largest = max(members, key=lambda name: len(members[name]))
    members[largest] = b"x" + members[largest][1:]
    with pytest.raises(errors.DataLoss, match="digest"):
        await storage.load(tar(members))
    del members[largest]
    with pytest.raises(errors.InvalidArgument, match=f'no file "{largest}"'):
        await storage.load(tar(members))


async def test_an_archived_image_for_another_platform_is_refused(storage: Engine) -> None:
    data = tar(saved(tar({"file": b"x"}), config={"architecture": "s390x", "variant": ""}))
    with pytest.raises(errors.FailedPrecondition, match="it is for linux/s390x"):
        await storage.load(data)


async def test_a_compressed_bomb_is_stopped(storage: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortend.images.spool._RATIO_FLOOR", 1 << 20)
    with pytest.raises(errors.ResourceExhausted, match="decompression bomb"):
        await storage.load(gzip.compress(b"\0" * (64 << 20)))


async def test_an_archive_of_both_kinds_takes_its_names_from_either(
    layout: Path, storage: Engine, tmp_path: Path
) -> None:
    members = unpacked(archive(layout, tmp_path, "oci-archive", "latest"))
    index = json.loads(members["index.json"])
    config = json.loads(members["blobs/sha256/" + index["manifests"][0]["digest"][7:]])["config"]["digest"][7:]
    saved_too = [{"Config": f"blobs/sha256/{config}", "RepoTags": ["both:1", "both:2"], "Layers": []}]
    members["manifest.json"] = json.dumps(saved_too).encode()
    (image,) = await storage.load(tar(members))
    assert image.tags == ("docker.io/library/both:1", "docker.io/library/both:2")
    index["manifests"][0]["annotations"]["io.containerd.image.name"] = "both:3"
    members["index.json"] = json.dumps(index).encode()
    (image,) = await storage.load(tar(members))
    assert "docker.io/library/both:3" in image.tags


async def test_an_archive_without_names_is_loaded_without(layout: Path, storage: Engine, tmp_path: Path) -> None:
    (image,) = await storage.load(archive(layout, tmp_path, "oci-archive", "latest"))
    assert image.tags == ()
    assert storage.images.get(image.id.short, "default") == image


async def test_the_index_of_an_archive_gives_the_image_of_this_machine(storage: Engine) -> None:
    made = multi_platform()
    (image,) = await storage.load(made.archive.read_bytes())
    assert image.platform == Platform.host()
    assert image.tags == (made.reference,)
