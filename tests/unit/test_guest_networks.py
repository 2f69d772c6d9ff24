"""What a guest is to have in its networks at each node."""

from __future__ import annotations

from typing import Any

import pytest

from mnha import config
from mnha.config import guard, guest_networks
from tests.support.example import example_with

NODES = ("node1", "node2", "node3")
ADDRESSES = {"node1": "172.20.198.10", "node2": "172.20.200.10", "node3": "172.20.210.10"}
GATEWAYS = {"node1": "172.20.198.1", "node2": "172.20.200.1", "node3": "172.20.210.1"}
MAC = "52:54:00:5a:01:01"
SECOND = {"bridge": "br_data", "mac": "52:54:00:5a:01:02", "address": "10.0.0.9", "netmask": "255.255.0.0",
          "gateway": "10.0.0.1"}  # fmt: skip
BY_NODE = {"vms:mnvm:networks:0:address": ADDRESSES, "vms:mnvm:networks:0:gateway": GATEWAYS}
PUBLIC = {node: f"203.0.113.{number}" for number, node in enumerate(NODES, 3)}


def wanted(node: str, changes: dict[str, Any]) -> dict[str, Any]:
    return guest_networks.wanted(config.load(example_with(changes)), "mnvm", node)


@pytest.mark.parametrize("node", NODES)
def test_each_node_gives_its_own_and_knows_those_of_the_others(node: str) -> None:
    (one,) = wanted(node, BY_NODE)["interfaces"]
    assert (one["mac"], one["address"], one["gateway"]) == (MAC, f"{ADDRESSES[node]}/24", GATEWAYS[node])
    others = [other for other in NODES if other != node]
    assert one["elsewhere"] == [f"{ADDRESSES[other]}/24" for other in others]
    assert one["gateways_elsewhere"] == [GATEWAYS[other] for other in others]


def test_an_address_that_is_the_same_everywhere_is_nobody_elses() -> None:
    found = wanted("node1", {})
    assert [(one["elsewhere"], one["gateways_elsewhere"]) for one in found["interfaces"]] == [([], [])]


def test_the_default_route_goes_through_one_network_and_one_without_an_address_is_left_to_the_guest() -> None:
    bare = {"bridge": "br_x", "mac": "52:54:00:5a:01:03"}
    cluster = config.load(example_with({}))
    networks = [network.model_dump(mode="json", exclude_none=True) for network in cluster.vms["mnvm"].networks]
    found = wanted("node1", {"vms:mnvm:networks": [bare, SECOND, *networks]})["interfaces"]
    assert [one["mac"] for one in found] == [SECOND["mac"], MAC]
    assert [one["gateway"] is None for one in found] == [True, False]
    assert found[0]["address"] == "10.0.0.9/16"
    vm = config.load(example_with({"vms:mnvm:networks": [bare, SECOND, *networks]})).vms["mnvm"]
    assert [one.number for one in guest_networks.interfaces(vm, "node1")] == [1, 2]


def test_browsers_reach_its_console_at_the_address_that_is_given_for_it_else_at_its_own() -> None:
    assert wanted("node2", BY_NODE)["console_address"] == ADDRESSES["node2"]
    assert wanted("node2", {**BY_NODE, "vms:mnvm:console_proxy_address": PUBLIC})["console_address"] == "203.0.113.4"


def test_the_guard_is_told_of_it_only_where_the_guest_is_configured() -> None:
    def told(changes: dict[str, Any]) -> Any:
        return guard.guard_config(config.load(example_with(changes)), "node2")["vms"][0]["guest"]

    assert told(BY_NODE) == wanted("node2", BY_NODE)
    assert told({"vms:mnvm:configure_guest": False}) is None
