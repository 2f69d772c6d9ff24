"""The status from the nodes' reports, and the outputter's tables from the status."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mnha.master import report
from mnha.master.minions import Reply

NODES = ["node1", "node2", "node3"]
LEASE = {"holder": "node1", "epoch": 7, "phase": "held", "seq": 5}


def one_report(node, alive=NODES, **changes):
    mine = node == "node1"
    guard = {
        "checks": {"storage": {"ok": True, "why": ""}},
        "vms": {
            "mnvm": {
                "state": "holding" if mine else "candidate",
                "sentence": "holds the lease, the VM is running",
                "vm": "running" if mine else "off",
                "lease": {**LEASE, "age_s": 0.5},
            }
        },
    }
    return {
        "node": node,
        "errors": {},
        "guard": guard,
        "config": {"name": "example"},
        "applied": {"cluster": {"name": "example"}, "version": 3},
        "members": [{"node": name, "status": "alive" if name in alive else "failed"} for name in NODES],
        "vms": {
            "vms/mnvm/lease": LEASE,
            "vms/mnvm/desired": {"run": "started"},
            "vms/mnvm/last_start": {"at": "2026-01-01T00:00:00+00:00", "node": "node1", "epoch": 7},
        },
        "nodes": {f"nodes/{name}": {"checks": {"storage": {"ok": True}}} for name in NODES},
        "maintenance": {},
        **changes,
    }


def summed(**reports):
    replies = {node: Reply(node, value, True) for node, value in reports.items()}
    return report.status(NODES, replies, now_s=1.0, waited_s=0.84)


def shown(data):
    spec = importlib.util.spec_from_file_location("outputter", Path(__file__).parents[2] / "salt/_output/mnha.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.output({"example": data})


def test_a_healthy_cluster_has_no_warning():
    found = summed(**{node: one_report(node) for node in NODES})
    assert found["result"] is True
    assert found["comment"] == "mnvm runs on node1"
    assert found["warnings"] == []
    text = shown(found)
    assert "wished started; holds the lease, the VM is running" in text
    assert "held by node1, epoch 7, seen renewed 0.5 s ago" in text
    assert text.count("mnvm: candidate") == 2


def test_a_dead_node_is_shown_and_not_warned_about():
    found = summed(node2=one_report("node2", ["node2", "node3"]), node3=one_report("node3", ["node2", "node3"]))
    assert found["nodes"]["node1"]["answers"] is False
    assert found["nodes"]["node1"]["consul"] == "failed"
    assert found["comment"] == "mnvm is held by node1, which does not answer"
    assert found["warnings"] == ["mnvm is wished started and is held by node1, which does not answer"]
    assert "node1  no answer within 0.8 s  failed" in shown(found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"applied": None}, "no configuration has been applied yet"),
        ({"applied": {"cluster": {"name": "other"}}}, "the pillar differs"),
        ({"errors": {"config": "cpus: is -1"}}, "node1: cpus: is -1"),
        ({"guard": {"checks": {"image": {"ok": False, "why": "the image is missing"}}}}, "node1: image: the image is"),
    ],
)
def test_warnings(changes, words):
    found = summed(node1=one_report("node1", **changes), node2=one_report("node2"), node3=one_report("node3"))
    assert any(words in text for text in found["warnings"])
    assert f"  ! {found['warnings'][0]}" in shown(found)


def test_a_live_node_whose_minion_is_silent_is_warned_about():
    found = summed(node1=one_report("node1"), node2=one_report("node2"))
    assert found["warnings"] == ["node3: no answer within 0.8 s, but Consul sees it: is salt-minion running?"]


def test_without_consul_the_guards_still_speak_and_it_is_no_success():
    blind = {"node": "node1", "errors": {"consul": "the guard does not reach Consul: no leader"}, "guard": {
        "vms": {"mnvm": {"state": "fenced", "sentence": "its lease ran out", "vm": "off", "lease": None}}}}  # fmt: skip
    found = summed(node1=blind)
    assert found["result"] is False
    assert "fenced" in shown(found)


def test_what_one_server_still_knows_is_shown_without_a_quorum_and_is_no_success():
    lost = {"consul": "no quorum of Consul in reach: no leader"}
    found = summed(node1=one_report("node1", errors=lost), node2=one_report("node2", errors=lost))
    assert found["result"] is False
    assert found["comment"] == "mnvm runs on node1; no quorum of Consul is in reach"
    assert found["vms"]["mnvm"]["desired"] == {"run": "started"}
    assert f"node1: {lost['consul']}" in found["warnings"]
    assert "held by node1, epoch 7" in shown(found)


def test_the_view_of_a_node_with_a_quorum_goes_before_that_of_one_without():
    old = {"vms/mnvm/lease": {**LEASE, "epoch": 6}}
    lost = one_report("node1", errors={"consul": "no quorum of Consul in reach: no leader"}, vms=old)
    found = summed(node1=lost, node2=one_report("node2"), node3=one_report("node3"))
    assert found["result"] is True
    assert found["vms"]["mnvm"]["lease"]["epoch"] == 7


def test_a_report_that_failed_is_a_warning():
    found = report.status(NODES, {"node1": Reply("node1", "Traceback", False)}, now_s=1.0, waited_s=4.0)
    assert found["result"] is False
    assert "node1: Traceback" in found["warnings"]


def test_nobody_waits_for_a_node_that_consul_has_lost():
    replies = {"node1": Reply("node1", one_report("node1", ["node1", "node2"]), True, after_s=0.2)}
    assert not report.heard_enough(replies, 0.2)
    replies["node2"] = Reply("node2", {"errors": {}}, True, after_s=0.3)
    assert report.heard_enough(replies, 0.3)
    assert not report.heard_enough({"node1": Reply("node1", "Traceback", False, after_s=0.2)}, 0.2)


@pytest.mark.parametrize(("answered_s", "given_up_s"), [(0.2, 0.8), (0.6, 1.2), (1.1, 2.2)])
def test_a_node_that_consul_still_sees_is_waited_for_as_long_again_as_the_answers_took(answered_s, given_up_s):
    replies = {node: Reply(node, one_report(node), True, after_s=answered_s) for node in ("node1", "node2")}
    assert not report.heard_enough(replies, given_up_s - 0.01)
    assert report.heard_enough(replies, given_up_s + 0.01)


def test_a_vm_that_its_silent_node_does_not_hold_is_not_running():
    others = {node: one_report(node) for node in ("node2", "node3")}
    for one in others.values():
        one["vms"]["vms/mnvm/lease"] = {**LEASE, "holder": "", "phase": "released"}
    found = summed(**others)
    assert found["comment"] == "mnvm is not running"
    assert "mnvm is wished started and is not running" in found["warnings"]


@pytest.mark.parametrize(
    ("age_s", "given_up_s"), [(0.5, 2.7), (1.0, 2.2), (2.4, 0.8), (9.0, 0.8)], ids=lambda seconds: f"{seconds:g} s"
)
def test_a_holder_that_renewed_a_moment_ago_is_waited_for(age_s, given_up_s):
    """Answered after 0.2 s; a silent candidate would be given up after 0.8 s."""
    replies = {node: Reply(node, one_report(node), True, after_s=0.2) for node in ("node2", "node3")}
    for reply in replies.values():
        reply.value["guard"]["vms"]["mnvm"]["lease"]["age_s"] = age_s
    assert not report.heard_enough(replies, given_up_s - 0.01)
    assert report.heard_enough(replies, given_up_s + 0.01)
    replies["node1"] = Reply("node1", one_report("node1"), True, after_s=given_up_s - 0.02)
    assert report.heard_enough(replies, given_up_s - 0.01)


@pytest.mark.parametrize("guard", [None, {}, {"vms": {}}, {"vms": {"mnvm": {"lease": None}}}])
def test_a_report_without_a_lease_tells_of_no_holder(guard):
    replies = {"node2": Reply("node2", one_report("node2", guard=guard), True, after_s=0.2)}
    assert report.heard_enough(replies, 0.81)


@pytest.mark.parametrize("data", ["text", None, {"example": "text"}, {"example": {"result": False, "comment": "no"}}])
def test_the_outputter_shows_anything(data):
    assert shown(data)


def test_timeline_and_history():
    text = shown({"result": True, "comment": "runs", "steps_s": {"plan_s": 0.1}, "tried": {"node2": "ok"},
                  "timeline": {"expired_s": 10.0, "taken_s": 10.2, "started_s": 11.0}})  # fmt: skip
    assert "expired +0.00 s, taken +0.20 s, started +1.00 s" in text
    assert "plan 0.10 s" in text
    text = shown(
        {"result": True, "comment": "1 events", "history": [{"at": "now", "node": "node1", "event": "failover"}]}
    )
    assert "failover" in text
