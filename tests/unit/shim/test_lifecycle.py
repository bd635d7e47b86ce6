"""The life of a process: which moves there are, and what an illegal one says."""

from __future__ import annotations

import pytest
from corten_api.shim import task_pb2
from corten_shim import lifecycle
from corten_shim.linux.errors import RuntimeFault

STATES = sorted(lifecycle.NAMES)
EVENTS = [lifecycle.START, lifecycle.PAUSE, lifecycle.RESUME, lifecycle.EXIT, lifecycle.DELETE]
ILLEGAL = [(state, event) for state in STATES for event in EVENTS if (state, event) not in lifecycle.MOVES]


def test_states_have_containerds_numbers() -> None:
    numbers = (lifecycle.CREATED, lifecycle.RUNNING, lifecycle.STOPPED, lifecycle.PAUSED)
    assert numbers == (task_pb2.CREATED, task_pb2.RUNNING, task_pb2.STOPPED, task_pb2.PAUSED)


def test_every_state_but_deleted_can_be_left_and_an_exit_is_possible_wherever_a_process_is() -> None:
    assert {state for state, _event in lifecycle.MOVES} == set(STATES) - {lifecycle.DELETED}
    for state in (lifecycle.CREATED, lifecycle.RUNNING, lifecycle.PAUSED):
        assert lifecycle.MOVES[state, lifecycle.EXIT] == lifecycle.STOPPED


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_an_illegal_move_names_both_ends(state: int, event: str) -> None:
    with pytest.raises(RuntimeFault) as raised:
        lifecycle.after(state, event, kind="container", name="abc")
    assert raised.value.code == lifecycle.FAILED_PRECONDITION
    assert raised.value.name == "abc"
    assert event in raised.value.detail
    assert lifecycle.NAMES[state] in raised.value.detail
