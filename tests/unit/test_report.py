"""The status from the nodes' reports, and the outputter's tables from the status."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from mnha.master import report
from mnha.master.minions import Reply

NODES = ["node1", "node2", "node3"]
FREE = {"holder": "", "epoch": 7, "phase": "released", "seq": 5}
LEASE = {"holder": "node1", "epoch": 7, "phase": "held", "seq": 5}


def one_record(node, vm=None):
    vm = vm or ("running" if node == "node1" else "off")
    return {"checks": {"storage": {"ok": True}}, "guard": {"vms": {"mnvm": {"state": "", "vm": vm}}}}


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
        "nodes": {f"nodes/{name}": one_record(name) for name in NODES},
        "maintenance": {},
        **changes,
    }


def summed(compare=lambda recorded, given: [], own="", **reports):
    replies = {node: Reply(node, value, True) for node, value in reports.items()}
    return report.status(NODES, replies, now_s=1.0, waited_s=0.84, compare=compare, own=own)


def shown(data):
    spec = importlib.util.spec_from_file_location("outputter", Path(__file__).parents[2] / "salt/_output/mnha.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.output({"example": data})


def test_a_healthy_cluster_has_no_warning():
    found = summed(**{node: one_report(node) for node in NODES})
    assert (found["result"], found["code"]) == (True, report.HEALTHY)
    assert found["comment"] == "mnvm runs on node1"
    assert found["warnings"] == []
    text = shown(found)
    assert "example: HEALTHY: mnvm runs on node1" in text
    assert "VM mnvm: desired started; it runs on node1" in text
    assert "guard        node1: holds the lease, the VM is running" in text
    assert "held by node1, epoch 7, renewed 0.5 s ago" in text
    assert "candidates   node2, node3" in text
    assert text.count("mnvm: candidate") == 2


def test_a_dead_node_is_told_and_nothing_of_its_old_record():
    found = summed(node2=one_report("node2", ["node2", "node3"]), node3=one_report("node3", ["node2", "node3"]))
    assert found["nodes"]["node1"]["answers"] is False
    assert found["nodes"]["node1"]["consul"] == "failed"
    assert "node1: down: Consul says failed" in found["warnings"]
    assert re.search(r"node1  down +failed  -  +no", shown(found))


@pytest.mark.parametrize(
    ("contact", "look"),
    [
        ("down", lambda: summed(**cluster(alive=["node1", "node2"]))),
        ("minion silent", lambda: summed(**cluster(silent=["node3"]))),
        ("guard silent", lambda: summed(**guard_silent_on("node3"))),
        ("minion silent", lambda: alone(records=view())),
    ],
    ids=["the node is dead", "its minion is silent", "its guard is silent", "no minion answers"],
)
def test_of_a_guard_that_is_not_heard_no_check_is_told_though_its_record_says_that_all_is_well(contact, look):
    found, node = look(), "node3"
    row = found["nodes"][node]
    assert row["record"]["checks"] == {"storage": {"ok": True}}
    assert (row["contact"], row["checks"]) == (contact, None)
    assert re.search(rf"{node}  {contact} +\w+ +-  ", shown(found))


def test_the_checks_of_a_node_and_of_its_vms_are_told_together():
    reports = cluster()
    reports["node2"]["guard"]["vms"]["mnvm"]["checks"] = {"bridge": {"ok": False, "why": "br_mgmt is missing"}}
    found = summed(**reports)
    assert list(found["nodes"]["node2"]["checks"]) == ["storage", "mnvm: bridge"]
    assert "node2: mnvm: bridge: br_mgmt is missing" in found["warnings"]
    assert re.search(r"node2  .* alive +mnvm: bridge!  ", shown(found))
    assert re.search(r"node3  .* alive +ok  ", shown(found))


def test_what_a_check_says_that_is_well_is_a_warning_and_no_fault():
    reports = {node: one_report(node) for node in NODES}
    reports["node2"]["guard"]["checks"]["mount"] = {"ok": True, "why": "ext4 is not shared"}
    found = summed(**reports)
    assert (found["warnings"], found["code"]) == (["node2: mount: ext4 is not shared"], report.HEALTHY)


def test_a_node_whose_guard_is_silent_is_told_as_no_candidate():
    """Its record stands in Consul as its guard wrote it last."""
    found = summed(**guard_silent_on("node3"))
    assert found["vms"]["mnvm"]["candidates"] == ["node2"]
    assert found["vms"]["mnvm"]["rejected"]["node3"] == "its guard is silent"
    both = summed(**guard_silent_on("node2", "node3"))
    assert both["vms"]["mnvm"]["candidates"] == []
    left = "no candidate is left to take it over: node2 its guard is silent; node3 its guard is silent"
    assert f"mnvm: {left}" in both["warnings"]


def test_that_a_node_is_in_maintenance_goes_before_its_silent_guard():
    reports = of_each(guard_silent_on("node3"), in_maintenance("node3"))
    assert summed(**reports)["vms"]["mnvm"]["rejected"]["node3"] == "is in maintenance by me"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"applied": None}, "no configuration has been applied yet"),
        ({"unapplied": "its guard has other timings than were applied"}, "its guard has other timings"),
        ({"errors": {"config": "cpus: is -1"}}, "node1: cpus: is -1"),
        ({"guard": {"checks": {"image": {"ok": False, "why": "the image is missing"}}}}, "node1: image: the image is"),
        ({"guard": {"faults": {"consul-peers": "it has hung"}}}, "node1: guard: consul-peers: it has hung"),
    ],
)
def test_warnings(changes, words):
    found = summed(node1=one_report("node1", **changes), node2=one_report("node2"), node3=one_report("node3"))
    assert any(words in text for text in found["warnings"])
    assert f"  ! {found['warnings'][0]}" in shown(found)


def test_a_live_node_whose_minion_is_silent_is_warned_about():
    found = summed(node1=one_report("node1"), node2=one_report("node2"))
    assert found["warnings"] == ["node3: minion silent, but Consul sees the node alive: is salt-minion running there?"]
    assert found["code"] == report.DEGRADED
    assert re.search(r"node3  minion silent +alive +-", shown(found))


def test_what_the_guard_of_a_silent_minion_finds_wrong_is_told_by_its_record():
    failing = {"libvirt": {"ok": False, "why": "libvirtd does not answer: systemctl start libvirtd"}}
    nodes = {f"nodes/{name}": {**one_record(name), "checks": failing} for name in NODES}
    found = summed(node1=one_report("node1", nodes=nodes), node2=one_report("node2", nodes=nodes))
    (told,) = (text for text in found["warnings"] if text.startswith("node3: minion silent"))
    assert "is salt-minion running there?; its guard's record says: libvirtd does not answer" in told


def test_a_minion_that_is_silent_for_a_full_disk_is_told_with_it():
    full = {"salt": {"ok": False, "why": "/var/cache/salt is full: 0 MiB are left"}}
    nodes = {f"nodes/{name}": {**one_record(name), "salt_checks": full} for name in NODES}
    found = summed(node1=one_report("node1", nodes=nodes), node2=one_report("node2", nodes=nodes))
    (told,) = found["warnings"]
    assert told.startswith("node3: minion silent, but Consul sees the node alive: its guard's record says: /var/cache/")
    heard = one_report("node1")
    heard["guard"]["salt_checks"] = full
    found = summed(node1=heard, node2=one_report("node2"), node3=one_report("node3"))
    assert found["warnings"] == ["node1: salt: /var/cache/salt is full: 0 MiB are left"]
    assert found["vms"]["mnvm"]["candidates"] == ["node2", "node3"]


NO_MANAGEMENT = {"management": {"ok": False, "why": "nobody answers by br_mgmt"}}


def without_management(*nodes, heard=NODES, own=""):
    """The status while some nodes have lost the management network, and the minions of some are heard."""
    records = {f"nodes/{one}": {**one_record(one), **({"network_checks": NO_MANAGEMENT} if one in nodes else {})}
               for one in NODES}  # fmt: skip
    reports = {node: one_report(node, nodes=records) for node in heard}
    for node in heard:
        if node in nodes:
            reports[node]["guard"]["network_checks"] = NO_MANAGEMENT
    return summed(own=own, **reports)


def test_that_a_vm_stays_for_no_node_has_the_management_network_is_told():
    stays = "mnvm: it stays on node1, which has lost its management network: no node that could take it has that"
    assert stays in without_management(*NODES)["warnings"]
    assert stays in without_management(*NODES, heard=["node1"])["warnings"]
    assert stays not in without_management("node1")["warnings"], "it is to leave"
    assert stays not in without_management("node2", "node3")["warnings"]


def test_a_master_that_has_lost_its_management_network_accuses_no_minion():
    found = without_management("node1", heard=["node1"], own="node1")
    (told,) = (text for text in found["warnings"] if "minion silent" in text)
    assert told == ("node2, node3: minion silent, but Consul sees the node alive: this master, node1, has lost its"
                    " management network, over which minions are asked")  # fmt: skip


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
    assert f"node1, node2: {lost['consul']}" in found["warnings"]
    assert "held by node1, epoch 7" in shown(found)


def unreadable(**faults):
    """All reports with records that can't be read, by their keys with `__` for `/`."""
    named = {key.replace("__", "/"): why for key, why in faults.items()}

    def change(one):
        one.update(unreadable=named, nodes={**one["nodes"], **{key: None for key in named if key.startswith("nodes/")}})
        one["vms"] = {**one["vms"], **{key: None for key in named if key.startswith("vms/")}}

    return change


