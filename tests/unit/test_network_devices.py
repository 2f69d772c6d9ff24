"""From the configuration of the hosts' networks to what a host's files say."""

from __future__ import annotations

from typing import Any

import pytest

from mnha import config
from mnha.config.devices import devices
from mnha.errors import FailedError, InputError
from mnha.host.network import ifupdown2
from mnha.host.network.wanted import Bond, uses
from tests.support.example import example_with
from tests.unit.test_host_networks import NETWORKS


def of(node: str, networks: dict[str, Any] | None = None) -> dict[str, Any]:
    """The devices of a node, by name."""
    cluster = config.load(example_with({"networks": networks or NETWORKS}))
    return {device.name: device for device in devices(cluster, node)}


def test_the_files_of_the_old_suites_three_networks() -> None:
    assert (
        ifupdown2.text(tuple(of("node2").values())).split("\n\n", 1)[1]
        == """\
auto p5p1
iface p5p1 inet manual
    mtu 9000

auto p5p2
iface p5p2 inet manual
    mtu 9000

auto bond0
iface bond0 inet manual
    bond-slaves p5p1 p5p2
    bond-mode 802.3ad
    bond-miimon 100
    bond-xmit-hash-policy layer2+3
    bond-lacp-rate fast
    mtu 9000

auto eno1
iface eno1 inet manual
    mtu 1500

auto eno2
iface eno2 inet manual
    mtu 1500

auto bond1
iface bond1 inet manual
    bond-slaves eno1 eno2
    bond-mode 802.3ad
    bond-miimon 100
    bond-xmit-hash-policy layer2+3
    bond-lacp-rate fast
    mtu 1500

auto em1
iface em1 inet manual
    mtu 1500

auto em2
iface em2 inet manual
    mtu 1500

auto bond2
iface bond2 inet manual
    bond-slaves em1 em2
    bond-mode active-backup
    bond-miimon 100
    bond-primary em1
    mtu 1500

auto br_bond0
iface br_bond0 inet static
    address 192.168.93.4/24
    bridge-ports bond0
    bridge-ports-condone-regex ^(vnet|tap|macvtap)[0-9]+$
    bridge-stp off
    bridge-fd 0
    mtu 9000

auto br_bond1
iface br_bond1 inet static
    address 172.20.198.4/24
    gateway 172.20.198.1
    bridge-ports bond1
    bridge-ports-condone-regex ^(vnet|tap|macvtap)[0-9]+$
    bridge-stp off
    bridge-fd 0
    mtu 1500
"""
    )


def test_each_device_comes_after_those_that_it_lies_on() -> None:
    seen: set[str] = set()
    for device in of("node1").values():
        assert set(uses(device)) <= seen
        seen.add(device.name)


def test_the_default_route_goes_through_management_or_else_through_storage() -> None:
    found = of("node1")
    assert (found["br_bond0"].gateway, found["br_bond1"].gateway) == (None, "172.20.198.1")
    without_one = {key: value for key, value in NETWORKS["management"].items() if key != "gateway"}
    found = of("node1", NETWORKS | {"management": without_one})
    assert (found["br_bond0"].gateway, found["br_bond1"].gateway) == ("192.168.93.1", None)


def test_vlans_share_a_bond_whose_mtu_does_for_all_of_them() -> None:
    found = of("node3", {
        "bonds": {"bond0": {"links": ["eth0", "eth1"]}},
        "storage": {"device": "bond0", "vlan": 93, "mtu": 9000, "prefix": 24},
        "management": {"device": "bond0", "vlan": 198, "bridge": "br_mgmt", "prefix": 24, "gateway": "172.20.198.1"},
    })  # fmt: skip
    assert list(found) == ["eth0", "eth1", "bond0", "bond0.93", "bond0.198", "br_mgmt"]
    assert [device.mtu for device in found.values()] == [9000, 9000, 9000, 9000, 1500, 1500]
    assert [device.address for device in found.values()] == [
        None, None, None, "192.168.93.5/24", None, "172.20.198.5/24",
    ]  # fmt: skip


def test_a_network_without_bond_and_bridge_has_its_address_on_the_interface() -> None:
    found = of("node1", {"storage": {"device": "eth1", "prefix": 24}})
    assert {name: device.address for name, device in found.items()} == {"eth1": "192.168.93.3/24"}


def test_a_mode_gets_the_options_that_it_has() -> None:
    bond = of("node1")["bond2"]
    assert isinstance(bond, Bond)
    assert bond.options == {"miimon": "100", "primary": "em1"}


def test_left_out_a_node_is_to_have_none() -> None:
    cluster = config.load(example_with({}))
    assert devices(cluster, "node1") == ()
    with pytest.raises(InputError, match="its nodes are"):
        devices(cluster, "node9")


INSTALLER = """\
# This file describes the network interfaces available on your system.
source /etc/network/interfaces.d/*

auto lo eth0
iface lo inet loopback

# The primary network interface
allow-hotplug eth1
iface eth0 inet static
    address 172.20.198.3/24
    gateway 172.20.198.1
    # dns-* options are implemented by the resolvconf package
    dns-nameservers 10.0.0.1

iface eth1 inet dhcp
auto eth2
iface eth2 inet manual
"""


def test_the_stanzas_of_devices_are_taken_out_of_a_file_and_nothing_else() -> None:
    assert ifupdown2.declared(INSTALLER) == {"lo", "eth0", "eth1", "eth2"}
    left = ifupdown2.without(INSTALLER, ["eth0", "eth1"])
    assert ifupdown2.declared(left) == {"lo", "eth2"}
    assert (
        left
        == """\
# This file describes the network interfaces available on your system.
source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback

# The primary network interface
    # dns-* options are implemented by the resolvconf package

auto eth2
iface eth2 inet manual
"""
    )
    assert ifupdown2.without(INSTALLER, ["wlan0"]) == INSTALLER
    assert ifupdown2.without(left, ["eth0", "eth1"]) == left


FILE = """\
auto br0
iface br0 inet static
    address 10.0.0.1/24
    mtu 9000
    # mtu 1280

iface eth1 inet manual
"""


def test_what_is_different_from_the_files_is_told_with_what_they_say() -> None:
    said = ifupdown2.attributes([FILE, "iface eth2\n  mtu 1500\n"])
    assert said == {"br0": {"address": {"10.0.0.1/24"}, "mtu": {"9000"}}, "eth1": {}, "eth2": {"mtu": {"1500"}}}
    answer = """[{"name": "lo", "status": "pass", "config": {}, "config_status": {}},
     {"name": "br0", "status": "fail", "config": {"address": ["10.0.0.1/24", "10.9.0.1/8"], "mtu": "1500"},
      "config_status": {"address": ["fail", "fail"], "mtu": "fail"}},
     {"name": "eth1", "status": "fail", "config": {"mtu": "9000"}, "config_status": {"mtu": "fail"}},
     {"name": "eth2", "status": "fail", "config": {"mtu": "1500"}, "config_status": {"mtu": "unknown"}}]"""
    assert ifupdown2.differences(answer, said) == [
        "br0 has not address 10.0.0.1/24; has address 10.9.0.1/8, 10.0.0.1/24 is wanted; has MTU 1500, 9000 is wanted",
        "eth1 has MTU 9000, which no file says",
        "eth2 is not as its stanza says",
    ]
    assert ifupdown2.differences("[]", {}) == []
    for garbage in ("", "error: no", "{}"):
        with pytest.raises(FailedError, match="has not said"):
            ifupdown2.differences(garbage, {})
