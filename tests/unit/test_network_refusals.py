"""What a host has that the wanted devices would take away from it: refused, with what to do."""

from __future__ import annotations

import pytest

from mnha.host.network.live import Interface, Port, Team
from mnha.host.network.refusals import refusals
from mnha.host.network.wanted import Bond, Bridge, Device, Nic, Vlan

WANTED: tuple[Device, ...] = (
    Nic("eth0"), Nic("eth1"), Bond("bond0", links=("eth0", "eth1")), Bridge("br0", port="bond0", address="10.0.0.3/24"),
)  # fmt: skip
FRESH = (Interface("eth0", addresses=("10.0.0.3/24",), up=True, carrier=True), Interface("eth1"), Interface("eth2"))


def told(*there: Interface, wanted: tuple[Device, ...] = WANTED, made: tuple[str, ...] = ()) -> list[str]:
    base = {one.name: one for one in FRESH}
    return refusals(base | {one.name: one for one in there}, wanted, made)


def test_on_a_fresh_host_nothing_is_refused_and_its_address_moves_up() -> None:
    assert told() == []


def test_on_a_host_that_has_it_all_nothing_is_refused_and_ports_of_vms_stay() -> None:
    team = Team("802.3ad", ("eth0", "eth1"), {})
    port = Port(up=True, active=True)
    assert told(
        Interface("eth0", master="bond0", port=port), Interface("eth1", master="bond0", port=port),
        Interface("bond0", "bond", master="br0", team=team), Interface("br0", "bridge", addresses=("10.0.0.3/24",)),
        Interface("vnet0", "tun", master="br0"),
    ) == []  # fmt: skip


CASES = [
    # what, devices that are there besides, words
    ("address in use", Interface("eth0", addresses=("10.9.9.9/24",)), "eth0 has the address 10.9.9.9/24"),
    (
        "a second address",
        Interface("eth0", addresses=("10.0.0.3/24", "10.9.9.9/8")),
        "10.9.9.9/8, which nothing",
    ),
    ("sub-interface", Interface("eth0.5", "vlan", below="eth0"), "eth0.5 lies on eth0: remove it first"),
    ("port of a bridge", Interface("eth1", master="virbr0"), "eth1 belongs to virbr0"),
    ("bond as bridge", Interface("bond0", "bridge"), "bond0 is to be a bond, and is a bridge here"),
    ("bridge as interface", Interface("br0"), "br0 is to be a bridge, and is a network interface here"),
    ("bridge of another kind", Interface("br0", "openvswitch"), "a device of kind openvswitch"),
    ("interface as bond", Interface("eth0", "bond"), "eth0 is to be a network interface, and is a bond here"),
    ("another port", Interface("eth2", master="br0"), "eth2 is a port of br0, too"),
]


@pytest.mark.parametrize(("there", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_would_take_something_away_is_refused(there: Interface, words: str) -> None:
    bridge = (Interface("br0", "bridge"),) if there.master == "br0" else ()
    found = told(*bridge, there)
    assert len(found) == 1
    assert words in found[0]


def test_an_interface_that_is_not_there_is_named_with_those_that_are() -> None:
    assert told(wanted=(Nic("eth7"),)) == ["there is no interface eth7 here: there are eth0, eth1, eth2"]


def test_all_reasons_come_at_once() -> None:
    assert len(told(Interface("eth0", addresses=("1.1.1.1/8",)), Interface("eth1", master="x"))) == 2


def test_what_an_earlier_configuration_made_may_change() -> None:
    there = Interface("eth1", master="bond9"), Interface("bond9", "bond")
    assert len(told(*there)) == 1
    assert told(*there, made=("bond9",)) == []


def test_a_vlan_that_is_wanted_takes_nothing_away() -> None:
    wanted = (Nic("eth0"), Vlan("eth0.5", below="eth0", tag=5, address="10.0.0.3/24"))
    assert told(Interface("eth0.5", "vlan", below="eth0"), wanted=wanted) == []


@pytest.mark.parametrize(
    ("port", "passes"),
    [
        (Port(up=True, active=True), True),
        (Port(up=True, active=False), False),
        (Port(up=False, active=True), False),
        (Port(up=True, active=True, actor=0x3F, partner=0x3F), True),
        (Port(up=True, active=True, actor=0x3D, partner=0x3D), True),  # at the slow rate
        (Port(up=True, active=True, actor=0x47, partner=0x01), False),  # the switch has never spoken
        (Port(up=True, active=True, actor=0xBF, partner=0x3F), False),  # … or not lately
        (Port(up=True, active=True, actor=0x0F, partner=0x0F), False),  # agreed, and not used yet
        (Port(up=False, active=True, actor=0x3F, partner=0x3F), False),
    ],
)
def test_frames_pass_where_both_ends_have_agreed(port: Port, passes: bool) -> None:
    assert port.passes is passes


def test_a_switch_that_does_no_lacp_is_not_heard() -> None:
    assert not Team("802.3ad", (), {}, partner="00:00:00:00:00:00").heard
    assert Team("802.3ad", (), {}, partner="02:00:00:00:00:01").heard
    assert Team("active-backup", (), {}).heard