def test_a_record_that_can_not_be_read_is_named_and_the_rest_is_shown():
    found = summed(**of_each(cluster(), unreadable(nodes__x="it is no JSON object", vms__mnvm__last_start="no JSON")))
    assert (found["code"], found["comment"]) == (1, "mnvm runs on node1")
    assert [text.partition(";")[0] for text in found["warnings"]] == [
        "the record nodes/x in Consul can't be read: it is no JSON object",
        "the record vms/mnvm/last_start in Consul can't be read: no JSON",
    ]


def test_a_lease_that_can_not_be_read_is_told_with_its_remedy():
    found = summed(**of_each(cluster(vm="off"), unreadable(vms__mnvm__lease="it is no JSON object")))
    (told,) = [text for text in found["warnings"] if "can't be read" in text]
    assert told.startswith("mnvm: its lease in Consul can't be read (it is no JSON object), somebody has written it by")
    assert "state.apply states.guard` creates it again; 60 s later" in told
    assert found["vms"]["mnvm"]["candidates"] == []


def test_a_desired_state_that_can_not_be_read_is_told_with_its_remedy():
    found = summed(**of_each(cluster(), unreadable(vms__mnvm__desired="it is no JSON object")))
    (told,) = [text for text in found["warnings"] if "can't be read" in text]
    assert told.startswith("mnvm: its desired state in Consul can't be read (it is no JSON object), somebody has")
    assert "`salt-run mnha.start` or `salt-run mnha.stop` writes it again" in told


