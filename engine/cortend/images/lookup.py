"""Finding an image by what a user wrote: a name, a name with a digest, an id, or the beginning of one.

Owns the order in which these are tried, which is docker's: names go before prefixes of ids. Reads committed state only.
"""

from __future__ import annotations

import re

from corten_api.errors import InvalidArgument, NotFound

from cortend.db import images as rows
from cortend.db.database import Transaction
from cortend.domain.images import Image
from cortend.oci.digest import Digest
from cortend.oci.reference import Reference

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


def find(tx: Transaction, text: str, namespace: str) -> Image:
    """The image. Raises NotFound naming the reference as normalised, InvalidArgument for what can be neither."""
    exact = _ID.fullmatch(text)
    if exact is not None:
        image = rows.get(tx, Digest("sha256", exact[1]))
        if image is not None:
            return image
        raise NotFound("image", text, "is not here")
    try:
        reference = Reference.parse(text)
    except InvalidArgument:
        found = by_prefix(tx, text)
        if found is None:
            raise
        return found
    found = by_name(tx, reference, namespace) or by_prefix(tx, text)
    if found is None:
        raise NotFound("image", str(reference), "is not here; pull it or load it")
    return found


def by_name(tx: Transaction, reference: Reference, namespace: str) -> Image | None:
    """The image of a normalised name."""
    return rows.by_name(tx, stored_name(reference), namespace)


def by_prefix(tx: Transaction, text: str) -> Image | None:
    """The image whose id begins like that; InvalidArgument where several do."""
    match = _PREFIX.fullmatch(text)
    if match is None:
        return None
    found = rows.by_prefix(tx, match[1])
    if len(found) > 1:
        some = ", ".join(each.id.short for each in found)
        raise InvalidArgument("image id", text, f"several images begin like that: {some}; write more of it")
    return found[0] if found else None


def is_id(text: str, image: Image) -> bool:
    """Whether `text`, which found `image`, is its id or the beginning of it rather than a name of it."""
    match = _PREFIX.fullmatch(text)
    if match is None or not image.id.hex.startswith(match[1]):
        return False
    try:
        name = stored_name(Reference.parse(text))
    except InvalidArgument:
        return True
    return all(each.name != name for each in image.names)


def stored_name(reference: Reference) -> str:
    """What a reference is called in the table of names: by digest where it has one, else by its tag."""
    return str(reference.without_tag()) if reference.digest is not None else reference.tagged
