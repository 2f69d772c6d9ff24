"""A cluster's configuration: what is accepted, what is refused and with which words, and its other forms."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from mnha import config
from mnha.config.reference import reference
from mnha.core.timing import PROFILES
from mnha.errors import ConfigurationError, InputError
from tests.support.example import ROOT, example_pillar, example_with
from tests.support.library import LIBRARY

MAC = "52:54:00:5a:01:02"
SECOND_VM = {
    "uuid": "7f2b1f0e-4a4e-4b3c-9d53-6f1f6a0f4c11",
    "cpus": 4,
    "memory_mib": 8192,
    "image": "second.img",
    "networks": [
        {
            "bridge": "br_mgmt",
            "mac": MAC,
            "address": "172.20.198.11",
            "netmask": "255.255.255.0",
            "gateway": "172.20.198.1",
            "management": True,
            "default_route": True,
        }
    ],
}
NET = "vms:mnvm:networks:0"


def faults_of(changes: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Path (below mnha:cluster), problem and remedy of every fault of the changed example."""
    with pytest.raises(ConfigurationError) as caught:
        config.load(example_with(changes))
    prefix = "mnha:cluster:"
    assert all(fault.path.startswith(prefix) for fault in caught.value.faults)
    return [(f.path.removeprefix(prefix), f.problem, f.remedy) for f in caught.value.faults]


def test_the_example_is_valid_and_gets_the_defaults() -> None:
    cluster = config.load(example_pillar())
    vm = cluster.require_vm("mnvm")
    assert cluster.effective_timings == PROFILES["default"]
    assert (cluster.watchdog, cluster.masterless_takeover_after_s) == ("automatic", 2.0)
    assert (vm.domain_type, vm.restarts.max, vm.health.tcp_port) == ("auto", 3, 8080)


