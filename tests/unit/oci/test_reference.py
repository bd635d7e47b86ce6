"""Image references: docker's normalisation and the distribution grammar."""

from __future__ import annotations

import pytest
from corten_api.errors import InvalidArgument
from cortend.oci.digest import Digest
from cortend.oci.reference import Reference
from hypothesis import given
from hypothesis import strategies as st

D = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b:tag", "localhost:5000/a/b:tag"),
        ("registry.example/a__b/c-d.e:T_1", "registry.example/a__b/c-d.e:T_1"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("192.168.0.1:80/x", "192.168.0.1:80/x:latest"),
        (f"x@{D}", f"docker.io/library/x@{D}"),
        (f"quay.io/x/y:1@{D}", f"quay.io/x/y:1@{D}"),
    ],
)
def test_a_reference_is_normalised_as_docker_does(text: str, full: str) -> None:
    assert str(Reference.parse(text)) == full
    assert Reference.parse(full) == Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("Busybox", '"Busybox" must be lower case'),
        ("quay.io/Team/app", '"Team/app" must be lower case'),
        ("a b", '"a b"'),
        ("busybox:", 'tag ""'),
        ("busybox:.x", 'tag ".x"'),
        ("busybox:" + "t" * 129, "128"),
        ("a//b", 'part ""'),
        ("/a", 'part ""'),
        ("a/", 'part ""'),
        ("a/-b", '"-b"'),
        ("a___b", '"a___b"'),
        ("../../etc", "not a host name"),
        ("http://quay.io/x", "not a host name"),
        ("host:99999/x", "not a host name"),
        ("x@sha256:abc", "64"),
        ("x@" + D + "@" + D, "digest"),
        ("b\u00fcsybox", '"b\u00fcsybox"'),
        ("busybox\n", "part"),
        ("a" * 250, "255"),
        ("a" * 64, "image id"),
        ("a/" * 400 + "b", "longer"),
    ],
)
def test_an_illegal_reference_is_refused_and_named(text: str, part: str) -> None:
    with pytest.raises(InvalidArgument, match="image reference") as caught:
        Reference.parse(text)
    assert part in caught.value.detail
    assert caught.value.name == text or caught.value.name.endswith("...")


def test_the_familiar_form_is_what_docker_shows() -> None:
    assert Reference.parse("docker.io/library/busybox").familiar == "busybox:latest"
    assert Reference.parse("docker.io/team/app:1").familiar == "team/app:1"
    assert Reference.parse("quay.io/library/x").familiar == "quay.io/library/x:latest"


def test_a_registry_is_asked_for_the_digest_where_there_is_one() -> None:
    assert Reference.parse(f"busybox:1@{D}").selector == D
    assert Reference.parse("busybox").with_digest(Digest.parse(D)).without_tag().tag is None


@given(st.text(max_size=60))
def test_any_text_is_normalised_once_and_for_all_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidArgument:
        return
    assert Reference.parse(str(reference)) == reference