def test_a_server_that_still_names_the_leader_it_has_lost_is_not_believed():
    """Right after the leader's power cut: one server has noticed, the other not yet, and nobody hears the leader."""
    lost = one_report("node2", errors={"consul": "no quorum of Consul in reach: no leader is known"})
    reports = {"node2": lost, "node3": one_report("node3")}
    found = summed(**reports)
    assert (found["code"], found["quorum"]) == (2, False)
    assert "no quorum of Consul is in reach" in found["comment"]
    replies = {node: Reply(node, value, True) for node, value in reports.items()}
    own = report.status(NODES, replies, now_s=1.0, waited_s=0.3, records=view())
    assert not own["quorum"], "what this node reads itself is no voice beside its minion's"
    reports["node3"] = one_report("node3", servers=[{"node": "node3", "voter": True, "healthy": True}])
    assert summed(**reports)["quorum"], "the leader has told of its servers"


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


def test_a_node_that_consul_has_lost_is_waited_for_as_long_as_others_for_its_server_alone_may_have_ended():
    replies = {"node1": Reply("node1", one_report("node1", ["node1", "node2"]), True, after_s=0.2)}
    replies["node2"] = Reply("node2", {"errors": {}}, True, after_s=0.3)
    assert not report.heard_enough(replies, 0.89)
    assert report.heard_enough(replies, 0.91)
    replies["node3"] = Reply("node3", one_report("node3"), True, after_s=0.5)
    assert report.heard_enough(replies, 0.5)
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
    assert "mnvm is not running; desired: started" in found["warnings"]
    assert "lease        free: nobody holds the lease, epoch 7" in shown(found)


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