RBD = {"pool": "mn", "monitors": ["10.0.0.1"]}
IN_CEPH = {"vms:mnvm:image": ..., "vms:mnvm:rbd:pool": "mn", "vms:mnvm:rbd:monitors": ["10.0.0.1"]}
ONE_FAULT: list[tuple[str, dict[str, Any], str, str, str]] = [
    # what, changes to the example, path of the fault, words of the problem, words of the remedy
    ("no name", {"name": ...}, "name", "is missing", "the cluster's name"),
    ("empty name", {"name": None}, "name", "is empty", "a cluster name"),
    ("upper-case name", {"name": "Prod"}, "name", "not a cluster name", "lower-case"),
    ("number as name", {"name": 7}, "name", "not a cluster name", "put it in quotes"),
    ("unknown key", {"watchdogs": "off"}, "watchdogs", "no known key", "did you mean watchdog?"),
    ("unknown key in depth", {"vms:mnvm:memory": 1}, "vms:mnvm:memory", "no known key", "did you mean memory_mib?"),
    ("unknown key with nothing like it", {"zzz": 1}, "zzz", "no known key", "known are name, timings"),
    ("unknown watchdog word", {"watchdog": "on"}, "watchdog", "none of required, automatic, off", "write one of them"),
    ("misspelt watchdog word", {"watchdog": "require"}, "watchdog", "none of", "did you mean required?"),
    ("unknown word for mounts", {"unsafe_mount": "ignore"}, "unsafe_mount", "none of refuse, warn", "one of them"),
    ("watchdog true", {"watchdog": True}, "watchdog", "True is none of", "write one of them"),
    ("driver with options", {"watchdog_driver": "softdog x=0"}, "watchdog_driver", "not a kernel module", "softdog"),
    (
        "kill shorter than a watchdog can tell",
        {"timings": {"renew_s": 0.5, "deadline_s": 3, "kill_s": 0.9, "lease_s": 5}},
        "timings:kill_s",
        "whole seconds",
        "raise it to 1",
    ),
    ("watchdog zero", {"watchdog": 0}, "watchdog", "0 is none of", "write one of them"),
    ("unknown profile", {"timings": "quick"}, "timings", "no profile", "default, fast"),
    ("timings with a gap", {"timings": {"renew_s": 1, "deadline_s": 5, "kill_s": 2}}, "timings:lease_s", "missing", ""),
    (
        "unsafe lease",
        {"timings": {"renew_s": 1, "deadline_s": 5, "kill_s": 2, "lease_s": 7}},
        "timings:lease_s",
        "7 > (5 + 2)",
        "raise lease_s",
    ),
    ("storage given up too soon", {"storage_lost_after_s": 5}, "storage_lost_after_s", "other nodes reach", "or 0: "),
    ("guards too soon", {"masterless_takeover_after_s": 0.5}, "masterless_takeover_after_s", "up to 1 s", "or 0: "),
    ("announced too early", {"announce_s": 6}, "announce_s", "lease_s - 3 · renew_s", "lower it to 5"),
    ("announce_s in quotes", {"announce_s": "2"}, "announce_s", "'2' is not a number", "without quotes"),
    ("not a number", {"announce_s": float("nan")}, "announce_s", "", ""),
    ("negative takeover", {"masterless_takeover_after_s": -1}, "masterless_takeover_after_s", "below the minimum", ""),
    ("relative image folder", {"image_folder": "opt/smp"}, "image_folder", "relative path", "from / on"),
    ("root as image folder", {"image_folder": "/"}, "image_folder", "root folder", "below it"),
    ("no nodes", {"nodes": ...}, "nodes", "is missing", "three or five"),
    ("two nodes", {"nodes:node3": ...}, "nodes", "2 nodes form no cluster", "3 nodes"),
    (
        "four nodes",
        {"nodes:node4": {"management": "172.20.198.6", "storage": "192.168.93.6"}},
        "nodes",
        "4 nodes form no cluster",
        "even number",
    ),
    ("address with prefix", {"nodes:node1:storage": "192.168.93.3/24"}, "nodes:node1:storage", "", "/prefix away"),
    ("address of nobody", {"nodes:node1:storage": "224.0.0.1"}, "nodes:node1:storage", "address of a host", "unicast"),
    ("address twice", {"nodes:node2:storage": "192.168.93.3"}, "nodes:node2:storage", "nodes:node1:storage", "own"),
    ("node without storage", {"nodes:node1:storage": ...}, "nodes:node1:storage", "missing", "storage network"),
    ("node as text", {"nodes:node1": "172.20.198.3"}, "nodes:node1", "not a mapping", "write a mapping"),
    ("unknown source", {"consul:source": {"kind": "repo"}}, "consul:source:kind", "'repo' is none of", "repository?"),
    ("source without kind", {"consul:source": {"url": "https://x"}}, "consul:source:kind", "missing", "give it"),
    ("key of another kind", {"consul:source:path": "/x"}, "consul:source:path", "no known key", "known are kind, url"),
    ("file without sum", {"consul:source": {"kind": "file", "path": "/x"}}, "consul:source:sha256", "missing", "SHA"),
    ("port out of range", {"consul:ports": {"https": 70000}}, "consul:ports:https", "above the maximum of 65535", ""),
    ("port twice", {"consul:ports": {"https": 8300}}, "consul:ports:server", "port 8300", "own port") ,
    ("no index, no links", {"packages": {"pip": {"no_index": True}}}, "packages:pip:find_links", "missing", "where"),
    ("nobody is master", {"salt": {"masters_on_nodes": False}}, "salt:masters", "no master", "masters_on_nodes"),
    ("one file", {"salt": {"pillar_files": "*"}}, "salt:pillar_files", "list", "list"),
    ("bad master", {"salt": {"masters": ["a b"]}}, "salt:masters:0", "neither", "one of the two"),
    ("no VM", {"vms": {}}, "vms", "no VM", "mnvm"),
    ("VM name with a slash", {"vms:a/b": SECOND_VM}, "vms:a/b", "not a VM name", "lower-case"),
    ("UUID of nobody", {"vms:mnvm:uuid": "00000000-0000-0000-0000-000000000000"}, "vms:mnvm:uuid", "nil", "uuidgen"),
    ("cpus in quotes", {"vms:mnvm:cpus": "4"}, "vms:mnvm:cpus", "'4' is not a whole number", "without quotes"),
    ("cpus true", {"vms:mnvm:cpus": True}, "vms:mnvm:cpus", "not a whole number", ""),
    ("too few cpus", {"vms:mnvm:cpus": 2}, "vms:mnvm:cpus", "minimum of 4", "minimum_size"),
    ("too little memory", {"vms:mnvm:memory_mib": 4096}, "vms:mnvm:memory_mib", "minimum of 8192", "minimum_size"),
    ("image outside", {"vms:mnvm:image": "../x.img"}, "vms:mnvm:image", "not a file in image_folder", "without .."),
    ("image by absolute path", {"vms:mnvm:image": "/x.img"}, "vms:mnvm:image", "not a file in image_folder", ""),
    ("unknown format", {"vms:mnvm:image_format": "qcow"}, "vms:mnvm:image_format", "none of", "did you mean qcow2?"),
    ("shared image", {"vms:two": {**SECOND_VM, "image": "mnvm.img"}}, "vms:two:image", "vms:mnvm:image", "writers"),
    ("no disk", {"vms:mnvm:image": ...}, "vms:mnvm:image", "is missing", "or `rbd`"),
    ("two disks", {"vms:mnvm:rbd": RBD}, "vms:mnvm:rbd", "a VM has one disk", "keep one"),
    ("no folder", {"image_folder": ...}, "image_folder", "vms:mnvm:image names a file in it", "shared folder"),
    (
        "no folder to boot from",
        {**IN_CEPH, "vms:mnvm:boot": {"kernel": "vmlinuz"}, "image_folder": ...},
        "image_folder",
        "vms:mnvm:boot names a file in it",
        "shared folder",
    ),
    ("no pool", {"vms:mnvm:image": ..., "vms:mnvm:rbd:monitors": ["a"]}, "vms:mnvm:rbd:pool", "is missing", "pool"),
    ("pool with image", {**IN_CEPH, "vms:mnvm:rbd:pool": "a/b"}, "vms:mnvm:rbd:pool", "not the name of a pool", "ls"),
    ("no monitors", {**IN_CEPH, "vms:mnvm:rbd:monitors": []}, "vms:mnvm:rbd:monitors", "is empty", "ceph mon dump"),
    ("odd monitor", {**IN_CEPH, "vms:mnvm:rbd:monitors": ["a:b"]}, "vms:mnvm:rbd:monitors:0", "no port", "HOST:PORT"),
    ("one monitor", {**IN_CEPH, "vms:mnvm:rbd:monitors": "a"}, "vms:mnvm:rbd:monitors", "not a list", "[10.0.0.1]"),
    ("whole user", {**IN_CEPH, "vms:mnvm:rbd:user": "client.x"}, "vms:mnvm:rbd:user", "begins with", "leave that away"),
    (
        "shared RBD image",
        {**IN_CEPH, "vms:two": {**SECOND_VM, "image": None, "rbd": {**RBD, "image": "mnvm"}}},
        "vms:two:rbd",
        "vms:mnvm:rbd",
        "writers",
    ),
    (
        "shared UUID",
        {"vms:two": {**SECOND_VM, "uuid": "6F2B1F0E-4A4E-4B3C-9D53-6F1F6A0F4C11"}},
        "vms:two:uuid",
        "vms:mnvm:uuid",
        "uuidgen",
    ),
    ("no networks", {"vms:mnvm:networks": ...}, "vms:mnvm:networks", "missing", "network interfaces"),
    ("network without list", {"vms:mnvm:networks": {}}, "vms:mnvm:networks", "not a list", "[value]"),
    ("bridge name too long", {f"{NET}:bridge": "b" * 16}, f"{NET}:bridge", "name of a network interface", "15"),
    ("multicast MAC", {f"{NET}:mac": "53:54:00:00:00:01"}, f"{NET}:mac", "multicast", "even"),
    ("MAC that YAML read", {f"{NET}:mac": 41135085296}, f"{NET}:mac", "is a number", "YAML reads a MAC of digits"),
    ("no management network", {f"{NET}:management": False}, "vms:mnvm:networks", "0 networks have `management", "one"),
    ("no default route", {f"{NET}:default_route": False}, "vms:mnvm:networks", "0 networks have `default", "one"),
    ("management in text", {f"{NET}:management": "yes"}, f"{NET}:management", "not true or false", "without quotes"),
    ("no address", {f"{NET}:address": ...}, f"{NET}:address", "missing although", "give it"),
    ("no netmask", {f"{NET}:netmask": ...}, f"{NET}:netmask", "missing although address", "give it"),
    ("odd netmask", {f"{NET}:netmask": "255.0.255.0"}, f"{NET}:netmask", "not the mask", "255.255.255.0"),
    ("no gateway", {f"{NET}:gateway": ...}, f"{NET}:gateway", "missing although default_route", "give it"),
    ("gateway elsewhere", {f"{NET}:gateway": "172.20.199.1"}, f"{NET}:gateway", "not in the guest's network", ""),
    ("gateway is the guest", {f"{NET}:gateway": "172.20.198.10"}, f"{NET}:gateway", "own address", "router"),
    ("address of the network", {f"{NET}:address": "172.20.198.0"}, f"{NET}:address", "no host's address", "between"),
    ("address of a node", {f"{NET}:address": "172.20.198.4"}, f"{NET}:address", "nodes:node2:management", "own"),
    ("a node is missing", {f"{NET}:address": "172.20.198.10@node1,172.20.198.10@node2"}, f"{NET}:address", "node3", ""),
    (
        "a node that is none",
        {f"{NET}:address": dict.fromkeys(("node1", "node2", "node3", "node4"), "172.20.198.10")},
        f"{NET}:address:node4",
        "no node of the cluster",
        "node1, node2, node3",
    ),
    ("not value@node", {f"{NET}:address": "172.20.198.10@"}, f"{NET}:address", "form value@node", "every node once"),
    ("bad address at a node", {f"{NET}:address": {"node1": "1.2.3"}}, f"{NET}:address:node1", "not an IPv4", "four"),
    ("bad name server", {"vms:mnvm:dns": ["dns"]}, "vms:mnvm:dns:0", "not an IPv4 address", "four numbers"),
    ("preferred stranger", {"vms:mnvm:prefer": ["node9"]}, "vms:mnvm:prefer:0", "no node", "node1, node2, node3"),
    ("preferred twice", {"vms:mnvm:prefer": ["node1", "node1"]}, "vms:mnvm:prefer:1", "also that of", "once"),
    ("prefer without list", {"vms:mnvm:prefer": "node1"}, "vms:mnvm:prefer", "not a list", "[value]"),
    ("boot without kernel", {"vms:mnvm:boot": {"cmdline": "x"}}, "vms:mnvm:boot:kernel", "missing", "kernel"),
    ("restarts as number", {"vms:mnvm:restarts": 3}, "vms:mnvm:restarts", "not a mapping", "how often"),
    ("no time to stop", {"vms:mnvm:stop_timeout_s": 0}, "vms:mnvm:stop_timeout_s", "not above 0", "shut down"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "path", "problem", "remedy"), [case[1:] for case in ONE_FAULT], ids=[case[0] for case in ONE_FAULT]
)
def test_one_fault_gives_one_complaint_with_path_and_remedy(
    changes: dict[str, Any], path: str, problem: str, remedy: str
) -> None:
    found = faults_of(changes)
    assert [fault[0] for fault in found] == [path]
    assert problem in found[0][1]
    assert remedy in found[0][2]
    assert found[0][2], "every fault has a remedy"


