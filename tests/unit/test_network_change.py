"""A change of a host's network before it is made, and how it is judged: nothing of the cluster's is lost by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mnha.errors import FailedError
from mnha.host.network import ifupdown2, owners, transaction
from mnha.host.network.ifupdown2 import MAIN, OWN, files_with
from mnha.host.network.live import Interface
from mnha.host.network.reach import Network, Reach
from mnha.host.network.wanted import Bond, Bridge, Device, Nic, Wish

STORAGE: tuple[Device, ...] = (
    Nic("eth0"), Nic("eth1"), Bond("bond0", links=("eth0", "eth1")), Bridge("br0", port="bond0", address="10.0.0.3/24"),
)  # fmt: skip
MANAGEMENT: tuple[Device, ...] = (Nic("eth2", address="10.1.0.3/24", gateway="10.1.0.1"),)
OWN_BOND: tuple[Device, ...] = (Nic("eth6"), Bond("bond7", links=("eth6",), address="10.7.0.3/24"))
ADDRESSES = {"storage": "10.0.0.3", "management": "10.1.0.3"}
PLAIN = {MAIN: ifupdown2.EMPTY}
APPLIED = files_with(PLAIN, Wish(STORAGE + MANAGEMENT, OWN_BOND))
THERE = {one.name: one for one in (
    Interface("eth0", master="bond0"), Interface("eth1", master="bond0"), Interface("bond0", "bond", master="br0"),
    Interface("br0", "bridge", addresses=("10.0.0.3/24",), carrier=True),
    Interface("eth2", addresses=("10.1.0.3/24",), carrier=True), Interface("eth6", master="bond7"),
    Interface("bond7", "bond", addresses=("10.7.0.3/24",)),
)}  # fmt: skip


def planned(wish: Wish, *besides: Interface, files: dict[str, str] = APPLIED) -> transaction.Plan:
    return transaction.planned(files, THERE | {one.name: one for one in besides}, wish)


def test_where_nothing_is_said_no_file_is_changed_whatever_was_made_before() -> None:
    for files in ({}, PLAIN, APPLIED):
        assert files_with(files, Wish()) == files
        assert planned(Wish(addresses=ADDRESSES), files=files).changes == {}


def test_what_was_made_of_the_clusters_networks_stays_when_they_are_left_out() -> None:
    left = files_with(APPLIED, Wish(None, OWN_BOND))
    assert left == APPLIED
    added = files_with(APPLIED, Wish(None, (*OWN_BOND, Nic("eth8", address="10.8.0.3/24"))))
    assert ifupdown2.declared(added[OWN]) == {"eth0", "eth1", "bond0", "br0", "eth2", "eth6", "bond7", "eth8"}
    gone = files_with(APPLIED, Wish(None, ()))
    assert ifupdown2.declared(gone[OWN]) == {"eth0", "eth1", "bond0", "br0", "eth2"}
    assert files_with(gone, Wish(None, ())) == gone, "the second time nothing changes"
    assert files_with(gone, Wish(STORAGE + MANAGEMENT, ())) == gone


def test_what_was_made_for_a_hosts_own_states_stays_where_what_they_asked_for_is_not_known() -> None:
    assert files_with(APPLIED, Wish(STORAGE + MANAGEMENT, None)) == APPLIED


def test_no_file_is_begun_for_nothing() -> None:
    assert files_with(PLAIN, Wish(None, ())) == PLAIN
    assert files_with({}, Wish(None, ())) == {}


def test_what_stays_is_not_taken_for_something_else() -> None:
    (reason,) = planned(Wish(None, (Nic("eth0"), Bond("bond8", links=("eth0",))))).reasons
    assert "eth0 belongs to bond0, which the configuration does not have" in reason


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (MANAGEMENT, "br0 has this node's address 10.0.0.3 of the storage network, and nothing would have it"),
        (STORAGE, "eth2 has this node's address 10.1.0.3 of the management network"),
        ((*STORAGE, Nic("eth2")), "eth2 has this node's address 10.1.0.3 of the management network"),
    ],
)
def test_a_change_that_takes_an_address_of_the_cluster_away_is_refused(left: Sequence[Device], words: str) -> None:
    (loss,) = planned(Wish(tuple(left), OWN_BOND, ADDRESSES)).losses
    assert words in loss
    assert "let mnha:cluster:networks have" in loss


def test_nothing_is_lost_where_the_address_moves_or_another_file_has_it_or_it_was_not_there() -> None:
    moved = (*STORAGE, Nic("eth3", address="10.1.0.3/16"))
    assert planned(Wish(moved, OWN_BOND, ADDRESSES)).losses == []
    elsewhere = APPLIED | {MAIN: APPLIED[MAIN] + "\nauto eth2\niface eth2 inet static\n  address 10.1.0.3/24\n"}
    assert planned(Wish(STORAGE, OWN_BOND, ADDRESSES), files=elsewhere).losses == []
    assert planned(Wish(STORAGE, OWN_BOND, ADDRESSES), Interface("eth2")).losses == []
    by_hand = Wish(STORAGE, OWN_BOND, {"management": "10.9.0.3"})
    assert planned(by_hand, Interface("eth9", addresses=("10.9.0.3/24",))).losses == [], "eth9 is not touched"


@pytest.mark.parametrize(
    ("besides", "words"),
    [
        (Interface("vnet0", "tun", master="br0"), "br0 is to go, and vnet0 is a port of it"),
        (Interface("bond0.5", "vlan", below="bond0"), "bond0 is to go, and bond0.5 lies on it"),
        (Interface("bond0", "bond", master="br9"), "bond0 is to go, and belongs to br9"),
    ],
)
def test_what_others_have_on_a_device_that_is_to_go_is_told(besides: Interface, words: str) -> None:
    (reason,) = planned(Wish(MANAGEMENT, OWN_BOND), besides).reasons
    assert words in reason


class World:
    """Who answers, and what the host has."""

    def __init__(self) -> None:
        self.answering = {"10.0.0.1", "10.0.0.4", "10.1.0.1", "10.1.0.4", "salt"}
        self.there = dict(THERE)
        self.routes = [("eth2", "10.1.0.1")]

    def reach(self, networks: Sequence[Network], devices: Sequence[Device] = ()) -> Reach:
        cluster = [Network(role, "", address, peers={"node2": f"{address[:-1]}4", "node3": f"{address[:-1]}5"})
                   for role, address in ADDRESSES.items()]  # fmt: skip
        return Reach(
            networks, devices, ["salt"], cluster, lambda own, other, size, whole=False: other in self.answering,
            lambda master: master in self.answering, lambda: self.there, lambda: self.routes,
        )  # fmt: skip


def test_what_was_well_before_is_judged_in_networks_that_the_change_is_not_about() -> None:
    world = World()
    judge = world.reach([])
    assert judge.faults() == []
    world.answering = set()
    assert judge.faults() == [
        "node2 (10.0.0.4) does not answer in the storage network",
        "the gateway (10.1.0.1) does not answer in the management network",
        "node2 (10.1.0.4) does not answer in the management network",
        "the Salt master salt can't be reached any more",
    ]


def test_an_address_and_a_default_route_that_are_gone_are_a_failure() -> None:
    world = World()
    judge = world.reach([])
    world.there, world.routes = {}, []
    assert judge.faults() == [
        "this node's address 10.0.0.3 of the storage network is gone",
        "this node's address 10.1.0.3 of the management network is gone",
        "the default route is gone (it was 10.1.0.1 by eth2): give a network its `gateway`",
    ]


def test_who_answers_before_the_first_change_is_asked_by_the_address_wherever_it_is() -> None:
    world = World()
    judge = world.reach([Network("storage", "br_new", "10.0.0.3", peers={"node2": "10.0.0.4"})])
    world.answering -= {"10.0.0.4"}
    assert judge.faults() == ["node2 (10.0.0.4) does not answer in the storage network"]


def test_a_gateway_that_is_configured_has_to_answer_and_another_one_if_it_did() -> None:
    world = World()
    world.answering -= {"10.0.0.1", "10.1.0.1"}
    judge = world.reach([Network("storage", "br0", "10.0.0.3", gateway="10.0.0.1")])
    assert judge.faults() == ["the gateway (10.0.0.1) does not answer in the storage network"]


def test_who_else_makes_the_network_is_told_with_what_ends_it_at_once(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "_runs", lambda unit: True)
    (tmp_path / "run/systemd/network").mkdir(parents=True)
    assert [text.split(" ")[0] for text in owners.others(tmp_path)] == ["NetworkManager"]
    (tmp_path / "run/systemd/network/10-netplan-eth0.network").touch()
    networkd, manager = owners.others(tmp_path)
    assert "`systemctl disable --now systemd-networkd.service systemd-networkd.socket`" in networkd
    assert "`systemctl disable --now NetworkManager`" in manager
    monkeypatch.setattr(owners, "_runs", lambda unit: False)
    assert owners.others(tmp_path) == []


def test_tools_that_are_missing_are_told_with_what_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction.shutil, "which", lambda tool: None)
    (text,) = transaction.missing()
    assert text.startswith("/usr/lib/mnha/network-back, ifreload, ifquery is missing here")
    with pytest.raises(FailedError, match=r"states\.network\.tools"):
        transaction.unlike()