def test_the_configuration_is_shown_as_a_file():
    text = shown({"comment": "", "configuration": {"mnvm": {"CPU": 4}}})
    assert text.splitlines()[2:] == ["configuration of mnvm:", "{", '    "CPU": 4', "}"]


def test_what_concerns_no_vm_names_none():
    text = shown({"comment": "", "history": [{"at": "now", "node": "node1", "vm": None, "event": "maintenance on"}]})
    assert "None" not in text


def test_faults_that_nodes_share_are_shown_once():
    text = shown({"comment": "", "faults": {"node1": ["a: wrong"], "node2": ["a: wrong"], "node3": ["b: wrong"]}})
    assert text.splitlines()[1:] == ["  node1, node2:", "    a: wrong", "  node3:", "    b: wrong"]


def test_what_a_change_does_is_shown_by_when_it_takes_effect():
    text = shown({"comment": "x", "corrections": ["line 1: c"], "differences": {"at once": ["timings: 1 → 2"]},
                  "versions": [{"version": 1, "at": "now", "by": "me", "changes": "y"}]})  # fmt: skip
    lines = [line.split() for line in text.splitlines()[2:]]
    assert [lines[1], lines[2], lines[4]] == [["1", "now", "me", "y"], ["corrected:"], ["at", "once:"]]


# ---- exit codes: what each kind of trouble gives, and what is said of it


def cluster(alive=NODES, silent=(), lease=None, age_s=0.5, desired="started", vm="running", records=None, **seen):
    """The reports of a cluster whose VM is on node1; `silent` nodes don't answer. `seen`: more of what each guard sees
    of the lease."""
    lease = lease or LEASE
    reports = {node: one_report(node, alive) for node in NODES if node in alive and node not in silent}
    for node, one in reports.items():
        one["vms"] |= {"vms/mnvm/lease": lease, "vms/mnvm/desired": {"run": desired}}
        one["nodes"] |= records or {}
        its = one["guard"]["vms"]["mnvm"]
        its["lease"] = {**lease, "age_s": age_s, "overdue": False, "expired": False, **seen}
        its["vm"] = vm if node == "node1" else "off"
    return reports


def of_each(reports, change):
    for one in reports.values():
        change(one)
    return reports


def no_quorum(one):
    one["errors"]["consul"] = "no quorum of Consul in reach: no leader"


def no_consul(one):
    one.update(vms=None, nodes=None, maintenance=None, members=None, applied=None)
    no_quorum(one)


def no_guard(one):
    one.update(guard=None)
    one["errors"]["guard"] = "the guard does not answer: systemctl restart mnha-guard"


def guard_silent_on(*nodes):
    reports = cluster()
    for node in nodes:
        no_guard(reports[node])
    return reports


def failing(one):
    one["guard"]["checks"] = {"image": {"ok": False, "why": "it is missing"}}


def paused(why, resumes):
    return lambda one: one["guard"]["vms"]["mnvm"].update(paused={"why": why, "resumes": resumes, "obstacle": ""})


def absent(one):
    one["guard"]["vms"]["mnvm"]["health"] = {"hung": False, "absent": True, "silent_s": 312.4}


def hung(one):
    one["guard"]["vms"]["mnvm"]["health"] = {"hung": True, "why": "its agent is silent"}


def elsewhere(one):
    one["guard"]["vms"]["mnvm"]["guest"] = {"why": "node1's addresses could not be set: no ip", "set": False}


def in_maintenance(*nodes):
    return lambda one: one.update(maintenance={f"maintenance/{node}": {"by": "me"} for node in nodes})


TWO = ["node2", "node3"]


def without(*keys):
    """Somebody has deleted these of the VM's records."""

    def change(one):
        one["vms"] = {key: value for key, value in one["vms"].items() if key.split("/")[-1] not in keys}

    return change


def servers(lame=(), ill=(), gone=()):
    """Autopilot's rows: those that do not vote, are not healthy, or are not there."""
    rows = [{"node": node, "voter": node not in lame, "healthy": node not in ill} for node in NODES if node not in gone]
    return lambda one: one.update(servers=rows)


