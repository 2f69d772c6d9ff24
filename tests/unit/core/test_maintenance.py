"""A node in maintenance takes nothing without an order, and gives nothing up."""

from __future__ import annotations

from mnha.core import lease as rules
from mnha.core.decide import decide
from mnha.core.model import Action, Op, Order, Phase, Run, Vm
from tests.unit.core.views import NOW_S, lease, sighting, view

NAMES = ("you", "me", "they")
FREE = {
    "sighting": sighting(lease("", Phase.RELEASED), age_s=60.0),
    "granted_until_s": None,
    "desired": Run.STARTED,
    "masterless_s": 20.0,
    "ranking": NAMES,
}


def actions(**fields: object) -> list[Action]:
    return [decision.action for decision in decide(view(**fields))]


def test_it_does_not_take_a_lease_that_nobody_orders_anybody_to_take() -> None:
    assert Action.TAKE in actions(**FREE)
    assert Action.TAKE not in actions(**FREE, maintenance="in maintenance by me")
    assert rules.masterless_at_s(view(**FREE, maintenance="in maintenance by me")) == float("inf")


def test_it_takes_one_on_an_order() -> None:
    order = Order(op=Op.TAKEOVER, reason="ordered", until_s=NOW_S + 30, epoch=7, index=50)
    assert Action.TAKE in actions(**FREE, maintenance="in maintenance by me", order=order)


def test_a_holder_keeps_its_vm() -> None:
    found = actions(vm=Vm.RUNNING, desired=Run.STARTED, maintenance="in maintenance by me")
    assert found == [Action.RENEW]