def test_all_faults_come_at_once_also_those_between_keys() -> None:
    found = faults_of(
        {
            "watchdog": "maybe",
            "nodes:node2:storage": "192.168.93.3",
            "nodes:node3:storage": "nowhere",
            "timings": {"renew_s": 3, "deadline_s": 5, "kill_s": 2, "lease_s": 6},
            "vms:mnvm:cpus": "four",
            "vms:mnvm:memory_mib": 512,
            "vms:mnvm:networks:0:dhcp": True,
            "vms:mnvm:prefer": ["node7"],
            "vms:two": {**SECOND_VM, "image": "mnvm.img"},
        }
    )
    assert [fault[0] for fault in found] == [
        "nodes:node2:storage",
        "nodes:node3:storage",
        "timings:lease_s",
        "timings:renew_s",
        "vms:mnvm:cpus",
        "vms:mnvm:memory_mib",
        "vms:mnvm:networks:0:dhcp",
        "vms:mnvm:prefer:0",
        "vms:two:image",
        "watchdog",
    ]


def test_a_fault_does_not_drag_others_along() -> None:
    """A faulty value counts as present: nothing else is reported as missing because of it."""
    assert len(faults_of({f"{NET}:address": "x"})) == 1
    assert len(faults_of({f"{NET}:gateway": "x"})) == 1
    assert len(faults_of({"nodes:node1": 3})) == 1
    assert len(faults_of({f"{NET}:management": "x"})) == 1


