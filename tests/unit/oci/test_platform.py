"""Platforms: which entry of an index a machine takes."""

from __future__ import annotations

import os

import pytest
from corten_api.errors import InvalidArgument
from cortend.oci.platform import Platform, best, rank


def test_the_host_has_a_platform() -> None:
    assert Platform.host().os == "linux"
    if os.uname().machine == "x86_64":
        assert str(Platform.host()) == "linux/amd64"


def test_aliases_and_implied_variants_are_normalised() -> None:
    assert str(Platform.parse("linux/x86_64")) == "linux/amd64"
    assert str(Platform.parse("aarch64")) == "linux/arm64/v8"
    assert Platform.parse("linux/arm64") == Platform.parse("linux/arm64/v8")
    assert str(Platform.parse("linux/arm")) == "linux/arm/v7"


def test_an_arm_machine_takes_the_newest_variant_that_it_runs() -> None:
    offered = [Platform("linux", "arm", each) for each in ("v5", "v6", "v7", "v8")]
    assert best(Platform.parse("linux/arm/v7"), offered) == 2
    assert best(Platform.parse("linux/arm/v6"), offered) == 1
    assert rank(Platform.parse("linux/arm/v6"), offered[2]) is None


def test_the_first_of_equals_is_taken() -> None:
    amd64 = Platform("linux", "amd64")
    assert best(amd64, [None, Platform("windows", "amd64"), amd64, amd64]) == 2
    assert best(amd64, [Platform("linux", "arm64")]) is None


@pytest.mark.parametrize("text", ["", "linux/", "a/b/c/d", "linux/\u00e4"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="platform"):
        Platform.parse(text)
