"""Bonds and bridges of one host, beside those of the cluster's networks."""

from __future__ import annotations

from typing import Any

import pytest

from mnha import config
from mnha.config import own_networks
from mnha.config.devices import devices as of_cluster
from mnha.errors import ConfigurationError
from mnha.host.network.wanted import Bond, Bridge, Nic
from tests.support.example import example_with
from tests.unit.test_host_networks import NETWORKS

CLUSTER = of_cluster(config.load(example_with({"networks": NETWORKS})), "node1")


def own(bonds: dict[str, Any] | None = None, bridges: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"bonds": bonds or {}, "bridges": bridges or {}}


def faults(asked: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        own_networks.devices(asked, CLUSTER, "node1")
    return [str(fault) for fault in caught.value.faults]


def test_they_come_after_the_clusters_and_each_after_what_it_lies_on() -> None:
    asked = own(
        {"bond7": {"links": ["eth6", "eth7"], "mode": 1, "primary": "eth7"}},
        {
            "br7": {"port": "bond7", "mtu": 9000, "address": "10.7.0.3/24", "gateway": "10.7.0.1"},
            "br8": {"port": "eth8"},
        },
    )
    found = own_networks.devices(asked, CLUSTER, "node1")
    assert found[: len(CLUSTER)] == CLUSTER
    assert found[len(CLUSTER) :] == (
        Nic("eth6", 9000),
        Nic("eth7", 9000),
        Bond("bond7", 9000, links=("eth6", "eth7"), mode="active-backup", options={"miimon": "100", "primary": "eth7"}),
        Bridge("br7", 9000, "10.7.0.3/24", "10.7.0.1", port="bond7"),
        Nic("eth8"),
        Bridge("br8", port="eth8"),
    )


def test_a_bridge_may_lie_on_a_bond_of_the_cluster_that_has_no_address() -> None:
    found = own_networks.devices(own(bridges={"br_bond2": {"port": "bond2"}}), CLUSTER, "node1")
    assert found == (*CLUSTER, Bridge("br_bond2", port="bond2"))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (own({"bond0": {"links": ["eth6"]}}), "bonds:bond0: the pillar has it already, under mnha:cluster:networks"),
        (own({"bond7": {"links": ["p5p1"]}}), "bonds:bond7:links: p5p1 is in bond0 already"),
        (own({"bond7": {"links": ["eth6"]}, "bond8": {"links": ["eth6"]}}), "bonds:bond8:links: eth6 is in bond7"),
        (own({"bond7": {"links": ["bond2"]}}), "bonds:bond7:links: bond2 is no network interface"),
        (own({"bond7": {"links": ["eth6"], "mode": 1, "lacp_rate": "fast"}}), "lacp_rate: has no meaning in mode"),
        (own({"bond7": {"links": ["eth6"], "mode": 1, "primary": "eth9"}}), "primary: eth9 is no link of bond7"),
        (own({"bond7": {"links": ["eth6"], "speed": 1}}), "bonds:bond7:speed: is no known key"),
        (own({"bond7": {"links": ["eth6"], "address": "10.0.0.1"}}), "has no prefix of a network of hosts"),
        (own({"bond7": {"links": ["eth6"], "address": "10.0.0.0/24"}}), "10.0.0.0 is no host's address in 10.0.0.0/24"),
        (own(bridges={"br7": {"port": "bond0"}}), "bridges:br7:port: bond0 belongs to br_bond0 already"),
        (own(bridges={"br7": {"port": "bond2", "mtu": 9000}}), "bond2 has an MTU of 1500 by the pillar"),
        (own(bridges={"br7": {"port": "eth6", "gateway": "10.0.0.1"}}), "gateway: br7 has no address"),
        (
            own(bridges={"br7": {"port": "eth6", "address": "10.0.0.3/24", "gateway": "10.0.0.255"}}),
            "gateway: is no host's address in 10.0.0.0/24",
        ),
        (
            own(bridges={"br7": {"port": "eth6", "address": "10.0.0.3/24", "gateway": "10.0.0.3"}}),
            "gateway: is this host's own address",
        ),
        (
            own(bridges={"br7": {"port": "eth6", "address": "10.0.0.3/24", "gateway": "10.9.0.1"}}),
            "gateway: is not in the network of 10.0.0.3/24",
        ),
        (
            own({"bond7": {"links": ["eth6"], "address": "10.0.0.3/24"}}, {"br7": {"port": "bond7"}}),
            "bond7 has the address 10.0.0.3/24, which would be the bridge's then",
        ),
        (own({"x7": {"links": ["eth6"]}}, {"x7": {"port": "eth7"}}), "bridges:x7: a bond has this name"),
    ],
)
def test_what_can_not_be_is_told_with_its_place(asked: dict[str, Any], said: str) -> None:
    assert any(said in text for text in faults(asked)), faults(asked)


def test_all_faults_are_told_at_once() -> None:
    asked = own({"bond7": {"links": ["p5p1"]}, "bond0": {"links": ["eth6"]}}, {"br7": {"port": "bond0"}})
    assert len(faults(asked)) == 3


def test_what_a_state_leaves_out_is_not_noted() -> None:
    given = {"links": ["eth6"], "mode": None, "mtu": 1500}
    assert own_networks.check("bonds", "bond7", given) == {"links": ["eth6"], "mtu": 1500}
    with pytest.raises(ConfigurationError, match="bonds:bond7:links: is missing"):
        own_networks.check("bonds", "bond7", {})