@pytest.mark.parametrize("pillar", [{}, {"mnha": None}, {"mnha": {"cluster": []}}, {"mnha": {"cluster": "example"}}])
def test_a_pillar_without_cluster_says_where_one_is_assigned(pillar: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"mnha:cluster: .*top\.sls"):
        config.load(pillar)


def test_the_message_lists_every_fault_on_a_line_of_its_own() -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.load(example_with({"watchdog": "maybe", "vms:mnvm:cpus": 1}))
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 faults in the configuration:"
    assert lines[1].startswith("  mnha:cluster:vms:mnvm:cpus: 1 is below the minimum of 4; ")
    assert lines[2].startswith("  mnha:cluster:watchdog: 'maybe' is none of")


def test_what_stands_beside_the_cluster_is_not_looked_at() -> None:
    pillar = example_pillar()
    pillar["mnha"]["secrets"] = {"gossip": "x"}
    pillar["other"] = 1
    assert config.load(pillar) == config.load(example_pillar())


def test_off_without_quotes_switches_the_watchdog_off() -> None:
    text = yaml.safe_dump(example_pillar()).replace("watchdog: automatic", "watchdog: off")
    assert config.load(yaml.safe_load(text)).watchdog == "off"


def test_a_small_vm_is_allowed_where_the_minimum_is_switched_off() -> None:
    pillar = example_with({"minimum_size": False, "vms:mnvm:cpus": 1, "vms:mnvm:memory_mib": 256})
    assert config.load(pillar).vms["mnvm"].memory_mib == 256


