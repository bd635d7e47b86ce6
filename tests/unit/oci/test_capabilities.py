"""Which capabilities a container gets."""

from __future__ import annotations

import pytest
from corten_api.errors import InvalidArgument
from cortend.oci import capabilities


def effective(add: tuple[str, ...] = (), drop: tuple[str, ...] = (), **changes: object) -> set[str]:
    return set(capabilities.effective(add=add, drop=drop, **{"privileged": False, **changes}))  # type: ignore[arg-type]


def test_without_wishes_it_is_dockers_fourteen() -> None:
    assert effective() == capabilities.DEFAULT
    assert len(capabilities.DEFAULT) == 14


def test_names_are_taken_in_any_spelling() -> None:
    assert "CAP_NET_ADMIN" in effective(add=("net_admin",))
    assert "CAP_CHOWN" not in effective(drop=("CAP_CHOWN",))


def test_dropping_all_leaves_only_what_is_added() -> None:
    assert effective(add=("NET_RAW",), drop=("ALL",)) == {"CAP_NET_RAW"}


def test_adding_all_less_one_leaves_that_one_out() -> None:
    assert effective(add=("ALL",), drop=("SYS_ADMIN",)) == set(capabilities.ALL) - {"CAP_SYS_ADMIN"}


def test_privileged_gives_no_more_than_the_engine_holds() -> None:
    available = frozenset(capabilities.ALL) - {"CAP_SYS_RESOURCE"}
    assert effective(privileged=True, available=available) == available


def test_a_capability_that_the_engine_lacks_cannot_be_added() -> None:
    with pytest.raises(InvalidArgument, match="SYS_RESOURCE"):
        effective(add=("SYS_RESOURCE",), available=capabilities.DEFAULT)


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(InvalidArgument, match="FLY"):
        effective(add=("FLY",))


def test_numbers_are_the_kernels() -> None:
    assert capabilities.ALL.index("CAP_SYS_ADMIN") == 21
    assert capabilities.ALL[-1] == "CAP_CHECKPOINT_RESTORE"
    assert len(capabilities.ALL) == 41
