"""Image records and their names.

Owns the rows of `images` and `image_names`. What a removal means is `images`' business; this module reads and writes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from cortend.db.database import Transaction
from cortend.domain.images import Image, ImageName
from cortend.oci.digest import Digest
from cortend.oci.manifest import Descriptor
from cortend.oci.platform import Platform

_PREFIX_LIMIT = 5


def put(tx: Transaction, image: Image) -> None:
    """Add an image, or renew the record of one that is here. Its names are put one by one (`put_name`)."""
    tx.execute(
        "INSERT OR REPLACE INTO images (id, manifest, config, layers, diff_ids, chain_id, os, architecture, variant,"
        " created_at_ns, pulled_at_ns, size, content_size, labels, removed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (
            str(image.id),
            json.dumps(_wire(image.manifest)),
            json.dumps(_wire(image.config)),
            json.dumps([_wire(each) for each in image.layers]),
            json.dumps([str(each) for each in image.diff_ids]),
            image.chain_id,
            image.platform.os,
            image.platform.architecture,
            image.platform.variant,
            image.created_at_ns,
            image.pulled_at_ns,
            image.size,
            image.content_size,
            json.dumps(dict(image.labels)),
        ),
    )


def put_name(tx: Transaction, image_id: Digest, name: ImageName) -> None:
    """Point a name of a namespace at an image, whatever it pointed at before."""
    tx.execute(
        "INSERT OR REPLACE INTO image_names (namespace, name, image_id, target) VALUES (?, ?, ?, ?)",
        (name.namespace, name.name, str(image_id), json.dumps(_wire(name.target))),
    )


def get(tx: Transaction, image_id: Digest) -> Image | None:
    """The image of exactly that id, one marked as removed included."""
    found = tx.execute("SELECT * FROM images WHERE id = ?", (str(image_id),)).fetchone()
    return _images(tx, [found])[0] if found is not None else None


def by_prefix(tx: Transaction, prefix: str) -> list[Image]:
    """Up to five images whose id begins with these hexadecimal digits."""
    rows = tx.execute(
        "SELECT * FROM images WHERE id >= ? AND id < ? AND removed = 0 ORDER BY id LIMIT ?",
        (f"sha256:{prefix}", f"sha256:{prefix}g", _PREFIX_LIMIT),
    ).fetchall()
    return _images(tx, rows)


def by_name(tx: Transaction, name: str, namespace: str) -> Image | None:
    """The image of that name; the namespace's own name goes before those of others."""
    found = tx.execute(
        "SELECT i.* FROM image_names n JOIN images i ON i.id = n.image_id WHERE n.name = ?"
        " ORDER BY n.namespace != ?, n.namespace LIMIT 1",
        (name, namespace),
    ).fetchone()
    return _images(tx, [found])[0] if found is not None else None


def page(tx: Transaction, *, after: str, limit: int) -> list[Image]:
    """Images by id, those beyond `after`; without those marked as removed."""
    rows = tx.execute(
        "SELECT * FROM images WHERE id > ? AND removed = 0 ORDER BY id LIMIT ?", (after, limit)
    ).fetchall()
    return _images(tx, rows)


def count(tx: Transaction) -> int:
    """How many images there are."""
    return int(tx.execute("SELECT count(*) FROM images WHERE removed = 0").fetchone()[0])


def delete_names(tx: Transaction, namespace: str, names: Iterable[str]) -> None:
    """Drop names of one namespace; dropping what is not there is fine."""
    tx.executemany("DELETE FROM image_names WHERE namespace = ? AND name = ?", [(namespace, name) for name in names])


def delete(tx: Transaction, image_id: Digest) -> None:
    """Forget an image and every name of it."""
    tx.execute("DELETE FROM image_names WHERE image_id = ?", (str(image_id),))
    tx.execute("DELETE FROM images WHERE id = ?", (str(image_id),))


def mark_removed(tx: Transaction, image_id: Digest) -> None:
    """Drop every name and hide the image until nothing uses it."""
    tx.execute("DELETE FROM image_names WHERE image_id = ?", (str(image_id),))
    tx.execute("UPDATE images SET removed = 1 WHERE id = ?", (str(image_id),))


def removed(tx: Transaction) -> list[Digest]:
    """The images that are only waiting for their last container."""
    return [Digest.parse(row[0]) for row in tx.execute("SELECT id FROM images WHERE removed = 1")]


def referenced(tx: Transaction) -> tuple[set[str], set[str]]:
    """Digests of all blobs and names of all snapshots that images need."""
    blobs: set[str] = set()
    snapshots: set[str] = set()
    for row in tx.execute("SELECT id, manifest, layers, chain_id FROM images"):
        blobs.add(row["id"])
        blobs.add(json.loads(row["manifest"])["digest"])
        blobs.update(each["digest"] for each in json.loads(row["layers"]))
        snapshots.add(row["chain_id"])
    blobs.update(json.loads(row[0])["digest"] for row in tx.execute("SELECT target FROM image_names"))
    return blobs, snapshots


def _images(tx: Transaction, rows: list[sqlite3.Row]) -> list[Image]:
    """Values of rows, their names read in one statement."""
    names: dict[str, list[ImageName]] = {row["id"]: [] for row in rows}
    for start in range(0, len(rows), 500):
        ids = [row["id"] for row in rows[start : start + 500]]
        marks = ",".join("?" * len(ids))
        found = tx.execute(
            f"SELECT * FROM image_names WHERE image_id IN ({marks}) ORDER BY name, namespace",
            ids,
        )
        for row in found:
            name = ImageName(
                namespace=row["namespace"], name=row["name"], target=_descriptor(json.loads(row["target"]))
            )
            names[row["image_id"]].append(name)
    return [_image(row, tuple(names[row["id"]])) for row in rows]


def _image(row: sqlite3.Row, names: tuple[ImageName, ...]) -> Image:
    return Image(
        id=Digest.parse(row["id"]),
        manifest=_descriptor(json.loads(row["manifest"])),
        config=_descriptor(json.loads(row["config"])),
        layers=tuple(_descriptor(each) for each in json.loads(row["layers"])),
        diff_ids=tuple(Digest.parse(each) for each in json.loads(row["diff_ids"])),
        chain_id=row["chain_id"],
        platform=Platform(row["os"], row["architecture"], row["variant"]),
        created_at_ns=row["created_at_ns"],
        pulled_at_ns=row["pulled_at_ns"],
        size=row["size"],
        content_size=row["content_size"],
        labels=json.loads(row["labels"]),
        names=names,
        removed=bool(row["removed"]),
    )


def _wire(descriptor: Descriptor) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.platform is not None:
        platform = descriptor.platform
        wire["platform"] = {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant}
    if descriptor.annotations:
        wire["annotations"] = dict(descriptor.annotations)
    return wire


def _descriptor(wire: Mapping[str, Any]) -> Descriptor:
    platform = wire.get("platform")
    return Descriptor(
        media_type=wire["mediaType"],
        digest=Digest.parse(wire["digest"]),
        size=wire["size"],
        platform=Platform(platform["os"], platform["architecture"], platform["variant"]) if platform else None,
        annotations=wire.get("annotations", {}),
    )
