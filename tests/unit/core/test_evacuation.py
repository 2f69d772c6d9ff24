"""When a VM has to leave a node that has lost its management network, and where to."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.core.evacuation import AGAIN_S, Evacuation, has_management
from mnha.core.model import Move, Op, Order, Run, Vm

from .views import lease, sighting, view

LOST_S, LIMIT_S = 100.0, 15.0
DUE_S = LOST_S + LIMIT_S


def running(**changes: Any) -> Any:
    """A view of a node that has the VM, and that it is to run."""
    return view(**{"vm": Vm.RUNNING, "desired": Run.STARTED, **changes})


@pytest.fixture
def evacuation() -> Evacuation:
    """That of a node which has seen others well for long."""
    found = Evacuation(LIMIT_S)
    assert found.step(running(), 0.0, None, ["n2"]) is None
    return found


def test_after_the_limit_it_is_migrated_to_the_best_node_that_has_the_network(evacuation: Evacuation) -> None:
    assert evacuation.step(running(), DUE_S - 0.01, LOST_S, ["n3", "n2"]) is None
    step = evacuation.step(running(), DUE_S, LOST_S, ["n3", "n2"])
    assert step is not None
    assert (step.op, step.target, step.reason) == (Op.MIGRATE, "n3", "me has lost its management network")


def test_each_target_is_tried_once_and_then_it_is_stopped_once(evacuation: Evacuation) -> None:
    steps = [evacuation.step(running(), DUE_S + number, LOST_S, ["n3", "n2"]) for number in range(5)]
    assert [(step.op, step.target) if step else None for step in steps] == [
        (Op.MIGRATE, "n3"), (Op.MIGRATE, "n2"), (Op.RELEASE, ""), None, None,
    ]  # fmt: skip
    assert evacuation.step(running(), DUE_S + 2 + AGAIN_S - 0.01, LOST_S, ["n3"]) is None
    again = evacuation.step(running(), DUE_S + 2 + AGAIN_S, LOST_S, ["n3"])
    assert again is not None
    assert again.op is Op.RELEASE


def test_the_order_to_stop_stands_until_the_guest_had_its_time(evacuation: Evacuation) -> None:
    evacuation.step(running(), DUE_S, LOST_S, ["n2"])
    step = evacuation.step(running(shutdown_limit_s=120.0), DUE_S, LOST_S, ["n2"])
    assert step is not None
    assert step.wait_s > 120.0


def test_a_network_that_was_back_is_a_new_loss(evacuation: Evacuation) -> None:
    evacuation.step(running(), DUE_S, LOST_S, ["n2"])
    assert evacuation.step(running(), DUE_S + 1, None, ["n2"]) is None
    assert evacuation.step(running(), DUE_S + 2, DUE_S + 1.5, ["n2"]) is None
    step = evacuation.step(running(), DUE_S + 2 + LIMIT_S, DUE_S + 1.5, ["n2"])
    assert step is not None
    assert (step.op, step.target) == (Op.MIGRATE, "n2")


def test_where_no_other_node_has_it_the_vm_stays(evacuation: Evacuation) -> None:
    assert evacuation.step(running(), DUE_S + 1000, LOST_S, []) is None


def test_where_it_comes_back_for_all_who_sees_it_last_keeps_its_vm(evacuation: Evacuation) -> None:
    assert evacuation.step(running(), LOST_S, LOST_S, []) is None
    back_s = DUE_S + 1000
    assert evacuation.step(running(), back_s, LOST_S, ["n2"]) is None
    assert evacuation.step(running(), back_s + LIMIT_S - 0.01, LOST_S, ["n2", "n3"]) is None
    step = evacuation.step(running(), back_s + LIMIT_S, LOST_S, ["n3"])
    assert step is not None, "it did not come back here"
    assert (step.op, step.target) == (Op.MIGRATE, "n3")


def test_a_break_of_what_the_others_have_begins_the_time_anew(evacuation: Evacuation) -> None:
    assert evacuation.step(running(), DUE_S - 1, LOST_S, []) is None
    assert evacuation.step(running(), DUE_S, LOST_S, ["n2"]) is None
    assert evacuation.step(running(), DUE_S + LIMIT_S, LOST_S, ["n2"]) is not None


def test_without_a_limit_it_stays() -> None:
    assert Evacuation(float("inf")).step(running(), 1e9, LOST_S, ["n2"]) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"vm": Vm.OFF},
        {"vm": Vm.STARTING},
        {"vm": Vm.PAUSED},
        {"desired": Run.STOPPED},
        {"desired": None},
        {"move": Move.UNDER_WAY},
        {"ending": "the guard of me was stopped"},
        {"sighting": None},
        {"sighting": sighting(lease("n2"))},
        {"order": Order(Op.RESET, "somebody", 1e9)},
    ],
    ids=str,
)
def test_what_does_not_run_here_or_is_busy_is_left_alone(evacuation: Evacuation, changes: dict[str, Any]) -> None:
    assert evacuation.step(running(**changes), DUE_S, LOST_S, ["n2"]) is None
    assert evacuation.step(running(), DUE_S, LOST_S, ["n2"]) is not None, "and counts for nothing"


@pytest.mark.parametrize(
    ("record", "well"),
    [
        ({"network_checks": {"management": {"ok": True, "why": ""}}}, True),
        ({"network_checks": {"management": {"ok": False, "why": "no carrier"}}}, False),
        ({"network_checks": {"management": {"ok": "yes"}}}, False),
        ({"network_checks": {}}, False),
        ({"network_checks": [1]}, False),
        ({"checks": {"management": {"ok": True}}}, False),
        (None, False),
        ([], False),
    ],
)
def test_a_node_has_the_network_only_if_its_record_says_so(record: Any, well: bool) -> None:
    assert has_management(record) is well