def certificate(left_days):
    """One node's certificate ends then; it is 1 s after the beginning of 1970."""

    def change(one):
        if one["node"] == "node2":
            told = {"file": "/etc/mnha/tls/node.pem", "ends_s": 1.0 + left_days * 86400, "why": ""}
            one["guard"] |= {"cluster": "example", "certificates": {"consul": told}}

    return change


def again(one):
    one["vms"]["vms/mnvm/lease"] = {"holder": "", "epoch": 90, "phase": "held", "seq": 0, "reason": "created again",
                                    "timings": {"lease_s": 60.0}}  # fmt: skip


CODES = [
    ("all is well", cluster(), 0, []),
    ("stopped as desired", cluster(lease=FREE, vm="off", desired="stopped"), 0, []),
    ("a candidate in maintenance, another is left", of_each(cluster(), in_maintenance("node2")), 0, []),
    ("a candidate is down", cluster(alive=["node1", "node2"]), 1, ["node3: down: Consul says failed"]),
    ("a candidate's minion is silent", cluster(silent=["node3"]), 1, ["node3: minion silent, but Consul sees"]),
    ("the last candidate is in maintenance", of_each(cluster(), in_maintenance("node2", "node3")), 1,
     ["mnvm: no candidate is left to take it over: node2 is in maintenance by me; node3"]),
    ("the VM is down", cluster(lease=FREE, vm="off"), 1, ["mnvm is not running; desired: started"]),
    ("the VM is off where the lease is", cluster(vm="off"), 1,
     ["mnvm is not running: it is off on node1, which holds the lease; desired: started"]),
    ("the VM is paused", cluster(vm="paused"), 1, ["mnvm is paused on node1; desired: started"]),
    ("its disk has paused the VM", of_each(cluster(vm="paused"), paused("its disk has no space left", 3)), 1,
     ["mnvm is paused on node1: its disk has no space left; desired: started; its guard resumes it"]),
    ("somebody has suspended the VM", of_each(cluster(vm="paused"), paused("somebody has suspended it", 0)), 1,
     ["mnvm is paused on node1: somebody has suspended it; desired: started; nobody resumes it but `virsh resume"]),
    ("the VM is starting", cluster(vm="starting"), 1, ["mnvm is starting on node1; desired: started"]),
    ("the VM runs and shall not", cluster(desired="stopped"), 1, ["mnvm runs on node1; desired: stopped"]),
    ("the lease is overdue", cluster(age_s=6.1, overdue=True), 1, ["the lease is overdue: node1 renewed it 6.1 s ago"]),
    ("the holder is down", cluster(alive=TWO, age_s=7.0, overdue=True), 1,
     ["mnvm is held by node1, which is down; desired: started", "node1: down: Consul says failed"]),
    ("the holder is down and its lease has expired", cluster(alive=TWO, age_s=9.0, overdue=True, expired=True), 1,
     ["mnvm is held by node1, which is down; the lease has expired; desired: started"]),
    ("a check fails", of_each(cluster(), failing), 1, ["node1, node2, node3: image: it is missing"]),
    ("the guest hangs", of_each(cluster(), hung), 1, ["mnvm: the guest does not answer: its agent is silent"]),
    ("the guest's addresses are another node's", of_each(cluster(), elsewhere), 1,
     ["mnvm: guest: node1's addresses could not be set: no ip"]),
    ("the guest's agent is gone", of_each(cluster(), absent), 1,
     ["mnvm: the guest runs and has not answered for 312 s: is its agent there?"]),
    ("the holder's minion is silent, and it renews", cluster(silent=["node1"]), 1,
     ["node1: minion silent, but Consul sees the node alive"]),
    ("the holder is silent and its lease overdue", cluster(silent=["node1"], age_s=6.0, overdue=True), 2,
     ["mnvm is held by node1, whose minion is silent: whether it runs is not known"]),
    ("the lease is deleted under a VM that runs", of_each(cluster(), without("lease")), 1,
     ["mnvm: its lease is missing in Consul, somebody has deleted it. A guard that sees this kills its VM",
      "`salt '*' state.apply states.guard` creates it again; 60 s later",
      "it starts by itself"]),
    ("the lease is deleted and its VM killed", of_each(cluster(vm="off"), without("lease")), 1,
     ["mnvm is not running; desired: started", "mnvm: its lease is missing"]),
    ("the lease of a stopped VM is deleted", of_each(cluster(vm="off", desired="stopped"), without("lease")), 1,
     ["`salt-run mnha.start` starts it"]),
    ("the lease is deleted and a node silent", of_each(cluster(vm="off", silent=["node1"]), without("lease")), 2,
     ["mnvm may be running or not: nobody could say", "mnvm: its lease is missing"]),
    ("the desired state is no word that there is", cluster(desired="yes"), 1,
     ["mnvm: its desired state in Consul is 'yes', which is none", "writes it again"]),
    ("the desired state is deleted", of_each(cluster(), without("desired")), 1,
     ["mnvm: its desired state is missing in Consul", "`salt-run mnha.start` or `salt-run mnha.stop` writes it again"]),
    ("lease and desired state are deleted", of_each(cluster(vm="off"), without("lease", "desired")), 1,
     ["mnvm: its lease is missing", "`salt-run mnha.start` starts it"]),
    ("all records of a VM are deleted", of_each(cluster(vm="off"), without("lease", "desired", "last_start")), 1,
     ["mnvm has no lease in Consul, and was never started by what it holds"]),
    ("the lease was created again", of_each(cluster(vm="off"), again), 1,
     ["mnvm is not running: its lease was created again, and may be taken 60 s after that; desired: started"]),
    ("a server of Consul does not vote yet", of_each(cluster(), servers(lame=["node3"])), 1,
     ["Consul: of 3 servers 2 vote and are well (node1, node2): no other may fail. One that has joined anew votes"]),
    ("two do not", of_each(cluster(), servers(lame=["node2", "node3"])), 1,
     ["Consul: of 3 servers 1 vote and are well (node1): if node1 fails, the quorum is lost"]),
    ("a server of Consul is not known at all", of_each(cluster(), servers(gone=["node3"])), 1,
     ["Consul: of 3 servers 2 vote and are well (node1, node2): no other may fail. One that has joined anew"]),
    ("a server of Consul is ill", of_each(cluster(), servers(ill=["node2"])), 1,
     ["(node1, node3): no other may fail; stop, restart or wipe none before all are well again"]),
    ("a certificate has ended", of_each(cluster(), certificate(-1.0)), 1,
     ["node2: Consul's certificate in /etc/mnha/tls/node.pem ended on 1969-12-31: `salt-run mnha.bootstrap"]),
    ("no guard answers", of_each(cluster(), no_guard), 2,
     ["mnvm is held by node1, whose guard is silent: whether it runs is not known", "node3: the guard does not"]),
    ("no quorum", of_each(cluster(), no_quorum), 2, ["no quorum of Consul is in reach", "node3: no quorum of Consul"]),
    ("no Consul at all", of_each(cluster(), no_consul), 2, ["nobody could ask Consul"]),
    ("no minion answers", {}, 2, ["nobody could ask Consul", "no minion answers this master"]),
]  # fmt: skip


