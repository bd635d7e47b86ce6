"""The content store: verified, durable, resumable, one writer per blob."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from corten_api.errors import AlreadyExists, Conflict, DataLoss, NotFound, ResourceExhausted, Unimplemented
from cortend.content.store import ContentStore
from cortend.oci.digest import Digest
from cortend.oci.manifest import Descriptor

DATA = b"corten steel" * 1000
EXPECTED = Descriptor(media_type="", digest=Digest.of(DATA), size=len(DATA))


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path)


def leftovers(store: ContentStore) -> list[str]:
    return [each.name for each in (store.root / "ingest").iterdir()]


def test_a_blob_appears_when_it_was_committed_and_not_before(store: ContentStore) -> None:
    with store.writer(EXPECTED) as ingest:
        ingest.write(DATA)
        assert not store.exists(EXPECTED.digest)
        assert ingest.commit() == EXPECTED.digest
    assert store.read_bytes(EXPECTED.digest, len(DATA)) == DATA
    assert store.info(EXPECTED.digest).size == len(DATA)
    assert leftovers(store) == []


def test_the_store_is_an_oci_layout(store: ContentStore) -> None:
    store.add(DATA)
    assert (store.root / "oci-layout").read_bytes() == b'{"imageLayoutVersion":"1.0.0"}'
    assert (store.root / "blobs/sha256" / EXPECTED.digest.hex).read_bytes() == DATA


def test_a_partial_blob_survives_a_restart_and_is_continued(store: ContentStore) -> None:
    with store.writer(EXPECTED) as ingest:
        ingest.write(DATA[:5000])
    again = ContentStore(store.root)
    assert again.partial() == {EXPECTED.digest: 5000}
    with again.writer(EXPECTED) as ingest:
        assert ingest.offset == 5000
        ingest.write(DATA[5000:])
        ingest.commit()
    assert again.exists(EXPECTED.digest)


def test_a_damaged_partial_blob_is_found_out_and_forgotten(store: ContentStore) -> None:
    with store.writer(EXPECTED) as ingest:
        ingest.write(b"x" * 5000)
    with store.writer(EXPECTED) as ingest:
        ingest.write(DATA[5000:])
        with pytest.raises(DataLoss, match=EXPECTED.digest.hex):
            ingest.commit()
    assert leftovers(store) == []


def test_a_source_that_cannot_continue_begins_again(store: ContentStore) -> None:
    with store.writer(EXPECTED) as ingest:
        ingest.write(b"x" * 100)
        ingest.restart()
        ingest.write(DATA)
        ingest.commit()
    assert store.read_bytes(EXPECTED.digest, 1 << 20) == DATA


def test_a_blob_that_outgrows_its_size_is_refused_at_once(store: ContentStore) -> None:
    with store.writer(EXPECTED) as ingest, pytest.raises(DataLoss, match="longer than"):
        ingest.write(DATA + b"!")
    assert leftovers(store) == []


def test_a_blob_that_is_too_short_is_refused_but_may_be_continued(store: ContentStore) -> None:
    with store.writer(EXPECTED) as ingest:
        ingest.write(DATA[:-1])
        with pytest.raises(DataLoss, match="announced"):
            ingest.commit()
    with store.writer(EXPECTED) as ingest:
        ingest.write(DATA[-1:])
        ingest.commit()


def test_a_blob_with_another_digest_is_refused(store: ContentStore) -> None:
    lie = Descriptor(media_type="", digest=Digest.of(b"else"), size=len(DATA))
    with store.writer(lie) as ingest:
        ingest.write(DATA)
        with pytest.raises(DataLoss, match=str(EXPECTED.digest)):
            ingest.commit()
    assert leftovers(store) == []
    with pytest.raises(DataLoss):
        store.add(DATA, lie)


def test_a_second_writer_of_one_blob_is_told_so(store: ContentStore) -> None:
    with store.writer(EXPECTED), pytest.raises(Conflict, match="being written"):
        store.writer(EXPECTED)
    store.add(DATA)
    with pytest.raises(AlreadyExists):
        store.writer(EXPECTED)
    assert leftovers(store) == []


def test_several_may_store_the_same_bytes_at_one_time(store: ContentStore) -> None:
    for number in range(30):
        data = b"%d" % number * 5000
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(store.add, [data] * 4)) == {Digest.of(data)}


def test_a_blob_whose_digest_is_not_known_gets_the_one_it_has(store: ContentStore) -> None:
    with store.writer() as ingest:
        ingest.write(DATA)
        assert ingest.commit() == EXPECTED.digest


def test_what_anonymous_writers_leave_is_gone_after_a_restart(store: ContentStore) -> None:
    ingest = store.writer()
    ingest.write(DATA)
    ingest.close()
    assert leftovers(store) != []
    ContentStore(store.root)
    assert leftovers(store) == []


def test_a_blob_is_deleted_once_and_stays_readable_where_it_is_open(store: ContentStore) -> None:
    store.add(DATA)
    with store.open(EXPECTED.digest) as blob:
        assert store.delete(EXPECTED.digest)
        assert not store.delete(EXPECTED.digest)
        assert blob.read(6) == b"corten"
    with pytest.raises(NotFound, match=EXPECTED.digest.hex):
        store.info(EXPECTED.digest)


def test_reading_keeps_to_the_limit_and_notices_damage(store: ContentStore) -> None:
    store.add(DATA)
    with pytest.raises(ResourceExhausted, match="larger than 10 bytes"):
        store.read_bytes(EXPECTED.digest, 10)
    path = store.path(EXPECTED.digest)
    path.chmod(0o600)
    path.write_bytes(b"damaged")
    with pytest.raises(DataLoss, match="damaged"):
        store.read_bytes(EXPECTED.digest, 1 << 20)


def test_blobs_are_listed_in_order_and_other_files_are_not(store: ContentStore) -> None:
    digests = sorted(store.add(bytes([each])) for each in range(5))
    (store.root / "blobs/sha256/README").write_text("")
    assert [each.digest for each in store.list()] == digests


def test_other_algorithms_are_not_stored(store: ContentStore) -> None:
    with pytest.raises(Unimplemented):
        store.exists(Digest("sha512", "0" * 128))
