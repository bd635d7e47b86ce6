"""Digests: what is one, and what is refused."""

from __future__ import annotations

import hashlib

import pytest
from corten_api.errors import InvalidArgument, Unimplemented
from cortend.oci.digest import Digest


def test_a_digest_is_read_and_written_alike() -> None:
    text = "sha256:" + "ab" * 32
    assert str(Digest.parse(text)) == text
    assert Digest.parse(text).short == "ab" * 6


def test_the_digest_of_bytes_is_their_sha256() -> None:
    assert Digest.of(b"corten") == Digest("sha256", hashlib.sha256(b"corten").hexdigest())


def test_sha512_is_understood_but_not_stored() -> None:
    text = "sha512:" + "0" * 128
    assert Digest.parse(text).algorithm == "sha512"
    with pytest.raises(Unimplemented, match="sha256 only"):
        Digest.stored(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "md5:" + "a" * 32,
        "sha256:" + "a" * 64 + "/../x",
        "sha256:../../etc/passwd",
        ":" + "a" * 64,
        "sha256:" + "a" * 64 + "\n",
    ],
)
def test_anything_else_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Digest.parse(text)
    assert caught.value.name == text
