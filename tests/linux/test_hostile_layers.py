"""Layers that nobody honest makes: each is refused whole with an error that names it, or held inside its root."""

from __future__ import annotations

import asyncio
import gzip
import os
import stat
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from corten_api.errors import CortenError, DataLoss, InvalidArgument, ResourceExhausted
from cortend.layers.limits import Limits
from cortend.oci.digest import Digest

from tests.support.layers import Member, Store, archive, directory, file, gzipped, hard_link, patched, symlink

pytestmark = pytest.mark.root

LIMITS = Limits(max_bytes=64 << 20, max_entries=2000, ratio_floor=1 << 20, max_ratio=50, idle_seconds=30)


@pytest.fixture(params=["overlay", "copying"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path, request.param, LIMITS)
    yield made
    made.close()


def refused(
    store: Store, error: type[CortenError], *parts: str, blob: bytes, packed: bytes | None = None, suffix: str = ""
) -> None:
    """Check that the layer is refused with its name and all `parts`, and that no snapshot of it is left."""
    before = store.names()
    layer = store.add(packed if packed is not None else blob, suffix)
    with pytest.raises(error) as caught:
        asyncio.run(store.chains.unpack_chain([layer], [Digest.of(blob)]))
    assert caught.value.name == str(layer.digest)
    for part in parts:
        assert part in caught.value.detail
    assert store.names() == before


def found(store: Store, root: Path, name: str) -> list[Path]:
    """Every file of that name anywhere below `root`, once what was refused is deleted."""
    store.close()
    return list(root.rglob(name))


def one(member: Member, *changes: tuple[int, bytes]) -> bytes:
    """An archive of one member whose header is changed by hand."""
    made = archive(member, form=tarfile.GNU_FORMAT)
    return patched(made[:512], *changes) + made[512:]


@pytest.mark.parametrize("name", ["../escape", "a/../../escape", "..", "./../escape", "/../escape"])
@pytest.mark.parametrize("make", [file, directory])
def test_a_path_that_climbs_out_is_refused(store: Store, tmp_path: Path, name: str, make: object) -> None:
    assert callable(make)
    refused(store, InvalidArgument, f'"{name}', "leads out of the image", blob=archive(make(name)))
    assert not found(store, tmp_path, "escape")


def test_a_path_longer_than_names_climbs_out_no_further(store: Store) -> None:
    refused(store, InvalidArgument, "leads out", blob=archive(file("../" * 100 + "etc/passwd")))


def test_an_absolute_path_stays_in_the_image(store: Store, tmp_path: Path) -> None:
    store.unpack_now(archive(file("/absolute-corten-path", b"x")))
    assert not Path("/absolute-corten-path").exists()
    assert [each.read_bytes() for each in found(store, tmp_path, "absolute-corten-path")] == [b"x"]


def test_writing_through_a_symlink_that_climbs_out_is_refused(store: Store, tmp_path: Path) -> None:
    blob = archive(symlink("out", "../../../../../../tmp"), file("out/corten-was-here"))
    refused(store, InvalidArgument, '"out/corten-was-here"', "symlink", blob=blob)
    assert not Path("/tmp/corten-was-here").exists()


def test_writing_through_an_absolute_symlink_to_the_host_is_refused(store: Store, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    refused(store, InvalidArgument, "out/owned", "symlink", blob=archive(symlink("out", str(host)), file("out/owned")))
    assert list(host.iterdir()) == []


def test_a_symlink_is_replaced_and_not_written_through(store: Store, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.write_text("mine")
    store.unpack_now(archive(symlink("link", str(host)), file("link", b"theirs")))
    assert host.read_text() == "mine"


def test_a_symlink_in_a_lower_layer_does_not_lead_out_either(store: Store) -> None:
    store.unpack_now(lower := archive(symlink("out", "../../../../tmp")))
    upper = archive(file("out/corten-was-here"))
    layers = [store.add(lower), store.add(upper)]
    with pytest.raises(InvalidArgument, match="leads out"):
        asyncio.run(store.chains.unpack_chain(layers, [Digest.of(lower), Digest.of(upper)]))
    assert not Path("/tmp/corten-was-here").exists()
    assert store.names() == [str(Digest.of(lower))]


def test_symlinks_that_lead_in_circles_are_refused(store: Store) -> None:
    refused(store, InvalidArgument, "symlinks", blob=archive(symlink("a", "b"), symlink("b", "a"), file("a/x")))


@pytest.mark.parametrize("target", ["../../etc/passwd", "/../etc/passwd", "no/such/file", "gone"])
def test_a_hard_link_out_of_the_image_or_to_nothing_is_refused(store: Store, target: str) -> None:
    refused(store, InvalidArgument, '"x"', blob=archive(hard_link("x", target)))


def test_a_hard_link_to_a_host_path_is_looked_up_in_the_image(store: Store) -> None:
    refused(store, InvalidArgument, "/etc/shadow", "does not exist", blob=archive(hard_link("x", "/etc/shadow")))


def test_a_hard_link_through_a_symlink_stays_in_the_image(store: Store) -> None:
    refused(store, InvalidArgument, blob=archive(symlink("e", "/etc"), hard_link("x", "e/shadow")))


def test_a_hard_link_to_a_directory_is_refused(store: Store) -> None:
    refused(store, InvalidArgument, "directory", blob=archive(directory("d"), hard_link("x", "d")))


@pytest.mark.parametrize("name", [".wh.", ".wh...", ".wh..", "d/.wh...", "d/.wh.."])
def test_the_deletion_of_a_parent_is_refused(store: Store, name: str) -> None:
    refused(store, InvalidArgument, f'"{name}"', blob=archive(directory("d"), file(name)))


def test_a_deletion_outside_the_image_is_refused(store: Store) -> None:
    refused(store, InvalidArgument, "leads out", blob=archive(file("../.wh.etc")))


def test_a_deletion_through_a_symlink_touches_nothing_of_the_host(store: Store, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "kept").touch()
    store.unpack_now(archive(symlink("out", str(host)), file("out/.wh.kept")))
    assert (host / "kept").exists()


def test_a_file_as_parent_is_refused(store: Store) -> None:
    refused(store, InvalidArgument, '"f/x"', "not a directory", blob=archive(file("f"), file("f/x")))


def test_the_root_as_a_file_is_refused(store: Store) -> None:
    refused(store, InvalidArgument, "root", blob=archive(file(".")))


@pytest.mark.parametrize("name", ["user.overlay.opaque", "trusted.overlay.redirect", "user.overlay.metacopy"])
def test_overlay_attributes_are_refused(store: Store, name: str) -> None:
    blob = archive(Member(name="d", kind=tarfile.DIRTYPE, pax=((f"SCHILY.xattr.{name}", "y"),)))
    refused(store, InvalidArgument, '"d/"', name, blob=blob)


def test_a_device_that_overlayfs_takes_for_a_deletion_is_refused(store: Store) -> None:
    refused(store, InvalidArgument, '"w"', "0:0", blob=archive(Member(name="w", kind=tarfile.CHRTYPE)))


def test_a_device_number_that_no_kernel_has_is_refused(store: Store) -> None:
    member = Member(name="d", kind=tarfile.CHRTYPE, device=(5000, 1))
    refused(store, InvalidArgument, "5000:1", blob=archive(member))


@pytest.mark.parametrize("key", ["uid", "gid"])
@pytest.mark.parametrize("value", ["4294967295", "4294967296", "-1", "99999999999999999999"])
def test_an_owner_beyond_32_bits_is_refused(store: Store, key: str, value: str) -> None:
    refused(store, InvalidArgument, key, blob=archive(Member(name="f", pax=((key, value),))))


def test_a_negative_base_256_size_is_refused(store: Store) -> None:
    refused(store, InvalidArgument, "size", blob=one(file("f"), (124, b"\xff" * 12)))


def test_an_absurd_size_is_a_broken_archive(store: Store) -> None:
    huge = b"\x80" + (1 << 40).to_bytes(11, "big")
    refused(store, ResourceExhausted, "unpacks to more", blob=one(file("f"), (124, huge)))


@pytest.mark.parametrize("field", [(100, b"mode!!!"), (108, b"99999999"), (136, b"not a time!!")])
def test_fields_that_are_no_numbers_are_refused(store: Store, field: tuple[int, bytes]) -> None:
    refused(store, InvalidArgument, "malformed", blob=one(file("f"), field))


def test_a_wrong_checksum_is_refused(store: Store) -> None:
    blob = bytearray(archive(file("good"), file("bad")))
    blob[1024 if blob[1024:1027] == b"bad" else 512] ^= 1
    refused(store, InvalidArgument, "checksum", blob=bytes(blob))


def test_an_unknown_type_is_refused(store: Store) -> None:
    refused(store, InvalidArgument, "unknown type", blob=one(file("f"), (156, b"Q")))


def test_an_archive_that_breaks_off_is_told_so(store: Store) -> None:
    blob = archive(file("whole", b"x"), file("half", b"y" * 5000))
    refused(store, DataLoss, '"half"', "breaks off", blob=blob[:3000])
    refused(store, DataLoss, "breaks off", blob=blob[:100])


def test_data_behind_the_end_is_refused(store: Store) -> None:
    refused(store, InvalidArgument, "behind its end", blob=archive(file("f")) + b"hidden" * 100 + bytes(424))


def test_text_instead_of_an_archive_is_refused(store: Store) -> None:
    refused(store, InvalidArgument, blob=b"<html>not found</html>" * 100)


def test_an_empty_layer_is_empty(store: Store) -> None:
    assert store.unpack_now(b"") == str(Digest.of(b""))


@pytest.mark.parametrize("cut", [1, 8, 500])
def test_gzip_that_breaks_off_is_told_so(store: Store, cut: int) -> None:
    blob = archive(file("f", os.urandom(20_000)))
    refused(store, DataLoss, "breaks off", blob=blob, packed=gzipped(blob)[:-cut], suffix="+gzip")


def test_gzip_with_a_flipped_bit_is_refused(store: Store) -> None:
    blob = archive(file("f", os.urandom(200_000)))
    packed = bytearray(gzipped(blob))
    packed[-6] ^= 1
    refused(store, DataLoss, "gzip", blob=blob, packed=bytes(packed), suffix="+gzip")


def test_garbage_behind_gzip_is_refused(store: Store) -> None:
    blob = archive(file("f", b"x"))
    refused(store, DataLoss, "gzip", blob=blob, packed=gzipped(blob) + b"garbage" * 9, suffix="+gzip")


def test_zstd_that_is_none_or_breaks_off_is_refused(store: Store) -> None:
    blob = archive(file("f", os.urandom(300_000)))
    packed = zstandard.ZstdCompressor().compress(blob)
    refused(store, DataLoss, "zstd", blob=blob, packed=gzipped(blob), suffix="+zstd")
    refused(store, DataLoss, blob=blob, packed=packed[: len(packed) // 2], suffix="+zstd")


def test_a_compressed_layer_under_another_type_is_refused(store: Store) -> None:
    blob = archive(file("f", os.urandom(20_000)))
    refused(store, InvalidArgument, blob=blob, packed=gzipped(blob))
    refused(store, DataLoss, "gzip", blob=blob, packed=blob, suffix="+gzip")


def test_a_decompression_bomb_is_refused(store: Store) -> None:
    blob = archive(file("zeros", bytes(32 << 20)))
    refused(store, ResourceExhausted, "bomb", blob=blob, packed=gzip.compress(blob, 9), suffix="+gzip")
    refused(store, ResourceExhausted, "bomb", blob=blob, packed=zstandard.compress(blob), suffix="+zstd")


def test_a_layer_beyond_the_size_limit_is_refused(store: Store) -> None:
    half = os.urandom(33 << 20)
    refused(store, ResourceExhausted, "unpacks to more than", blob=archive(file("a", half), file("b", half)))


def test_holes_count_as_bytes(store: Store) -> None:
    sparse = (("GNU.sparse.size", str(1 << 40)), ("GNU.sparse.map", "0,0"), ("GNU.sparse.numblocks", "1"))
    refused(store, ResourceExhausted, "unpacks to more", blob=archive(Member(name="holes", pax=sparse)))


@pytest.mark.parametrize("pieces", ["0,10,5,10", "100,1", "0,1", "0,5000000000000000000", "0", "x,y", "-1,5"])
def test_sparse_maps_that_lie_are_refused(store: Store, pieces: str) -> None:
    sparse = (("GNU.sparse.size", "50"), ("GNU.sparse.map", pieces))
    refused(store, InvalidArgument, "sparse", blob=archive(Member(name="s", data=b"x" * 20, pax=sparse)))


@pytest.mark.parametrize("lead", [b"5\n", b"999999999\n", b"x\n", b"\n", b"1\n0\n99\n", b"1" * 511 + b"\n"])
def test_sparse_maps_in_the_body_that_lie_are_refused(store: Store, lead: bytes) -> None:
    sparse = (("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "50"))
    body = lead.ljust(512, b"\0") + b"x" * 20
    refused(store, InvalidArgument, "sparse", blob=archive(Member(name="s", data=body, pax=sparse)))


def test_too_many_entries_are_refused(store: Store) -> None:
    blob = archive(*(file(f"f{number}") for number in range(2001)))
    refused(store, ResourceExhausted, "2000 entries", blob=blob)


def test_pax_headers_of_gigabytes_are_refused(store: Store) -> None:
    refused(store, InvalidArgument, "extended header", blob=one(file("f"), (156, b"x"), (124, b"17777777777\0")))
    refused(store, InvalidArgument, "extended header", blob=one(file("f"), (156, b"L"), (124, b"17777777777\0")))


@pytest.mark.parametrize(
    "records", [b"30 path=x\n", b"9 path=x", b"0 path=x\n", b"x path=y\n", b"10 pathxyz\n", b"\xff\xff"]
)
def test_malformed_pax_records_are_refused(store: Store, records: bytes) -> None:
    header = patched(archive(file("h", records), form=tarfile.USTAR_FORMAT)[:512], (156, b"x"))
    blob = header + records.ljust(512, b"\0") + archive(file("f"))
    refused(store, InvalidArgument, "pax", blob=blob)


def test_a_zero_byte_in_a_path_is_refused(store: Store) -> None:
    record = b"18 path=etc\0passwd"
    record = struct.pack("18s", record) + b"\n"
    record = record.replace(b"18 ", b"19 ")
    header = patched(archive(file("h", record), form=tarfile.USTAR_FORMAT)[:512], (156, b"x"))
    refused(store, InvalidArgument, "zero byte", blob=header + record.ljust(512, b"\0") + archive(file("f")))


def test_names_and_paths_that_are_too_long_are_refused(store: Store) -> None:
    refused(store, InvalidArgument, "255", blob=archive(directory("n" * 256)))
    refused(store, InvalidArgument, "4095", blob=archive(file("d/" * 3000 + "f")))


def test_directories_deeper_than_paths_can_say_are_refused(store: Store) -> None:
    members = [file("d/" * 900 + "f"), symlink("s", "d/" * 900), file("s/" + "d/" * 900 + "f")]
    refused(store, InvalidArgument, "1000", blob=archive(*members))


def test_deep_directories_are_made_and_removed(store: Store) -> None:
    name = store.unpack_now(archive(file("d/" * 990 + "f", b"deep")))
    assert store.snapshots.usage(name).inodes >= 991
    store.snapshots.remove(name)


def test_a_lying_deviceless_member_with_a_body_does_not_shift_the_archive(store: Store, tmp_path: Path) -> None:
    link = one(symlink("l", "target"), (124, b"00000001000\0"))[:512]
    store.unpack_now(link + archive(file("next", b"next")))
    assert [each.read_bytes() for each in found(store, tmp_path, "next")] == [b"next"]


def test_setuid_and_ownership_survive_but_reach_nobody_outside(store: Store, tmp_path: Path) -> None:
    store.unpack_now(archive(replace(file("su", b"x", mode=0o6755), uid=1, gid=2)))
    (made,) = found(store, tmp_path, "su")
    assert stat.S_IMODE(made.stat().st_mode) == 0o6755
    assert stat.S_IMODE((tmp_path / "snapshots").stat().st_mode) == 0o700


def test_an_image_with_a_poisoned_standard_library_runs_nothing_of_it(store: Store, tmp_path: Path) -> None:
    poison = b"import os; os.system('touch /corten-poisoned')\n"
    names = ["json.py", "encodings/idna.py", "traceback.py", "usr/lib/python3.11/os.py", "sitecustomize.py"]
    with pytest.raises(InvalidArgument):
        store.unpack_now(archive(*(file(each, poison) for each in names), file("../\udc80\udcff")))
    assert not Path("/corten-poisoned").exists()
    assert not found(store, tmp_path, "corten-poisoned")
