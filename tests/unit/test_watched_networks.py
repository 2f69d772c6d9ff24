"""A network of the node, watched: when it is lost, since when, and what is told of it; and what a device lies on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnha.config import load
from mnha.config.guard import guard_config
from mnha.daemon.adapters.networks import NOT_LOOKED, SILENT_S, Network, Watched, of_config, told
from mnha.daemon.adapters.probe import Check
from mnha.host.network.echo import checksum, ident_of, packet
from mnha.host.network.uplinks import Uplink, of_device
from tests.support.example import example_pillar, example_with

NETWORKS = {
    "bonds": {"bond1": {"links": ["eth0", "eth1"]}, "bond2": {"links": ["eth2", "eth3"]}},
    "management": {"device": "bond1", "bridge": "br_bond1", "prefix": 24, "gateway": "172.20.198.1"},
    "data": {"device": "bond2"},
}
OTHERS = {"the gateway": "10.0.0.1", "node2": "10.0.0.2", "node3": "10.0.0.3"}
WELL = [Uplink("bond1", {"eth0": True, "eth1": True})]
ONE_DOWN = [Uplink("bond1", {"eth0": True, "eth1": False})]
DOWN = [Uplink("bond1", {"eth0": False, "eth1": False})]
UNHEARD = [Uplink("bond1", {"eth0": True, "eth1": True}, heard=False)]


def watched(**others: str) -> Watched:
    return Watched(Network("management", "", "10.0.0.9", others or OTHERS), now_s=100.0)


def test_before_anything_is_known_nothing_is_lost() -> None:
    one = watched()
    assert (one.check.ok, one.lost_s) == (True, None)
    one.judge(WELL, "br1", 100.0 + SILENT_S - 0.1)
    assert (one.check.ok, one.lost_s) == (True, None)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (Check(True), Check(False, "no carrier"), "no carrier"),
        (Check(False, "no carrier"), Check(False, "nobody answers"), "nobody answers"),
        (Check(False, "no carrier"), Check(True), "is well again"),
        (Check(True), Check(True, "eth1 of bond1 is down"), "eth1 of bond1 is down"),
        (Check(True, NOT_LOOKED), Check(True), ""),
        (Check(True, NOT_LOOKED), Check(False, "no carrier"), "no carrier"),
        (Check(False, "no carrier"), Check(False, "no carrier"), ""),
    ],
)
def test_the_journal_has_each_change(before: Check, after: Check, text: str) -> None:
    assert told(before, after) == text


def test_where_somebody_answers_it_is_well() -> None:
    one = watched()
    one.hear({"10.0.0.1", "10.0.0.3", "10.9.9.9"}, 110.0)
    one.judge(WELL, "br1", 110.5)
    assert (one.check.ok, one.check.why, one.lost_s) == (True, "", None)


def test_where_nobody_answers_any_more_it_is_lost_since_the_last_answer() -> None:
    one = watched()
    one.hear({"10.0.0.2"}, 110.0)
    one.judge(WELL, "br1", 110.0 + SILENT_S)
    assert (one.check.ok, one.lost_s) == (False, 110.0)
    assert one.check.why == "nobody answers by br1: the gateway (10.0.0.1), node2 (10.0.0.2), node3 (10.0.0.3)"
    one.judge(WELL, "br1", 120.0)
    assert one.lost_s == 110.0, "without a break"
    one.hear({"10.0.0.3"}, 121.0)
    one.judge(WELL, "br1", 121.0)
    assert one.lost_s is None


@pytest.mark.parametrize(
    ("uplinks", "device", "why"),
    [
        (DOWN, "br1", "no link of bond1 passes frames (eth0, eth1)"),
        (UNHEARD, "br1", "no switch answers bond1 by LACP (eth0, eth1)"),
        ([Uplink("eth0", {"eth0": False})], "eth0", "eth0 has no carrier"),
        ([Uplink("bond1")], "br1", "bond1 has no link"),
        ([], "br1", "br1 is not there, or is a bridge without a port"),
        ([], "", "no device has the address 10.0.0.9"),
    ],
)
def test_where_no_frame_can_leave_it_is_lost_at_once(uplinks: list[Uplink], device: str, why: str) -> None:
    one = watched()
    one.hear({"10.0.0.2"}, 110.0)
    one.judge(uplinks, device, 110.2)
    assert (one.check.ok, one.check.why, one.lost_s) == (False, why, 110.2)


def test_the_loss_of_one_link_is_told_and_is_no_loss() -> None:
    one = watched()
    one.hear(set(OTHERS.values()), 110.0)
    one.judge(ONE_DOWN, "br1", 110.5)
    assert (one.check.ok, one.lost_s) == (True, None)
    assert one.check.why == "eth1 of bond1 passes no frames: one more, and the network is lost"


def test_a_gateway_that_is_silent_alone_is_told_and_is_no_loss() -> None:
    one = watched()
    one.hear({"10.0.0.2"}, 110.0)
    one.judge(WELL, "br1", 110.5)
    assert (one.check.ok, one.lost_s) == (True, None)
    assert one.check.why == "the gateway (10.0.0.1) does not answer, other nodes do"


def test_a_node_that_is_silent_is_told_by_itself_and_not_here() -> None:
    one = watched()
    one.hear({"10.0.0.1", "10.0.0.2"}, 110.0)
    one.judge(WELL, "br1", 110.5)
    assert one.check.why == ""


def test_without_addresses_the_links_alone_count() -> None:
    one = Watched(Network("data_network", "bond2"), 100.0)
    one.judge(WELL, "bond2", 200.0)
    assert (one.check.ok, one.lost_s) == (True, None)
    one.judge(DOWN, "bond2", 201.0)
    assert (one.check.ok, one.lost_s) == (False, 201.0)


def test_without_networks_in_the_pillar_the_device_is_that_of_the_address() -> None:
    found = {one.name: one for one in of_config(guard_config(load(example_pillar()), "node1"))}
    assert set(found) == {"management", "storage_network"}
    assert found["management"] == Network(
        "management", "", "172.20.198.3", {"node2": "172.20.198.4", "node3": "172.20.198.5"}
    )


def test_with_networks_in_the_pillar_gateways_and_devices_are_known() -> None:
    found = {one.name: one for one in of_config(guard_config(load(example_with({"networks": NETWORKS})), "node1"))}
    assert found["management"].device == "br_bond1"
    assert found["management"].others["the gateway"] == "172.20.198.1"
    assert found["data_network"] == Network("data_network", "bond2")


def test_an_older_configuration_has_none() -> None:
    assert of_config({"v": 1}) == []


# ---- sysfs


def sysfs(folder: Path, files: dict[str, str]) -> Path:
    """A tree of files; a name that ends with `/` is a folder."""
    for name, text in files.items():
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text(text + "\n")
    return folder


def bond(name: str, mode: str = "active-backup 1", partner: str = "", **links: str) -> dict[str, str]:
    found = {f"{name}/bonding/mode": mode, f"{name}/bonding/slaves": " ".join(links),
             f"{name}/bonding/ad_partner_mac": partner}  # fmt: skip
    for link, state in links.items():
        found |= {f"{link}/bonding_slave/mii_status": state, f"{link}/bonding_slave/state": "active"}
    return found


def test_a_bridge_is_looked_at_by_what_it_lies_on_and_not_by_its_vms(tmp_path: Path) -> None:
    files = bond("bond0", eth0="up", eth1="down") | {
        "br0/bridge/": "", "br0/lower_bond0": "", "br0/lower_vnet0": "", "vnet0/tun_flags": "0x1", "vnet0/carrier": "1",
    }  # fmt: skip
    assert of_device("br0", sysfs(tmp_path, files)) == [Uplink("bond0", {"eth0": True, "eth1": False})]


def test_a_vlan_is_looked_at_by_the_device_below(tmp_path: Path) -> None:
    files = {"eth0.7/lower_eth0": "", "eth0.7/carrier": "1", "eth0/carrier": "0"}
    assert of_device("eth0.7", sysfs(tmp_path, files)) == [Uplink("eth0", {"eth0": False})]


def test_a_bridge_with_vms_only_leads_nowhere(tmp_path: Path) -> None:
    files = {"br0/bridge/": "", "br0/lower_vnet0": "", "vnet0/tun_flags": "0x1", "br0/carrier": "1"}
    assert of_device("br0", sysfs(tmp_path, files)) == []


def test_a_bond_whose_switch_does_not_answer_by_lacp_passes_nothing(tmp_path: Path) -> None:
    files = bond("bond0", "802.3ad 4", "00:00:00:00:00:00", eth0="up", eth1="up")
    (one,) = of_device("bond0", sysfs(tmp_path, files))
    assert (one.heard, one.passes) == (False, False)


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    assert of_device("eth9", tmp_path) == []


# ---- ping


def test_a_question_has_the_internets_checksum() -> None:
    assert checksum(packet(7, 3)) == 0
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D, "the example of RFC 1071"


@pytest.mark.parametrize(
    ("data", "ident"),
    [
        (b"\x45" + bytes(19) + b"\x00" + packet(7, 3)[1:], 7),
        (b"\x46" + bytes(23) + b"\x00" + packet(9, 3)[1:], 9),
        (b"\x45" + bytes(19) + packet(7, 3), None),
        (b"\x45" + bytes(20), None),
        (b"", None),
    ],
    ids=["reply", "with options", "a question", "cut short", "empty"],
)
def test_only_an_answer_is_one(data: bytes, ident: Any) -> None:
    assert ident_of(data) == ident
