"""What the guard's process decides by itself: what a request may ask for, and when it may be replaced."""

from __future__ import annotations

import pytest

from mnha.core.model import Move, Vm
from mnha.daemon.ending import LAST_RECORDS_S, LAST_WORDS_S, is_calm, last_s
from mnha.daemon.requests import DEFAULT_WAIT_S, wait_of
from mnha.errors import InputError
from tests.unit.core.views import NOW_S, TIMINGS, view

HALF_S = TIMINGS.deadline_s / 2


@pytest.mark.parametrize(("given", "wait_s"), [({}, DEFAULT_WAIT_S), ({"wait_s": 5}, 5.0), ({"wait_s": 0.5}, 0.5)])
def test_the_time_to_wait(given: dict, wait_s: float) -> None:
    assert wait_of(given) == wait_s


@pytest.mark.parametrize("wait_s", [0, -1, True, "5", None, [], float("nan"), float("inf"), 1e999, 3601])
def test_no_time_to_wait_is_refused(wait_s: object) -> None:
    with pytest.raises(InputError, match="between 0 and 3600"):
        wait_of({"wait_s": wait_s})


@pytest.mark.parametrize("vm", [Vm.RUNNING, Vm.PAUSED, Vm.UNKNOWN])
def test_a_guard_is_not_replaced_under_a_vm_whose_deadline_is_near(vm: Vm) -> None:
    assert is_calm(view(vm=vm, granted_until_s=NOW_S + HALF_S + 0.1))
    for granted_until_s in (NOW_S + HALF_S, NOW_S + 0.1, NOW_S - 0.1, None):
        assert not is_calm(view(vm=vm, granted_until_s=granted_until_s))


@pytest.mark.parametrize("granted_until_s", [NOW_S + 4.0, NOW_S - 100.0, None])
def test_where_no_vm_runs_a_guard_may_be_replaced_at_any_time(granted_until_s: float | None) -> None:
    assert is_calm(view(vm=Vm.OFF, granted_until_s=granted_until_s))


def test_a_guard_is_not_replaced_during_a_start_or_a_migration() -> None:
    far_s = NOW_S + TIMINGS.deadline_s
    assert not is_calm(view(vm=Vm.STARTING, granted_until_s=far_s))
    assert not is_calm(view(vm=Vm.ARRIVING, granted_until_s=far_s))
    assert not is_calm(view(vm=Vm.RUNNING, granted_until_s=far_s, move=Move.UNDER_WAY))
    assert not is_calm(view(vm=Vm.RUNNING, granted_until_s=far_s, move=Move.DONE))


def test_last_words_leave_half_of_the_time_to_the_next_deadline() -> None:
    near, far = view(vm=Vm.RUNNING, granted_until_s=NOW_S + 3.0), view(vm=Vm.RUNNING, granted_until_s=NOW_S + 60.0)
    dead = view(vm=Vm.OFF, granted_until_s=NOW_S + 0.1)
    assert last_s([far, near, dead], NOW_S) == 1.5
    assert last_s([near], NOW_S + 4.0) == 0.0
    assert last_s([far], NOW_S) == last_s([dead], NOW_S) == last_s([], NOW_S) == LAST_WORDS_S + LAST_RECORDS_S
