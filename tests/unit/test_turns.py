"""Who takes over without an order, by what a guard sees: the choice that a master makes of the same records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mnha import keys
from mnha.core.choose import Node
from mnha.core.model import Run, Vm
from mnha.core.placement import place
from mnha.daemon.adapters.node_records import Seen
from mnha.daemon.turns import better_of, turns_of
from mnha.master.placing import cluster_of
from tests.unit.core.views import lease, sighting, view

VMS = {
    "mnvm": {"memory_mib": 8192, "cpus": 4, "prefer": ["c", "b"]},
    "other": {"memory_mib": 8192, "cpus": 4, "prefer": ["c"]},
}
CONFIG = {
    "node": "b",
    "nodes": ["a", "b", "c"],
    "memory_reserve_mib": 1024,
    "vms": [{"name": name, **vm} for name, vm in VMS.items()],
}
ALIVE = {name: {"alive": True} for name in "ac"}


def record(free_mib: int = 12000, **checks: str) -> dict[str, Any]:
    told = {"storage": {"ok": True, "why": ""}, **{name: {"ok": False, "why": why} for name, why in checks.items()}}
    return {"checks": told, "free_memory_mib": free_mib, "cpus": 8}


def guards(**fields: Any) -> Any:
    held = {"sighting": sighting(lease("a")), "vm": Vm.OFF, "desired": Run.STARTED, **fields}
    return {name: SimpleNamespace(view=view(**held), vm_pid=None) for name in VMS}


def turns(own: Any = None, seen: Any = None, peers: Any = ALIVE, **fields: Any) -> dict[str, Any]:
    records = Seen({"a": record(), "c": record()} if seen is None else seen, {})
    return turns_of(CONFIG, guards(**fields), own or record(), records, peers)


def test_two_vms_of_a_lost_node_are_placed_in_one_go() -> None:
    """The second does not fit where the first is preferred too."""
    assert turns() == {"mnvm": ("c", "b"), "other": ("b",)}


def test_they_are_placed_as_a_master_would_place_them() -> None:
    nodes = [Node(name, record(), alive=True) for name in "abc"]
    values = {key: value for name in VMS for key, value in (
        (keys.lease(name), {"holder": "a", "phase": "held"}), (keys.desired(name), {"run": "started"}))}  # fmt: skip
    cluster = cluster_of({"vms": VMS, "memory_reserve_mib": 1024}, values, nodes)
    assert turns() == {name: place(cluster, name).order for name in VMS}


def test_of_its_own_node_a_guard_goes_by_what_it_knows_now() -> None:
    old = {"a": record(), "b": record(storage="hangs"), "c": record()}
    assert turns(seen=old)["mnvm"] == ("c", "b")
    assert turns(own=record(storage="hangs"))["mnvm"] == ("c",)


@pytest.mark.parametrize(
    ("seen", "peers"),
    [
        ({"c": record(storage="hangs")}, ALIVE),
        ({}, ALIVE),
        (None, {**ALIVE, "c": {"alive": False}}),
        (None, {**ALIVE, "c": {"alive": None, "why": "not asked yet"}}),
        (None, {}),
    ],
)
def test_another_node_that_is_not_known_to_be_well_has_no_turn(seen: Any, peers: Any) -> None:
    assert turns(seen=seen, peers=peers)["mnvm"] == ("b",)


def test_a_node_in_maintenance_has_no_turn() -> None:
    found = turns_of(CONFIG, guards(), record(), Seen({"c": record()}, {"c": {"by": "me"}}), ALIVE)
    assert found["mnvm"] == ("b",)
    assert turns(maintenance="in maintenance")["mnvm"] == ("c",)


def test_without_the_records_nothing_is_known() -> None:
    assert turns_of(CONFIG, guards(), record(), None, ALIVE) == {"mnvm": None, "other": None}


def test_before_a_lease_is_seen_the_choice_is_made_all_the_same() -> None:
    assert turns(sighting=None, desired=None)["mnvm"] == ("c", "b", "a")


def has_management(*, ok: bool) -> dict[str, Any]:
    return {**record(), "network_checks": {"management": {"ok": ok, "why": ""}}}


def test_a_vm_leaves_a_lost_management_network_for_nodes_that_have_it_the_best_first() -> None:
    seen = Seen({"a": has_management(ok=True), "b": has_management(ok=False), "c": has_management(ok=True)}, {})
    assert better_of(("c", "b", "a"), seen, "") == ["c", "a"]
    assert better_of(None, seen, "") == better_of(("c",), None, "") == []


def test_a_vm_that_no_node_may_start_from_its_image_does_not_leave() -> None:
    seen = Seen({"a": has_management(ok=True)}, {})
    assert better_of(("a",), seen, "it writes to an overlay") == []
