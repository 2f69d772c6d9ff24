"""The hosts' networks in a configuration: what is accepted, and each way to get them wrong."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mnha import config
from mnha.errors import ConfigurationError
from tests.support.example import example_with

NETWORKS: dict[str, Any] = {
    "bonds": {
        "bond0": {"links": ["p5p1", "p5p2"]},
        "bond1": {"links": {"node1": ["eth0", "eth1"], "node2": ["eno1", "eno2"], "node3": ["eth0", "eth1"]}},
        "bond2": {"links": ["em1", "em2"], "mode": 1, "primary": "em1"},
    },
    "storage": {"device": "bond0", "bridge": "br_bond0", "mtu": 9000, "prefix": 24, "gateway": "192.168.93.1"},
    "management": {"device": "bond1", "bridge": "br_bond1", "prefix": 24, "gateway": "172.20.198.1"},
    "data": {"device": "bond2"},
}


def faults_of(changes: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Path below `networks`, problem and remedy of every fault of the changed networks."""
    base = {f"networks:{key}": copy.deepcopy(value) for key, value in NETWORKS.items()}
    elsewhere = ("nodes", "vms")
    base |= {key if key.startswith(elsewhere) else f"networks:{key}": value for key, value in changes.items()}
    with pytest.raises(ConfigurationError) as caught:
        config.load(example_with(base))
    paths = [fault.path.removeprefix("mnha:cluster:").removeprefix("networks:") for fault in caught.value.faults]
    return [(path, fault.problem, fault.remedy) for path, fault in zip(paths, caught.value.faults, strict=True)]


def test_the_old_suites_three_networks_are_accepted_and_read_back() -> None:
    cluster = config.load(example_with({"networks": NETWORKS}))
    assert cluster.networks is not None
    assert cluster.networks.bonds["bond2"].mode == "active-backup"
    assert cluster.networks.bonds["bond0"].mode == "802.3ad"
    assert config.load(cluster.to_pillar()) == cluster
    assert config.load_json(config.applied_to_json(config.Applied(1, cluster))).cluster == cluster


@pytest.mark.parametrize("mode", ["4", 4, "802.3ad"])
def test_a_mode_is_given_by_its_name_or_its_number_quoted_or_not(mode: Any) -> None:
    cluster = config.load(example_with({"networks": NETWORKS, "networks:bonds:bond0:mode": mode}))
    assert cluster.networks is not None
    assert cluster.networks.bonds["bond0"].mode == "802.3ad"


def test_a_list_of_known_words_is_told_once() -> None:
    ((_, problem, remedy),) = faults_of({"bonds:bond0:mode": "active"})
    assert "active-backup" in problem
    assert remedy.startswith("did you mean active-backup? write one of them: ")
    assert "balance-rr" not in remedy


def doubts_of(changes: dict[str, Any]) -> list[str]:
    base = {f"networks:{key}": copy.deepcopy(value) for key, value in NETWORKS.items()}
    bridge = {"vms:mnvm:networks:0:bridge": "br_bond1"}
    return [str(doubt) for doubt in config.doubts(config.load(example_with(base | bridge | changes)))]


def test_what_may_turn_out_badly_is_a_doubt() -> None:
    assert doubts_of({}) == []
    assert doubts_of({"networks:data:device": "em7"}) == [], "an interface may be called so"
    (doubt,) = doubts_of({"networks:data:device": "bond9"})
    assert "networks:data:device: bond9 is named like a bond, and networks:bonds has none of that name" in doubt
    (doubt,) = doubts_of({"vms:mnvm:networks:0:bridge": "br_mgmt"})
    assert "no network of `networks` makes the bridge br_mgmt: it must be there already" in doubt
    bridges = {
        "networks:storage:bridge": ...,
        "networks:management:bridge": ...,
        "vms:mnvm:networks:0:bridge": "br_mgmt",
    }
    assert doubts_of(bridges) == [], "no network makes any: all bridges are there already"


def test_left_out_nothing_is_said_of_them() -> None:
    assert config.load(example_with({})).networks is None


def test_two_networks_share_a_bond_by_their_vlans() -> None:
    networks = {
        "bonds": {"bond0": {"links": ["eth0", "eth1"]}},
        "storage": {"device": "bond0", "vlan": 93, "mtu": 9000, "prefix": 24},
        "management": {"device": "bond0", "vlan": 198, "bridge": "br_mgmt", "prefix": 24, "gateway": "172.20.198.1"},
    }
    assert config.load(example_with({"networks": networks})).networks is not None


