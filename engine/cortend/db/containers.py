"""Container records as rows, and how a user's word becomes one of them.

Owns the table `containers`. The intent is JSON in `record`, what the last task did is JSON in `state`; `status` repeats
the state's, for lookups. The image's configuration is kept beside, so that the image may go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
from corten_api.errors import AlreadyExists, InvalidArgument, NotFound

from cortend.db.database import Transaction
from cortend.domain import ids
from cortend.domain.containers import Container, ContainerConfig, State, Status
from cortend.oci.image_config import ImageConfig

_COLUMNS = "id, namespace, name, request_id, image_id, created_at_ns, record, state"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What the JSON in `record` holds."""

    config: ContainerConfig
    image_name: str
    argv: tuple[str, ...]


_records = msgspec.json.Decoder(_Record)
_states = msgspec.json.Decoder(State)
_images = msgspec.json.Decoder(ImageConfig)
_encoder = msgspec.json.Encoder()


def insert(tx: Transaction, container: Container, image: ImageConfig) -> None:
    """Raises AlreadyExists when the name is in use in the container's namespace."""
    holder = by_name(tx, container.namespace, container.name)
    if holder is not None:
        raise AlreadyExists("name", container.name, f"container {holder.id[:12]} has it; remove or rename that one")
    record = _Record(config=container.config, image_name=container.image_name, argv=container.argv)
    kept = replace(image, history=(), diff_ids=())
    tx.execute(
        f"INSERT INTO containers ({_COLUMNS}, status, image) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            container.id,
            container.namespace,
            container.name,
            container.request_id,
            container.image_id,
            container.created_at_ns,
            _encoder.encode(record).decode(),
            _encoder.encode(container.state).decode(),
            container.status.value,
            _encoder.encode(kept).decode(),
        ),
    )


def get(tx: Transaction, container_id: str) -> Container:
    """By the whole id, in any namespace. Raises NotFound."""
    found = _one(tx, "id = ?", container_id)
    if found is None:
        raise NotFound("container", container_id, "there is no such container")
    return found


def name_of(tx: Transaction, container_id: str) -> str | None:
    """Its name now; None when the container is gone."""
    row = tx.execute("SELECT name FROM containers WHERE id = ?", (container_id,)).fetchone()
    return None if row is None else str(row["name"])


def image_of(tx: Transaction, container_id: str) -> ImageConfig:
    """What the container's image said at create, layers and history left out. Raises NotFound."""
    row = tx.execute("SELECT image FROM containers WHERE id = ?", (container_id,)).fetchone()
    if row is None:
        raise NotFound("container", container_id, "there is no such container")
    return _images.decode(row["image"])


def find(tx: Transaction, namespace: str, text: str) -> Container:
    """By id, name, or unique prefix of an id, in this order, as docker does.

    Raises NotFound, or InvalidArgument for a prefix of several.
    """
    name = text.removeprefix("/")
    if not name:
        raise InvalidArgument("container", text, "an id, a name or the beginning of an id is needed")
    if ids.is_id(name):
        found = _one(tx, "namespace = ? AND id = ?", namespace, name)
        if found is not None:
            return found
    found = by_name(tx, namespace, name)
    if found is None and ids.is_prefix(name):
        found = _by_prefix(tx, namespace, name)
    if found is None:
        raise NotFound("container", text, f'there is no such container in namespace "{namespace}"')
    return found


def by_name(tx: Transaction, namespace: str, name: str) -> Container | None:
    return _one(tx, "namespace = ? AND name = ?", namespace, name)


def by_request(tx: Transaction, namespace: str, request_id: str) -> Container | None:
    return _one(tx, "namespace = ? AND request_id = ?", namespace, request_id) if request_id else None


def page(tx: Transaction, namespace: str | None, *, after: tuple[int, str] | None, limit: int) -> list[Container]:
    """At most `limit` containers, the newest first, that come after the (created_at_ns, id) `after`."""
    where, values = ["1"], list[object]()
    if namespace is not None:
        where.append("namespace = ?")
        values.append(namespace)
    if after is not None:
        where.append("(created_at_ns, id) < (?, ?)")
        values += after
    query = (
        f"SELECT {_COLUMNS} FROM containers WHERE {' AND '.join(where)} ORDER BY created_at_ns DESC, id DESC LIMIT ?"
    )
    return [_container(row) for row in tx.execute(query, (*values, limit))]


def everything(tx: Transaction) -> list[Container]:
    """All of every namespace, the oldest first: what a starting engine reconciles."""
    return [_container(row) for row in tx.execute(f"SELECT {_COLUMNS} FROM containers ORDER BY created_at_ns, id")]


def put_state(tx: Transaction, container_id: str, state: State) -> bool:
    """Replace the state; False when the container is gone."""
    text = _encoder.encode(state).decode()
    query = "UPDATE containers SET state = ?, status = ? WHERE id = ?"
    return tx.execute(query, (text, state.status.value, container_id)).rowcount == 1


def rename(tx: Transaction, container: Container, new_name: str) -> None:
    """Raises AlreadyExists when another has the name, NotFound when the container is gone."""
    holder = by_name(tx, container.namespace, new_name)
    if holder is not None and holder.id != container.id:
        raise AlreadyExists("name", new_name, f"container {holder.id[:12]} has it; remove or rename that one")
    if tx.execute("UPDATE containers SET name = ? WHERE id = ?", (new_name, container.id)).rowcount != 1:
        raise NotFound("container", container.id, "there is no such container")


def delete(tx: Transaction, container_id: str) -> bool:
    """Forget it; False when it was gone."""
    return tx.execute("DELETE FROM containers WHERE id = ?", (container_id,)).rowcount == 1


def using_image(tx: Transaction, image_id: str) -> list[Container]:
    """The containers of every namespace that were made from the image."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM containers WHERE image_id = ? ORDER BY created_at_ns, id", (image_id,))
    return [_container(row) for row in rows]


def counts(tx: Transaction) -> dict[Status, int]:
    """How many of every namespace are in which state."""
    rows = tx.execute("SELECT status, COUNT(*) AS count FROM containers GROUP BY status")
    return {Status(row["status"]): int(row["count"]) for row in rows}


def _by_prefix(tx: Transaction, namespace: str, prefix: str) -> Container | None:
    query = f"SELECT {_COLUMNS} FROM containers WHERE namespace = ? AND id >= ? AND id < ?"
    rows = tx.execute(query, (namespace, prefix, prefix + "g")).fetchall()
    if len(rows) > 1:
        raise InvalidArgument("container", prefix, f"{len(rows)} containers have an id that begins so; give more of it")
    return _container(rows[0]) if rows else None


def _one(tx: Transaction, where: str, *values: object) -> Container | None:
    row = tx.execute(f"SELECT {_COLUMNS} FROM containers WHERE {where}", values).fetchone()
    return None if row is None else _container(row)


def _container(row: object) -> Container:
    values: dict[str, object] = dict(row)  # type: ignore[call-overload]
    record = _records.decode(str(values["record"]))
    return Container(
        id=str(values["id"]),
        name=str(values["name"]),
        namespace=str(values["namespace"]),
        config=record.config,
        image_id=str(values["image_id"]),
        image_name=record.image_name,
        argv=record.argv,
        created_at_ns=int(str(values["created_at_ns"])),
        request_id=str(values["request_id"]),
        state=_states.decode(str(values["state"])),
    )