def test_both_spellings_of_values_per_node_mean_the_same() -> None:
    subnets = {"node1": "172.20.198", "node2": "172.20.200", "node3": "172.20.210"}
    by_mapping = {
        f"{NET}:address": {node: f"{net}.10" for node, net in subnets.items()},
        f"{NET}:gateway": {node: f"{net}.1" for node, net in subnets.items()},
    }
    by_text = {path: ", ".join(f"{value}@{node}" for node, value in m.items()) for path, m in by_mapping.items()}
    cluster = config.load(example_with(by_mapping))
    assert cluster == config.load(example_with(by_text))
    address = cluster.vms["mnvm"].networks[0].address
    assert address is not None
    assert config.value_at(address, "node2") == "172.20.200.10"
    assert config.guard_config(cluster, "node3")["vms"][0]["address"] == "172.20.210.10"


def test_values_get_their_canonical_form() -> None:
    cluster = config.load(
        example_with(
            {f"{NET}:mac": "52-54-00-5A-01-01", "image_folder": "//opt/smp/mngt/", "vms:mnvm:image": "./a/../b"}
        )
    )
    assert cluster.vms["mnvm"].networks[0].mac == "52:54:00:5a:01:01"
    assert (cluster.image_folder, cluster.vms["mnvm"].image) == ("/opt/smp/mngt", "b")