ONE_FAULT: list[tuple[str, dict[str, Any], str, str, str]] = [
    # what, changes, path of the fault, words of the problem, words of the remedy
    ("no links", {"bonds:bond0:links": []}, "bonds:bond0:links", "is empty", "name the interfaces"),
    ("links as text", {"bonds:bond0:links": "p5p1"}, "bonds:bond0:links", "not a list", "[eth0]"),
    ("a link twice", {"bonds:bond0:links": ["a", "a"]}, "bonds:bond0:links", "names a twice", "once"),
    ("a link's name", {"bonds:bond0:links": ["a", "b c"]}, "bonds:bond0:links:1", "not the name", "15"),
    ("a link's name at a node", {"bonds:bond1:links:node2": ["a", "b c"]}, "bonds:bond1:links:node2:1", "", "15"),
    ("a node is missing", {"bonds:bond1:links:node3": ...}, "bonds:bond1:links", "no value for node3", ""),
    ("a stranger", {"bonds:bond1:links:node9": ["a"]}, "bonds:bond1:links:node9", "no node", "node1, node2"),
    ("two bonds with one link", {"bonds:bond2:links": ["em1", "p5p2"]}, "bonds:bond2:links", "in bond0 already", "own"),
    ("two bonds with one link on one node", {"bonds:bond1:links:node2": ["em1", "eno2"]}, "bonds:bond2:links",
     "em1 of node2 is in bond1", "own"),
    ("unknown mode", {"bonds:bond0:mode": "lacp"}, "bonds:bond0:mode", "none of", "by its name or number"),
    ("mode number", {"bonds:bond0:mode": 7}, "bonds:bond0:mode", "none of", "by its name or number"),
    ("quoted number", {"bonds:bond0:mode": "7"}, "bonds:bond0:mode", "none of", "by its name or number"),
    ("rate without LACP", {"bonds:bond2:lacp_rate": "fast"}, "bonds:bond2:lacp_rate", "no meaning in mode active",
     "802.3ad"),
    ("hash without one", {"bonds:bond2:xmit_hash_policy": "layer2"}, "bonds:bond2:xmit_hash_policy", "no meaning", ""),
    ("primary with LACP", {"bonds:bond0:primary": "p5p1"}, "bonds:bond0:primary", "no meaning in mode 802.3ad",
     "active-backup"),
    ("primary elsewhere", {"bonds:bond2:primary": "eth0"}, "bonds:bond2:primary", "no link of bond2", "em1, em2"),
    ("a bond is called as its link", {"bonds:em1": {"links": ["x"]}}, "bonds:em1", "a link of bond2", "another"),
    ("no device", {"data:device": ...}, "data:device", "is missing", "what it lies on"),
    ("on a link of a bond", {"data:device": "p5p1"}, "data:device", "p5p1 of node1 is a link of bond0", "write bond0"),
    ("bridge named as a bond", {"data:bridge": "bond0"}, "data:bridge", "bond0 is a bond, too", "own name"),
    ("bridge twice", {"data:bridge": "br_bond0"}, "data:bridge", "the bridge of storage", "own name"),
    ("device twice", {"data:device": "bond0"}, "data:device", "storage is on bond0 without a VLAN", "VLAN"),
    ("VLAN twice", {"data": {"device": "bond0", "vlan": 5}, "storage:vlan": 5}, "data:device", "in VLAN 5", "VLAN"),
    ("VLAN of nobody", {"data:vlan": 4095}, "data:vlan", "above the maximum of 4094", "number"),
    ("VLAN's name", {"bonds:b2345678901234": {"links": ["x"]}, "data": {"device": "b2345678901234", "vlan": 1}},
     "data:vlan", "15 characters", "shorter"),
    ("VLAN larger than its device", {"data": {"device": "bond1", "vlan": 5, "mtu": 9000}}, "management:mtu",
     "MTU of 9000", "raise it"),
    ("MTU too large", {"data:mtu": 65535}, "data:mtu", "above the maximum", "jumbo"),
    ("no prefix", {"storage:prefix": ...}, "storage:prefix", "is missing", "such as 24"),
    ("a prefix for data", {"data:prefix": 24}, "data:prefix",
     "no known key: the hosts have no address in the data network", "known are device"),
    ("an address for data", {"data:address": "10.0.0.1"}, "data:address", "no address in the data network", "device"),
    ("an address of one's own", {"storage:address": "10.0.0.1"}, "storage:address", "are those of `nodes`", "device"),
    ("storage is empty", {"storage": None}, "storage", "is empty", "leave it out, or describe it"),
    ("data is empty", {"data": None}, "data", "is empty", "leave it out, or describe it"),
    ("gateway is broadcast", {"storage:gateway": "192.168.93.255"}, "storage:gateway",
     "is no host's address in 192.168.93.0/24", "router"),
    ("gateway is the network", {"management:gateway": "172.20.198.0"}, "management:gateway", "is no host's", "router"),
    ("gateway is a VM", {"management:gateway": "172.20.198.10", "vms:mnvm:networks:0:gateway": "172.20.198.1",
                         "vms:mnvm:networks:0:address": "172.20.198.10"},
     "management:gateway", "is the address of the VM mnvm", "router"),
    ("gateway elsewhere", {"storage:gateway": "192.168.94.1"}, "storage:gateway",
     "not in the network 192.168.93.0/24", "per node"),
    ("gateway is a node", {"storage:gateway": "192.168.93.4"}, "storage:gateway", "address of node2", "router"),
    ("address of the network", {"storage:prefix": 29, "storage:gateway": ..., "nodes:node2:storage": "192.168.93.8"},
     "nodes:node2:storage", "no host's address", "prefix"),
    ("networks that overlap", {"storage:prefix": 8, "storage:gateway": ..., "management:gateway": ...,
                               "nodes": {f"node{i}": {"management": f"10.1.1.{i}", "storage": f"10.2.2.{i}"}
                                         for i in (1, 2, 3)}},
     "management:prefix", "overlap", "two networks"),
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
            "bonds:bond0:mode": "quick",
            "bonds:bond2:links": ["em1", "p5p1"],
            "storage:gateway": "10.0.0.1",
            "data:mtu": "large",
        }
    )
    assert [fault[0] for fault in found] == [
        "bonds:bond0:mode", "bonds:bond2:links", "data:mtu", "storage:gateway",
    ]  # fmt: skip
