"""What goes when a name or an id is removed."""

from __future__ import annotations

import pytest
from corten_api.errors import FailedPrecondition
from cortend.domain.images import Image, ImageName, ImageUser
from cortend.images.removal import Removal, plan_by_id, plan_by_name
from cortend.oci.digest import Digest
from cortend.oci.manifest import OCI_CONFIG, OCI_MANIFEST, Descriptor
from cortend.oci.platform import Platform

TARGET = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"manifest"), size=8)
RUNNING = ImageUser(id="a" * 64, name="web", running=True)
STOPPED = ImageUser(id="b" * 64, name="job", running=False)


def image(*names: str) -> Image:
    """`names` as "namespace name"."""
    found = tuple(
        ImageName(namespace=namespace, name=name, target=TARGET) for namespace, name in (each.split() for each in names)
    )
    return Image(
        id=Digest.of(b"config"),
        manifest=TARGET,
        config=Descriptor(media_type=OCI_CONFIG, digest=Digest.of(b"config"), size=6),
        layers=(),
        diff_ids=(),
        chain_id="",
        platform=Platform("linux", "amd64"),
        created_at_ns=0,
        pulled_at_ns=1,
        size=0,
        content_size=14,
        names=found,
    )


def test_one_of_several_names_is_only_untagged_even_while_in_use() -> None:
    plan = plan_by_name(image("a r/x:1", "a r/x:2"), "r/x:1", "a", [RUNNING], force=False)
    assert plan == Removal(untagged=("r/x:1",))


def test_the_last_tag_takes_its_digest_names_and_the_image_along() -> None:
    plan = plan_by_name(image("a r/x:1", "a r/x@sha256:00"), "r/x:1", "a", [], force=False)
    assert plan == Removal(untagged=("r/x:1", "r/x@sha256:00"), deletes=True)


def test_a_digest_name_of_another_repository_keeps_the_image() -> None:
    plan = plan_by_name(image("a r/x:1", "a r/y@sha256:00"), "r/x:1", "a", [], force=False)
    assert plan == Removal(untagged=("r/x:1",))


def test_a_name_of_another_namespace_is_pinned() -> None:
    with pytest.raises(FailedPrecondition, match="namespace b"):
        plan_by_name(image("b r/x:1"), "r/x:1", "a", [], force=True)
    with pytest.raises(FailedPrecondition, match="namespace b"):
        plan_by_id(image("b r/x:1"), "abc", "a", [], force=True)


def test_an_id_drops_only_the_callers_names_where_others_have_some() -> None:
    plan = plan_by_id(image("a r/x:1", "b r/x:1"), "abc", "a", [RUNNING], force=False)
    assert plan == Removal(untagged=("r/x:1",))


def test_an_image_without_names_goes_by_its_id() -> None:
    assert plan_by_id(image(), "abc", "a", [], force=False) == Removal(untagged=(), deletes=True)


def test_a_running_container_is_never_overridden_a_stopped_one_by_force() -> None:
    for force in (False, True):
        with pytest.raises(FailedPrecondition, match="running container web"):
            plan_by_id(image("a r/x:1"), "abc", "a", [STOPPED, RUNNING], force=force)
    with pytest.raises(FailedPrecondition, match="stopped container job"):
        plan_by_id(image("a r/x:1"), "abc", "a", [STOPPED], force=False)
    plan = plan_by_name(image("a r/x:1"), "r/x:1", "a", [STOPPED], force=True)
    assert plan == Removal(untagged=("r/x:1",), deletes=True, later=True)
