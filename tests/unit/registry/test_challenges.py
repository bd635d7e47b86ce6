"""WWW-Authenticate as registries write it, and as nobody should."""

from __future__ import annotations

import pytest
from cortend.registry.challenges import parse
from hypothesis import given
from hypothesis import strategies as st


def test_a_bearer_challenge_tells_realm_service_and_scope() -> None:
    (found,) = parse(
        ['Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"']
    )
    assert found.scheme == "bearer"
    assert found.parameters == {
        "realm": "https://auth.example/token",
        "service": "registry.example",
        "scope": "repository:a/b:pull,push",
    }


def test_challenges_of_one_header_and_of_several_are_all_found() -> None:
    found = parse(['Negotiate, Basic realm="a", Bearer realm="b"', "Digest realm=c"])
    assert [each.scheme for each in found] == ["negotiate", "basic", "bearer", "digest"]
    assert [each.parameters.get("realm") for each in found] == [None, "a", "b", "c"]


@pytest.mark.parametrize(
    ("header", "realm"),
    [
        ('BASIC Realm="with \\"quotes\\" in it"', 'with "quotes" in it'),
        ("basic realm = spaced", "spaced"),
        ('Basic realm="comma, inside", charset="UTF-8"', "comma, inside"),
        ('Basic realm="first", realm="second"', "first"),
    ],
)
def test_spelling_does_not_matter(header: str, realm: str) -> None:
    assert parse([header])[0].parameters["realm"] == realm


def test_a_token68_is_passed_over() -> None:
    assert [each.scheme for each in parse(["Negotiate YWJj==, Basic realm=x"])] == ["negotiate", "basic"]


@given(st.text(max_size=200))
def test_any_text_is_read_without_failing(text: str) -> None:
    parse([text])