@pytest.mark.parametrize(("reports", "code", "words"), [row[1:] for row in CODES], ids=[row[0] for row in CODES])
def test_the_exit_code_and_its_reasons(reports, code, words):
    found = summed(**reports)
    assert found["code"] == code, found["warnings"]
    assert found["result"] is (code < 2)
    assert found["health"] == report.WORDS[code]
    assert report.health(found) == (code, found["warnings"]), "every reason is a warning"
    assert bool(found["warnings"]) is (code > 0)
    for part in words:
        assert any(part in text for text in found["warnings"]), found["warnings"]
    assert not [(one, two) for one in found["warnings"] for two in found["warnings"] if two.startswith(f"{one};")]
    text = shown(found)
    assert text.startswith(f"example: {report.WORDS[code].upper()}: ")


def view(**changes):
    kept = one_report("node1")
    return {key: kept[key] for key in ("members", "applied", "vms", "nodes", "maintenance")} | {"errors": {}} | changes


def alone(**more):
    """No minion answers; this machine may read Consul's records."""
    return report.status(NODES, {}, now_s=1.0, waited_s=2.0, **more)


def test_a_holder_that_consul_sees_failed_is_not_said_to_run_though_a_late_commit_renewed_its_lease():
    """What a dead holder that led Consul had sent is committed by the next leader, seconds after its death."""
    members = [{**row, "status": "failed"} if row["node"] == "node1" else row for row in one_report("node1")["members"]]
    found = alone(records=view(members=members), renewed_s={"mnvm": 0.7})
    assert found["vms"]["mnvm"]["running_on"] is None
    assert "runs on" not in found["comment"], found["comment"]
    assert "node1, which is down" in found["comment"]


