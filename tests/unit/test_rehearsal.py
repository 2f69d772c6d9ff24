"""What `test=True` tells of each verb, over minions that answer by a table, and of which none is asked for a change."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.errors import InputError
from mnha.master import rehearsal
from tests.unit.test_wishes import FREE, HELD, NODES, PLAN
from tests.unit.test_wishes import Minions as Table

ASKS = {"mnvm.plan", "consul_ha.kv_list", "consul_ha.quorum"}
"""What changes nothing."""


class Minions(Table):
    """As of :mod:`tests.unit.test_wishes`, and several may be asked."""

    def first(self, nodes: Any, fun: str, kwarg: Any = None, timeout_s: float = 5.0) -> Any:
        return self.one(nodes[0], fun, kwarg, timeout_s)

    def require_questions_alone(self) -> None:
        assert {fun for _, fun in self.asked} <= ASKS


def minions(**plan: Any) -> Minions:
    leases = {
        "vms/mnvm/lease": plan.get("lease", HELD),
        "vms/other/lease": FREE,
        "vms/mnvm/desired": {"run": "started"},
    }
    return Minions(mnvm__plan={**PLAN, "together": {"mnvm": "node2"}, **plan}, consul_ha__kv_list=leases)


def told(found: dict[str, Any]) -> tuple[bool, str]:
    return found["result"], found["comment"]


def test_a_start_tells_who_would_take_it() -> None:
    one = minions(lease=FREE, desired="stopped")
    assert told(rehearsal.start(one, NODES, None)) == (
        True, "desired of mnvm would be started (it is stopped), and node2 would take it",
    )  # fmt: skip
    one.require_questions_alone()
    assert rehearsal.start(minions(), NODES, None)["rejected"] == {}, "who else could have it is no matter"
    assert told(rehearsal.start(minions(), NODES, None)) == (
        True, "desired of mnvm would be started (it is started); node1 has its lease, and would run it on",
    )  # fmt: skip


def test_a_start_that_no_node_could_do_is_a_failure() -> None:
    one = minions(lease=FREE, desired=None, order=[], sentence="no node can take it over (node2: is lost)")
    found = rehearsal.start(one, NODES, None)
    assert told(found) == (
        False, "desired of mnvm would be started (it is not known), but no node can take it over (node2: is lost)",
    )  # fmt: skip
    assert found["rejected"] == PLAN["rejected"]


@pytest.mark.parametrize(
    ("lease", "words"),
    [(HELD, "node1 would shut it down"), (FREE, "no node has its lease, so it is off")],
)
def test_a_stop_tells_who_would_shut_it_down(lease: dict[str, Any], words: str) -> None:
    one = minions(lease=lease)
    well, text = told(rehearsal.stop(one, NODES, None))
    assert (well, text) == (True, f"desired of mnvm would be stopped (it is started); {words}")
    assert rehearsal.stop(one, NODES, None)["rejected"] == {}
    one.require_questions_alone()


@pytest.mark.parametrize(
    ("node", "state", "plan", "expected"),
    [
        ("node1", "on", {}, (True, "node1 would be in maintenance; mnvm would be migrated to node2")),
        ("node1", True, {"together": {"mnvm": ""}}, (False, "node1 would be in maintenance; mnvm would find no place")),
        ("node2", "on", {}, (True, "node2 would be in maintenance; it has no VM")),
        ("node2", "off", {"prefer": []}, (True, "node2 would be a candidate again; every VM would stay where it is")),
        ("node2", False, {"prefer": ["node2"]},
         (True, "node2 would be a candidate again; mnvm would be migrated back from node1")),
    ],
)  # fmt: skip
def test_maintenance_tells_what_would_move(
    node: str, state: str | bool, plan: dict[str, Any], expected: tuple[bool, str]
) -> None:
    one = minions(**plan)
    assert told(rehearsal.maintenance(one, NODES, node, state)) == expected
    one.require_questions_alone()


def test_maintenance_of_no_node_or_neither_on_nor_off_is_refused() -> None:
    for node, state, words in (("node9", "on", "no node of the cluster"), ("node1", "maybe", "on or off")):
        with pytest.raises(InputError, match=words):
            rehearsal.maintenance(minions(), NODES, node, state)


def status(lease: dict[str, Any] | None, vm: str = "off", why: str = "") -> dict[str, Any]:
    return {"vms": {"mnvm": {"lease": lease, "vm": vm}}, "checks": {"storage": {"ok": not why, "why": why}}}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (status(FREE), (True, "what node2 has mounted would be the cluster's share")),
        (status(None, why="another one"),
         (True, "what node2 has mounted would be the cluster's share; its guard says of it now: another one")),
        (status({**HELD, "holder": "node2"}), (True, "what node2 has mounted would be the cluster's share")),
        (status({**HELD, "expired": True}), (True, "what node2 has mounted would be the cluster's share")),
        (status({**HELD, "expired": False}), (False, "mnvm is held by node1: its share is the cluster's")),
    ],
)  # fmt: skip
def test_a_share_is_adopted_of_the_node_that_has_the_vm_alone(said: dict[str, Any], expected: tuple[bool, str]) -> None:
    assert told(rehearsal.adopt_share(said, "node2")) == expected


@pytest.mark.parametrize(
    ("said", "well"),
    [(status(FREE), True), (status(FREE, "running"), False), (status({**HELD, "expired": False}), False)],
)
def test_a_disk_is_accepted_of_a_vm_that_is_off(said: dict[str, Any], well: bool) -> None:
    assert rehearsal.accept_disk(said, None)["result"] is well
    with pytest.raises(InputError, match="name one of mnvm"):
        rehearsal.accept_disk(said, "other")


def test_a_password_is_set_where_the_configuration_lets_it() -> None:
    assert told(rehearsal.reset_password("root", "mnvm", "node1", True)) == (
        True, "the agent in mnvm on node1 would set a new password of root",
    )  # fmt: skip
    well, text = told(rehearsal.reset_password("root", "mnvm", "node1", False))
    assert not well
    assert "mnha:cluster:vms:mnvm:allow_reset_root_password" in text
