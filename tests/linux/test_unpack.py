"""Unpacked layers, compared with what umoci makes of the same image, byte for byte."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from corten_api.errors import DataLoss, InvalidArgument, NotFound
from cortend.layers.chain import UnpackProgress, remove_abandoned
from cortend.oci.digest import Digest
from cortend.oci.manifest import Descriptor
from cortend.snapshots.snapshotter import Kind

from tests.support.layers import (
    Member,
    Store,
    archive,
    directory,
    file,
    gzipped,
    hard_link,
    symlink,
    tree,
)
from tests.support.programs import run

pytestmark = pytest.mark.root

_CAPABILITY = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".decode()
_LONG = "n" * 80 + "/" + "m" * 90 + "/" + "long" * 20
FIRST = archive(
    directory("./"),
    *(directory(each) for each in ("etc", "usr", "usr/lib", "opq", "opq/sub", "gone", "keep", "becomes-file")),
    directory("n" * 80),
    directory("n" * 80 + "/" + "m" * 90),
    Member(name="srv", kind=tarfile.DIRTYPE, mode=0o2775, gid=7),
    directory("tmp", mode=0o1777),
    symlink("lib", "usr/lib"),
    file("etc/passwd", b"root\n"),
    Member(name="etc/shadow", data=b"x", mode=0o600, gid=42),
    file("usr/lib/a.so", b"A" * 5000, mode=0o755),
    hard_link("usr/lib/b.so", "usr/lib/a.so"),
    file("opq/one", b"1"),
    file("opq/sub/two", b"2"),
    file("gone/x", b"x"),
    file("keep/y", b"y"),
    file("becomes-file/f", b"f"),
    file("becomes-directory", b"file"),
    file("setuid", b"su", mode=0o4755),
    Member(name="setgid", data=b"sg", mode=0o2755, uid=5, gid=6),
    Member(name="ping", data=b"ping", mode=0o755, pax=(("SCHILY.xattr.security.capability", _CAPABILITY),)),
    Member(name="attributes", data=b"x", pax=(("SCHILY.xattr.user.colour", "rust"),)),
    Member(name="null", kind=tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
    Member(name="loop0", kind=tarfile.BLKTYPE, mode=0o660, gid=6, device=(7, 0)),
    Member(name="fifo", kind=tarfile.FIFOTYPE, mode=0o600),
    Member(name="nanoseconds", data=b"n", pax=(("mtime", "1234567890.123456789"),)),
    file(_LONG, b"l"),
    Member(name="big ids", data=b"b", uid=3_000_000_000, gid=4_000_000_000),
    file("twice", b"first"),
    file("twice", b"second", mode=0o600),
    file("caf\u00e9", b"u"),
)
SECOND = archive(
    directory("./"),
    file("lib/c.so", b"C"),
    file("etc/.wh.shadow"),
    file("opq/.wh..wh..opq"),
    file("opq/three", b"3"),
    file(".wh.gone"),
    file("becomes-file", b"now a file"),
    directory("becomes-directory", mode=0o700),
    file("becomes-directory/in", b"i"),
    hard_link("setuid-link", "setuid"),
    hard_link("lib-link", "lib"),
    hard_link("usr/lib/e.so", "lib/c.so"),
    file(".wh.nothing"),
    file("srv/new", b"x"),
    symlink("far", "t" * 180),
    form=tarfile.GNU_FORMAT,
)
THIRD = archive(
    directory("./"),
    directory("gone", mode=0o711),
    file("gone/new", b"new"),
    file(".wh.becomes-file"),
    directory("opq/sub", mode=0o750),
    file("usr/lib/.wh.e.so"),
    file("keep/.wh.y"),
    file("keep/z", b"zz"),
    symlink("twice", "/etc/passwd"),
    file("opq/.wh.three"),
)


@pytest.fixture(params=["overlay", "copying"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path, request.param)
    yield made
    made.close()


def seen(store: Store, name: str, place: Path, ignore: tuple[str, ...] = ()) -> dict[str, tuple[object, ...]]:
    """The tree of a committed snapshot as a container would see it."""
    (mount,) = store.snapshots.view(f"view of {name}", name)
    place.mkdir(exist_ok=True)
    kind = [] if mount.type == "bind" else ["-t", mount.type]
    run(["mount", *kind, "-o", ",".join(mount.options), mount.source, place])
    try:
        return tree(place, ignore)
    finally:
        run(["umount", place])
        store.snapshots.remove(f"view of {name}")


def umoci(archives: list[bytes], directory: Path, ignore: tuple[str, ...] = ()) -> dict[str, tuple[object, ...]]:
    """What umoci makes of an image with these layers."""
    image = f"{directory / 'layout'}:test"
    run(["umoci", "init", "--layout", directory / "layout"])
    run(["umoci", "new", "--image", image])
    for number, each in enumerate(archives):
        path = directory / f"{number}.tar"
        path.write_bytes(each)
        run(["umoci", "raw", "add-layer", "--image", image, path])
    run(["umoci", "unpack", "--image", image, directory / "bundle"])
    return tree(directory / "bundle/rootfs", ignore)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_tree_is_the_one_that_umoci_unpacks(store: Store, tmp_path: Path, layers: int) -> None:
    archives = [FIRST, SECOND, THIRD][:layers]
    name = store.unpack_now(*archives)
    peer = tmp_path / "umoci"
    peer.mkdir()
    assert seen(store, name, tmp_path / "mnt", (".",)) == umoci(archives, peer, (".",))


@pytest.mark.parametrize("suffix", ["", "+gzip", "+zstd"])
def test_every_compression_gives_the_same_tree(tmp_path: Path, suffix: str) -> None:
    packers: dict[str, Callable[[bytes], bytes]] = {"": bytes, "+gzip": gzipped, "+zstd": zstandard.compress}
    store = Store(tmp_path)
    try:
        name = asyncio.run(store.unpack(FIRST, pack=packers[suffix], suffix=suffix))
        assert name == str(Digest.of(FIRST))
        assert "usr/lib/a.so" in seen(store, name, tmp_path / "mnt")
    finally:
        store.close()


def test_gzip_of_several_members_is_one_stream(store: Store, tmp_path: Path) -> None:
    name = asyncio.run(
        store.unpack(FIRST, pack=lambda data: gzipped(data[:1000]) + gzipped(data[1000:]), suffix="+gzip")
    )
    assert "usr/lib/a.so" in seen(store, name, tmp_path / "mnt")


@pytest.mark.parametrize("version", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_keep_their_holes(tmp_path: Path, version: str) -> None:
    arguments = ["--format=gnu"] if version == "gnu" else ["--format=pax", f"--sparse-version={version}"]
    source = tmp_path / "source"
    source.mkdir()
    with (source / "holes").open("wb") as holes:
        for offset in (0, 1 << 20, 7 << 20, 40 << 20):
            holes.seek(offset)
            holes.write(os.urandom(5000))
        holes.truncate(64 << 20)
    with (source / ("e" * 120)).open("wb") as nothing:
        nothing.truncate(8 << 20)
    (source / "behind").write_text("behind")
    for path in (*source.iterdir(), source):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    made = tmp_path / "sparse.tar"
    run(["tar", "-C", source, "--sparse", *arguments, "-cf", made, "."])
    (tmp_path / "store").mkdir()
    store = Store(tmp_path / "store")
    try:
        name = store.unpack_now(made.read_bytes())
        assert seen(store, name, tmp_path / "mnt") == tree(source)
        assert store.snapshots.usage(name).size_bytes < 1 << 20
    finally:
        store.close()


def test_a_real_directory_packed_by_tar_comes_out_as_it_was(store: Store, tmp_path: Path) -> None:
    made = tmp_path / "real.tar"
    source = Path("/usr/share/perl5") if Path("/usr/share/perl5").is_dir() else Path("/etc")
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, symlinks=True)
    run(["tar", "-C", copy, "--format=pax", "--xattrs", "-cf", made, "."])
    name = store.unpack_now(made.read_bytes())
    assert seen(store, name, tmp_path / "mnt") == tree(copy)


def test_directories_that_no_entry_names_are_made(store: Store, tmp_path: Path) -> None:
    name = store.unpack_now(archive(file("a/b/c", b"c")))
    found = seen(store, name, tmp_path / "mnt")
    assert found["a/b"][:3] == ("0o40755", 0, 0)


def test_lower_directories_keep_their_looks_when_a_layer_reaches_through_them(store: Store, tmp_path: Path) -> None:
    lower = archive(Member(name="d", kind=tarfile.DIRTYPE, mode=0o2750, uid=5, gid=6, mtime=1234))
    name = store.unpack_now(lower, archive(file("d/f", b"f")))
    assert seen(store, name, tmp_path / "mnt")["d"][:4] == ("0o42750", 5, 6, 1234 * 10**9)


def test_a_deletion_behind_the_new_file_takes_only_the_old_one(store: Store, tmp_path: Path) -> None:
    lower = archive(directory("d"), file("d/old", b"old"), directory("d/sub"), file("d/sub/old"))
    upper = archive(file("d/new", b"new"), file("d/sub/new"), file(".wh.d"))
    found = seen(store, store.unpack_now(lower, upper), tmp_path / "mnt")
    assert {each for each in found if each.startswith("d")} == {"d", "d/new", "d/sub", "d/sub/new"}


def test_an_absolute_symlink_leads_to_the_images_own_directory(store: Store, tmp_path: Path) -> None:
    lower = archive(directory("run"), directory("var"), symlink("var/run", "/run"))
    name = store.unpack_now(lower, archive(file("var/run/pid", b"1")))
    found = seen(store, name, tmp_path / "mnt")
    assert "run/pid" in found
    assert not Path("/run/pid").exists()


async def test_layers_are_unpacked_once_however_many_ask(store: Store) -> None:
    told: list[UnpackProgress] = []
    layers = [store.add(each) for each in (FIRST, SECOND)]
    diffs = [Digest.of(each) for each in (FIRST, SECOND)]
    names = await asyncio.gather(*(store.chains.unpack_chain(layers, diffs, told.append) for _ in range(4)))
    assert len(set(names)) == 1
    assert [each.kind for each in store.snapshots.list()] == [Kind.COMMITTED] * 2
    assert sum(each.done for each in told) == 8
    assert await store.chains.unpack_chain(layers[:1], diffs[:1]) == str(diffs[0])


async def test_a_cancelled_unpack_leaves_nothing_and_others_go_on(store: Store) -> None:
    big = archive(*(file(f"f{number}", b"x" * 50_000) for number in range(400)))
    layer = store.add(big)
    first = asyncio.create_task(store.chains.unpack_chain([layer], [Digest.of(big)]))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(store.chains.unpack_chain([layer], [Digest.of(big)]))
    await asyncio.sleep(0.02)
    first.cancel()
    assert await second == str(Digest.of(big))
    with pytest.raises(asyncio.CancelledError):
        await first
    assert store.names() == [str(Digest.of(big))]


def test_a_layer_with_another_diff_id_is_refused_and_leaves_nothing(store: Store) -> None:
    layer = store.add(FIRST)
    with pytest.raises(DataLoss, match=str(layer.digest)) as caught:
        asyncio.run(store.chains.unpack_chain([layer], [Digest.of(b"else")]))
    assert str(Digest.of(FIRST)) in caught.value.detail
    assert store.names() == []


def test_layers_and_diff_ids_must_be_as_many(store: Store) -> None:
    with pytest.raises(InvalidArgument, match="1 layers but the configuration 0"):
        asyncio.run(store.chains.unpack_chain([store.add(FIRST)], []))


def test_a_blob_that_is_not_here_is_not_found(store: Store) -> None:
    layer = Descriptor(media_type="application/vnd.oci.image.layer.v1.tar", digest=Digest.of(b"x"), size=1)
    with pytest.raises(NotFound, match="content store"):
        asyncio.run(store.chains.unpack_chain([layer], [Digest.of(b"x")]))
    assert store.names() == []


def test_what_a_crashed_unpack_left_is_removed_at_start(store: Store) -> None:
    store.snapshots.prepare("unpack-0123", None)
    store.snapshots.prepare("worker", None)
    assert remove_abandoned(store.snapshots) == 1
    assert store.names() == ["worker"]


def test_the_worker_leaves_no_mount_behind(store: Store) -> None:
    store.unpack_now(FIRST, SECOND, THIRD)
    assert str(store.snapshots.root) not in Path("/proc/self/mountinfo").read_text()
    processes = subprocess.run(["pgrep", "-f", str(store.snapshots.root)], capture_output=True, check=False)
    assert processes.stdout == b""
