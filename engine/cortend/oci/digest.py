"""Digests: what names a blob.

Owns the grammar of `algorithm:hex` and nothing else: hashing files is the content store's work. sha256 and sha512 are
understood; only sha256 is stored here, `Digest.stored` says so in one sentence.
Source: OCI image-spec descriptor.md, "Digests".
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from corten_api.errors import InvalidArgument, Unimplemented

_LENGTHS = {"sha256": 64, "sha512": 128}
_GRAMMAR = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[A-Za-z0-9=_-]+")
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """`algorithm` is "sha256" or "sha512", `hex` its lower-case hexadecimal value; str() gives "sha256:..."."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read "sha256:<64 hex>" or "sha512:<128 hex>". Raises InvalidArgument naming the text."""
        if not _GRAMMAR.fullmatch(text) or len(text) > 256:
            raise InvalidArgument("digest", text[:300], 'is not of the form "sha256:<64 hexadecimal digits>"')
        algorithm, _, encoded = text.partition(":")
        length = _LENGTHS.get(algorithm)
        if length is None:
            raise InvalidArgument("digest", text, f'algorithm "{algorithm}" is not known; sha256 and sha512 are')
        if len(encoded) != length or not _HEX.fullmatch(encoded):
            raise InvalidArgument("digest", text, f"{algorithm} takes {length} lower-case hexadecimal digits")
        return cls(algorithm, encoded)

    @classmethod
    def stored(cls, text: str) -> Digest:
        """As `parse`, for digests that must name a blob here: sha512 raises Unimplemented."""
        digest = cls.parse(text)
        if digest.algorithm != "sha256":
            raise Unimplemented("digest", text, f"content is stored by sha256 only, not {digest.algorithm}")
        return digest

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Digest:
        """The sha256 digest of `data`."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    @property
    def short(self) -> str:
        """The first twelve digits, as lists show them."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
