"""The old suite's shapes, and that nothing is said to run that is not known to."""

from __future__ import annotations

from typing import Any

import pytest

from mnha import config
from mnha.master import report
from mnha.master.replies import Reply
from mnha.zsha import shapes
from tests.support.example import example_pillar
from tests.unit.test_report import LEASE, NODES, one_record, one_report

CLUSTER = config.load(example_pillar()).to_mapping()


def found(**changes: Any) -> dict[str, Any]:
    """How it is as node2 sees it: node1 runs the VM, by its record."""
    mine = {**one_report("node2"), **changes}
    view = {key: mine[key] for key in ("members", "vms", "nodes", "maintenance", "errors", "applied")}
    said = {key: mine[key] for key in ("node", "errors", "guard")}
    return report.status(NODES, {"node2": Reply("node2", said, True)}, now_s=1.0, waited_s=0.0,
                         records={"servers": (), **view}, renewed_s={}, own="node2")  # fmt: skip


def sections(one: dict[str, Any], cluster: dict[str, Any] = CLUSTER) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for line in shapes.status(one, cluster):
        if line.startswith(shapes.HEAD):
            told[line] = []
        else:
            told[list(told)[-1]].append(line)
    return told


def test_the_sections_are_those_of_the_old_suite() -> None:
    told = sections(found())
    assert list(told) == [
        ">>>MN-VM Running On", ">>>Last MN-VM Start Record", ">>>ZStack HA Services Running On", ">>>Consul Members",
        ">>>Management Node IP", ">>>Public Network IP", ">>>Checking Host I/O",
    ]  # fmt: skip
    assert told[">>>MN-VM Running On"] == ["172.20.198.3 : running"]
    assert told[">>>Last MN-VM Start Record"] == ["2026-01-01T00:00:00+00:00 172.20.198.3 node1"]
    assert told[">>>ZStack HA Services Running On"] == [f"172.20.198.{n} node{n - 2}" for n in (3, 4, 5)]
    assert told[">>>Consul Members"][1].split() == ["node1", "172.20.198.3", "alive"]
    assert (told[">>>Management Node IP"], told[">>>Public Network IP"]) == (["172.20.198.10"], ["none"])
    assert told[">>>Checking Host I/O"] == [
        "172.20.198.3 node1: ok (by its record)", "172.20.198.4 node2: ok", "172.20.198.5 node3: ok (by its record)",
        "done.",
    ]  # fmt: skip
    assert shapes.code(found()) == 0


def test_a_vm_that_was_stopped_runs_on_none() -> None:
    vms = {"vms/mnvm/lease": {**LEASE, "phase": "released", "holder": ""}, "vms/mnvm/desired": {"run": "stopped"}}
    guard = {"checks": {}, "vms": {"mnvm": {"state": "stopped", "vm": "off", "lease": None}}}
    one = found(vms=vms, guard=guard, nodes={f"nodes/{node}": one_record(node, "off") for node in NODES})
    assert sections(one)[">>>MN-VM Running On"] == ["none : stopped"]
    assert shapes.code(one) == 0


def test_what_is_not_known_is_not_said_to_run() -> None:
    one = found(errors={"consul": "no quorum"})
    (line,) = sections(one)[">>>MN-VM Running On"]
    assert line.startswith("172.20.198.3 : unknown")
    assert shapes.code(one) == 2


def test_a_node_whose_guard_answers_serves_though_its_consul_has_ended() -> None:
    one = found(members=one_report("node2", alive=["node1", "node3"])["members"])
    told = sections(one)
    assert "172.20.198.4 node2" in told[">>>ZStack HA Services Running On"]
    assert told[">>>Checking Host I/O"][1] == "172.20.198.4 node2: ok"


def test_a_node_that_is_gone_has_no_services_and_its_storage_is_not_known() -> None:
    one = found(members=one_report("node2", alive=["node1", "node2"])["members"])
    told = sections(one)
    assert told[">>>ZStack HA Services Running On"] == ["172.20.198.3 node1", "172.20.198.4 node2"]
    assert told[">>>Checking Host I/O"][2] == "172.20.198.5 node3: not known"
    assert any(line.startswith("! node3: down") for line in shapes.warnings(one))


def test_a_vm_whose_storage_is_its_own_is_told_with_its_nodes_storage() -> None:
    silent = {"image": {"ok": False, "why": "Ceph does not answer"}, "bridge": {"ok": False, "why": "not this one"}}
    here, there = one_report("node2")["guard"], one_record("node3")
    here["vms"]["mnvm"]["checks"] = there["guard"]["vms"]["mnvm"]["checks"] = silent
    one = found(guard=here, nodes={**{f"nodes/{node}": one_record(node) for node in NODES}, "nodes/node3": there})
    assert sections(one)[">>>Checking Host I/O"][:3] == [
        "172.20.198.3 node1: ok (by its record)",
        "172.20.198.4 node2: mnvm: Ceph does not answer",
        "172.20.198.5 node3: mnvm: Ceph does not answer (by its record)",
    ]


def test_a_node_whose_own_guard_is_silent_has_no_services_and_its_storage_is_not_known() -> None:
    told = sections(found(guard=None))
    assert told[">>>ZStack HA Services Running On"] == ["172.20.198.3 node1", "172.20.198.5 node3"]
    assert told[">>>Checking Host I/O"][1] == "172.20.198.4 node2: not known"


def test_no_minion_is_accused_for_none_was_asked() -> None:
    assert [line for line in shapes.warnings(found()) if "minion" in line] == []


def test_without_the_configuration_nodes_have_their_names() -> None:
    assert sections(found(), {})[">>>MN-VM Running On"] == ["node1 : running"]


@pytest.mark.parametrize(
    ("address", "line"),
    [({"node1": "10.0.0.1", "node2": "10.0.0.2"}, "10.0.0.1"), ("10.0.0.9", "10.0.0.9")],
    ids=["one per node", "one for all"],
)
def test_the_guests_address_is_that_at_its_node(address: Any, line: str) -> None:
    networks = [{"management": True, "address": address}, {"address": "1.2.3.4"}]
    told = sections(found(), {**CLUSTER, "vms": {"mnvm": {"networks": networks}}})
    assert (told[">>>Management Node IP"], told[">>>Public Network IP"]) == ([line], ["1.2.3.4"])


def test_the_configuration_is_shown_as_a_file() -> None:
    assert list(shapes.configuration({"mnvm": {"CPU": 4}})) == [">>>Configuration", "{", '    "CPU": 4', "}"]


def test_the_history_is_an_event_a_line() -> None:
    events = [
        {"at": "2026-01-01T00:00:00", "node": "node1", "vm": "mnvm", "event": "taken", "text": "took the lease"},
        {
            "at": "2026-01-01T00:00:01",
            "last": "2026-01-01T00:10:00",
            "count": 3,
            "event": "command",
            "text": "`mnha.stop`",
        },
        {"event": "unreadable", "text": "somebody wrote it by hand"},
    ]
    assert list(shapes.history(events)) == [
        "2026-01-01T00:00:00 node1 mnvm: taken: took the lease",
        "2026-01-01T00:10:00 -: command: `mnha.stop` (3 times since 2026-01-01T00:00:01)",
        "- -: unreadable: somebody wrote it by hand",
    ]