def test_a_configuration_can_not_be_changed_and_none_can_be_made_that_breaks_a_rule() -> None:
    cluster = config.load(example_pillar())
    with pytest.raises(ValidationError, match="frozen"):
        cluster.name = "other"
    data = cluster.to_mapping()
    data["nodes"].pop("node3")
    with pytest.raises(ValidationError, match="2 nodes form no cluster"):
        config.ClusterConfig.model_validate(data)


def test_the_applied_form_is_stable_and_read_back() -> None:
    pillar = example_pillar()
    cluster = config.load(pillar)
    text = config.applied_to_json(config.Applied(4, cluster))
    turned = {"mnha": {"cluster": dict(reversed(pillar["mnha"]["cluster"].items()))}}
    assert config.applied_to_json(config.Applied(4, config.load(turned))) == text
    assert config.load_json(text) == config.Applied(4, cluster)
    assert json.loads(text)["v"] == config.FORMAT


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"v": 2, "version": 1}', '{"v": 1, "version": true, "cluster": {}}'])
def test_an_applied_form_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="applied configuration"):
        config.load_json(text)


def test_the_guard_gets_all_it_needs_and_nothing_of_other_nodes_but_their_addresses() -> None:
    derived = config.guard_config(config.load(example_with({"timings": "fast"})), "node2")
    assert derived["timings"] == {"renew_s": 0.5, "deadline_s": 2.5, "kill_s": 1.0, "lease_s": 4.0}
    assert [server["host"] for server in derived["consul"]["servers"]] == ["127.0.0.1", "192.168.93.3", "192.168.93.5"]
    assert derived["vms"][0]["image"] == "/opt/smp/mngt/mnvm.img"
    assert derived["vms"][0]["bridges"] == ["br_mgmt"]
    assert json.loads(json.dumps(derived)) == derived


def test_the_guard_gets_nothing_that_nobody_reads() -> None:
    derived = config.guard_config(config.load(example_pillar()), "node2")
    readers = [path for folder in ("core", "daemon") for path in (LIBRARY / folder).rglob("*.py")]
    sources = [path.read_text(encoding="utf-8") for path in readers]
    parts = [derived, derived["consul"], derived["consul"]["servers"][0], derived["vms"][0]]
    assert [key for part in parts for key in part if not any(f'"{key}"' in text for text in sources)] == []


def test_a_name_that_does_not_exist_is_answered_with_those_that_do() -> None:
    cluster = config.load(example_pillar())
    with pytest.raises(InputError, match=r"no node 'node9'; its nodes are node1, node2, node3"):
        config.guard_config(cluster, "node9")
    with pytest.raises(InputError, match=r"no VM 'x'; its VMs are mnvm"):
        cluster.require_vm("x")


GIB = 1024
OWN = {"renew_s": 1, "deadline_s": 5, "kill_s": 4, "lease_s": 10}


def in_gib(gib: float, timings: Any = "default") -> dict[str, Any]:
    """The example with so large a VM."""
    return {"vms:mnvm:memory_mib": int(gib * GIB), "timings": timings, "announce_s": 0}


@pytest.mark.parametrize(
    ("changes", "problem", "remedy"),
    [
        (in_gib(256), "256 GiB takes 2.30 s at the very least until its memory is freed, and kill_s is 2: then",
         "raise kill_s to 26 and lease_s to 32"),
        (in_gib(128, "fast"), "128 GiB takes 1.15 s at the very least until its memory is freed, and kill_s is 1",
         "raise kill_s to 13 and lease_s to 16"),
        (in_gib(1024), "1024 GiB takes 9.22 s", "no timing may exceed 60 s: give it less memory"),
    ],
)  # fmt: skip
def test_a_vm_whose_memory_can_not_be_freed_within_k_is_refused(
    changes: dict[str, Any], problem: str, remedy: str
) -> None:
    ((path, found, what_to_do),) = faults_of(changes)
    assert path == "vms:mnvm:memory_mib"
    assert problem in found
    assert remedy in what_to_do