def test_when_no_minion_answers_consul_says_where_it_runs_and_no_healthy_node_is_accused():
    found = alone(records=view(), renewed_s={"mnvm": 0.7})
    assert (found["code"], found["result"]) == (1, True)
    assert found["comment"] == "mnvm runs on node1 by its record, and its lease is being renewed"
    assert found["vms"]["mnvm"]["running_on"] == "node1"
    assert len(found["warnings"]) == 1
    assert "no minion answers this master: the way between them is broken" in found["warnings"][0]
    assert "held by node1, epoch 7, renewed 0.7 s ago" in shown(found)


def test_what_a_quorum_takes_is_told_only_where_somebody_could_ask_for_it():
    assert "nobody could ask Consul" in summed()["warnings"], "and no more words"
    (told,) = (text for text in summed(**of_each(cluster(), no_quorum))["warnings"] if "is in reach" in text)
    assert told.endswith(report.START_CONSUL)


def test_a_record_of_a_lease_that_nobody_renews_is_not_believed():
    found = alone(records=view())
    assert found["code"] == 2
    assert found["vms"]["mnvm"]["running_on"] is None
    assert "is held by node1, whose minion is silent: whether it runs is not known" in found["comment"]
    assert "its last renewal was seen by nobody" in shown(found)


def test_without_a_master_that_is_the_reason():
    found = alone(records=view(), renewed_s={"mnvm": 0.7}, why_silent="no salt-master runs here")
    assert found["warnings"][0].startswith("no salt-master runs here; this is what Consul holds")


def test_who_was_not_asked_is_not_called_silent():
    found = alone(records=view(), why_silent="no salt-master runs here")
    assert {row["contact"] for row in found["nodes"].values()} == {report.NOT_ASKED}
    assert "which can't be asked from here: whether it runs is not known" in found["vms"]["mnvm"]["where"]
    assert "silent" not in found["vms"]["mnvm"]["where"]


def test_a_dead_node_is_told_by_consul_alone():
    members = [{"node": name, "status": "failed" if name == "node3" else "alive"} for name in NODES]
    found = alone(records=view(members=members), renewed_s={"mnvm": 0.7})
    assert "node3: down: Consul says failed" in found["warnings"]
    assert found["vms"]["mnvm"]["candidates"] == ["node2"]


def test_own_records_without_a_quorum_are_old_and_that_is_said():
    found = alone(records=view(errors={"consul": "no quorum of Consul in reach: no leader is known"}))
    assert found["code"] == 2
    assert "no quorum of Consul is in reach" in found["comment"]


def test_own_records_that_could_not_be_read_leave_those_of_the_reports():
    replies = {node: Reply(node, one_report(node), True) for node in NODES}
    found = report.status(NODES, replies, now_s=1.0, waited_s=0.3, records={"errors": {"consul": "refused"}})
    assert (found["code"], found["comment"]) == (0, "mnvm runs on node1")


def test_own_records_go_before_those_of_the_reports():
    replies = {node: Reply(node, one_report(node), True) for node in NODES}
    records = view(maintenance={"maintenance/node2": {"by": "me"}})
    found = report.status(NODES, replies, now_s=1.0, waited_s=0.3, records=records)
    assert found["vms"]["mnvm"]["candidates"] == ["node3"]


def test_a_cluster_without_any_lease_is_not_healthy():
    found = summed(**of_each(cluster(), lambda one: (one.update(vms={}), one["guard"].update(vms={}))))
    assert found["code"] == 1
    assert found["comment"] == "no VM has a lease yet: `state.apply states.guard` creates it"


def test_when_nobody_answers_it_ends_after_two_seconds():
    assert not report.heard_enough({}, 1.9)
    assert report.heard_enough({}, 2.0)


