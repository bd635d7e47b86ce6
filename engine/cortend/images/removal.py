"""What removing an image means: which names go, whether the image goes, and what forbids it.

Owns the rules as a plan made from values; performing it is one transaction in `service`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corten_api.errors import FailedPrecondition

from cortend.domain.images import Image, ImageName, ImageUser


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """`untagged` are names to drop; `deletes` the image too, at once, or `later` when its last container is gone."""

    untagged: tuple[str, ...]
    deletes: bool = False
    later: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What a removal did."""

    untagged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


def plan_by_name(image: Image, name: str, namespace: str, users: Sequence[ImageUser], *, force: bool) -> Removal:
    """Drop `name`, and the image with its last one. Raises FailedPrecondition for names of others and images in use."""
    if not any(each.name == name and each.namespace == namespace for each in image.names):
        owners = ", ".join(sorted({each.namespace for each in image.names if each.name == name}))
        raise FailedPrecondition("image", name, f"the name belongs to namespace {owners} and is pinned here")
    dropped = [name]
    rest = [each for each in image.names if not (each.name == name and each.namespace == namespace)]
    alone = _companions(name, namespace, image, rest)
    rest = [each for each in rest if each not in alone]
    dropped += [each.name for each in alone]
    if rest:
        return Removal(untagged=tuple(dropped))
    _refuse_used(image, name, users, force=force)
    return Removal(untagged=tuple(dropped), deletes=True, later=bool(users))


def plan_by_id(image: Image, text: str, namespace: str, users: Sequence[ImageUser], *, force: bool) -> Removal:
    """Drop the image with its names. Raises FailedPrecondition: several tags and no `force`, names of others, use."""
    if image.pinned(namespace):
        owners = ", ".join(sorted({each.namespace for each in image.names}))
        raise FailedPrecondition("image", text, f"every name of it belongs to namespace {owners}: it is pinned here")
    own = [each for each in image.names if each.namespace == namespace]
    tags = [each for each in own if not each.by_digest]
    if len(tags) > 1 and not force:
        some = ", ".join(each.name for each in tags)
        raise FailedPrecondition("image", text, f"it has several names ({some}); remove them one by one, or force it")
    dropped = tuple(each.name for each in own)
    if len(own) < len(image.names):
        return Removal(untagged=dropped)
    _refuse_used(image, text, users, force=force)
    return Removal(untagged=dropped, deletes=True, later=bool(users))


def _companions(name: str, namespace: str, image: Image, rest: Sequence[ImageName]) -> list[ImageName]:
    """Names by digest that go with the last tag of their repository: they were made by the same pull."""
    repository = next(each.repository for each in image.names if each.name == name)
    same = [each for each in rest if each.repository == repository and each.namespace == namespace]
    if "@" in name or any(not each.by_digest for each in same):
        return []
    return same


def _refuse_used(image: Image, text: str, users: Sequence[ImageUser], *, force: bool) -> None:
    running = next((each for each in users if each.running), None)
    if not users or (force and running is None):
        return
    user = running or users[0]
    state = "running" if user.running else "stopped"
    hint = "stop and delete it first" if user.running else "delete it first, or force it"
    detail = f"{state} container {user.name} ({user.id[:12]}) uses {image.id.short}; {hint}"
    raise FailedPrecondition("image", text, detail)