def test_a_vm_too_large_for_k_is_told_beside_other_faults() -> None:
    paths = [path for path, _, _ in faults_of({**in_gib(256), "vms:mnvm:cpus": "4", "watchdog": "of"})]
    assert paths == ["vms:mnvm:cpus", "vms:mnvm:memory_mib", "watchdog"]


@pytest.mark.parametrize(
    ("changes", "problem", "remedy"),
    [
        (in_gib(32), "32 GiB may take 3.20 s or longer", "raise kill_s to 4 and lease_s to 10"),
        (in_gib(16, "fast"), "16 GiB may take 1.60 s or longer", "use timings: default"),
        (in_gib(200), "200 GiB may take 20.00 s or longer", "raise kill_s to 20 and lease_s to 26"),
    ],
)
def test_a_vm_whose_memory_may_not_be_freed_within_k_is_warned_of(
    changes: dict[str, Any], problem: str, remedy: str
) -> None:
    (doubt,) = config.doubts(config.load(example_with(changes)))
    assert doubt.path == "mnha:cluster:vms:mnvm:memory_mib"
    assert doubt.value == changes["vms:mnvm:memory_mib"]
    assert problem in doubt.problem
    assert remedy in doubt.remedy


@pytest.mark.parametrize("changes", [in_gib(8), in_gib(20), in_gib(8, "fast"), in_gib(40, OWN)])
def test_a_vm_whose_memory_fits_k_is_not_warned_of(changes: dict[str, Any]) -> None:
    assert config.doubts(config.load(example_with(changes))) == []


@pytest.mark.parametrize("gib", [41, 64, 200, 400])
def test_the_timings_that_a_warning_names_are_accepted_and_end_it(gib: int) -> None:
    (doubt,) = config.doubts(config.load(example_with(in_gib(gib, OWN))))
    found = re.search(r"raise kill_s to (\d+) and lease_s to (\d+)", doubt.remedy)
    assert found
    raised = {**OWN, "kill_s": int(found[1]), "lease_s": int(found[2])}
    assert config.doubts(config.load(example_with(in_gib(gib, raised)))) == []


def test_the_reference_is_what_the_model_says() -> None:
    path = ROOT / "pillar/defaults.yaml"
    assert path.read_text(encoding="utf-8") == reference(), "run `make generated`"


def test_the_references_values_are_the_models_defaults() -> None:
    """Filled in with the required values, the reference is the same configuration as without any optional key."""
    listed = yaml.safe_load(reference())["mnha"]["cluster"]
    required = config.load(example_with({f"{NET}:management": True})).to_mapping()
    listed |= {key: required[key] for key in ("name", "image_folder", "nodes")}
    template, vm = listed["vms"]["VM"], required["vms"]["mnvm"]
    template |= {key: vm[key] for key in ("uuid", "cpus", "memory_mib", "image", "networks")}
    listed["vms"] = {"mnvm": template}
    minimal = {key: listed[key] for key in ("name", "image_folder", "nodes")}
    minimal["vms"] = {"mnvm": {key: vm[key] for key in ("uuid", "cpus", "memory_mib", "image", "networks")}}
    assert config.load_mapping(listed) == config.load_mapping(minimal)


def test_what_does_not_need_the_configuration_does_not_need_pydantic() -> None:
    code = "import sys; sys.modules['pydantic'] = None\nimport mnha.guest.domain, mnha.core.decide, mnha.core.guard"
    environment = {"PYTHONPATH": str(ROOT / "salt/_utils")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


def test_a_vm_that_is_larger_than_a_node_is_warned_of() -> None:
    cluster = config.load(example_with({"vms:mnvm:cpus": 8, "vms:mnvm:memory_mib": 8192}))
    told = [str(doubt) for doubt in config.doubts(cluster, 8191, 4)]
    assert [text.split(":")[:5][-1] for text in told] == ["memory_mib", "cpus"]
    assert "this node has 8191 MiB of memory in all" in told[0]
    assert "this node has 4 cores in all" in told[1]
    assert config.doubts(cluster, 8192, 8) == config.doubts(cluster) == []