def test_what_is_no_fault_is_a_warning_and_changes_no_exit_code():
    found = summed(**of_each(cluster(), lambda one: one.update(applied=None)))
    assert found["code"] == 0
    assert found["warnings"] == ["no configuration has been applied yet: state.apply"]


def test_a_failure_that_repeats_itself_is_shown_with_its_count():
    event = {"at": "10:00", "event": "failover failed", "text": "no node", "count": 12, "last": "10:05"}
    text = shown({"result": True, "comment": "", "history": [event]})
    assert "no node (12 times since 10:00)" in text
    assert text.index("10:05") < text.index("no node"), "it stands where its last time is, with the epoch of that"


def test_of_a_deleted_lease_no_node_is_told_as_its_candidate():
    found = summed(**of_each(cluster(vm="off"), without("lease")))
    assert found["vms"]["mnvm"]["candidates"] == []
    assert set(found["vms"]["mnvm"]["rejected"].values()) == {"there is no lease to be taken"}
    assert "lease        missing: Consul holds no such record" in shown(found)
    assert not [text for text in found["warnings"] if "no candidate is left" in text]


def test_a_lease_that_nobody_has_taken_yet_is_held_by_nobody():
    text = shown(summed(**of_each(cluster(vm="off"), again)))
    assert "lease        held by nobody, epoch 90: nobody has taken it since it was created" in text


def test_a_vm_without_any_record_is_told_by_the_configuration():
    """All its records deleted, and no guard heard."""
    config = {"name": "example", "vms": {"mnvm": {}}}
    reports = of_each(cluster(), without("lease", "desired", "last_start"))
    found = summed(**of_each(reports, lambda one: one.update(guard=None, applied={"cluster": config}, config=config)))
    assert found["code"] == 2
    assert "mnvm has no lease in Consul" in " ".join(found["warnings"])


def test_how_many_of_consuls_servers_may_fail_is_always_told():
    found = summed(**of_each(cluster(), servers()))
    assert (found["code"], found["consul"]["may_fail"], found["consul"]["should"]) == (0, 1, 1)
    assert "Consul: 3 of 3 servers vote and are well; 1 may fail" in shown(found)
    assert summed(**cluster())["consul"] is None, "an older minion does not tell"


def test_a_certificate_that_ends_soon_is_a_warning_and_changes_no_exit_code():
    found = summed(**of_each(cluster(), certificate(29.9)))
    assert found["code"] == 0
    (warning,) = found["warnings"]
    assert warning == (
        "node2: Consul's certificate in /etc/mnha/tls/node.pem ends on 1970-01-30, in 30 days: `salt-run mnha.bootstrap"
        " cluster=example renew_certificates=True`, then `salt '*' state.apply`"
    )
    assert summed(**of_each(cluster(), certificate(30.1)))["warnings"] == []


def test_a_minion_that_answers_and_can_not_report_tells_what_it_has_lost():
    replies = {node: Reply(node, value, True) for node, value in cluster().items()}
    replies["node2"] = Reply("node2", "'mnvm.report' is not available.", False)
    replies["node3"] = Reply("node3", "'mnvm.report' is not available.", False)
    assert report.without_report(replies) == ["node2", "node3"]
    lost = {"node2": Reply("node2", ["Salt's own Python misses consul", "Salt can't load guard: repair it"], False),
            "node3": Reply("node3", "'mnha_service.lost' is not available.", False)}  # fmt: skip
    found = report.status(NODES, report.explained(replies, lost), now_s=1.0, waited_s=0.8)
    assert found["code"] == report.DEGRADED
    assert "node2: Salt's own Python misses consul; Salt can't load guard: repair it" in found["warnings"]
    brought = "its minion has none of this project's modules: `salt node3 state.apply` brings them"
    assert f"node3: {brought}" in found["warnings"]
    assert re.search(r"node2  no report +alive +-  ", shown(found))
    assert found["vms"]["mnvm"]["candidates"] == ["node2", "node3"], "of their guards nobody has said anything bad"


def test_a_minion_that_can_not_say_why_it_can_not_report_is_told_by_its_own_words():
    replies = {node: Reply(node, value, True) for node, value in cluster().items()}
    replies["node2"] = Reply("node2", "Traceback", False)
    for lost in ({}, {"node2": Reply("node2", [], True)}):
        assert report.explained(replies, lost)["node2"].value == "Traceback"
