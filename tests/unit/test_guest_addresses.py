"""What of a running guest's addresses is not as it should be where it runs. That the script works stands in
tests/functional/test_guest_network.py.
"""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnha.errors import FailedError
from mnha.guest import addresses
from mnha.guest.addresses import Device
from mnha.guest.moments import Found

MAC, SECOND_MAC = "52:54:00:5a:01:01", "52:54:00:5a:01:02"
HERE, THERE, FAR = "172.20.198.10/24", "172.20.200.10/24", "172.20.210.10/24"
FIRST = {"mac": MAC, "address": HERE, "gateway": "172.20.198.1", "elsewhere": [THERE, FAR],
         "gateways_elsewhere": ["172.20.200.1"]}  # fmt: skip
SECOND = {"mac": SECOND_MAC, "address": "10.0.0.9/16", "gateway": None, "elsewhere": [], "gateways_elsewhere": []}
WANTED = {"dns": ["172.20.198.53"], "console_address": "172.20.198.10", "interfaces": [FIRST, SECOND]}
RIGHT = [Device("lo", "", ("127.0.0.1/8",)), Device("eth0", MAC, (HERE,)), Device("eth1", SECOND_MAC, ("10.0.0.9/16",))]


def with_first(*found: str, mac: str = MAC) -> list[Device]:
    """The guest, its first device with these addresses."""
    return [Device("eth0", mac, found) if one.name == "eth0" else one for one in RIGHT]


@pytest.mark.parametrize(
    ("found", "expected", "state"),
    [
        (RIGHT, [], Found.RIGHT),
        (with_first(HERE, "172.20.198.77/24"), [], Found.RIGHT),
        (with_first(THERE), [f"eth0 has not {HERE}", f"eth0 has {THERE} still"], Found.OTHER),
        (with_first(HERE, FAR), [f"eth0 has {FAR} still"], Found.OTHER),
        (with_first("172.20.198.10/16"), [f"eth0 has not {HERE}"], Found.OTHER),
        (with_first(), [f"eth0 has not {HERE}"], Found.MISSING),
        (RIGHT[:2], [f"it has no network device {SECOND_MAC}"], Found.MISSING),
    ],
    ids=["right", "one of somebody else", "of the node before", "both", "prefix", "none", "a device is missing"],
)
def test_what_differs_is_told(found: list[Device], expected: list[str], state: Found) -> None:
    assert addresses.differences(WANTED, found) == expected
    assert addresses.state(WANTED, found) is state


def test_of_several_devices_with_one_mac_that_counts_which_has_the_address() -> None:
    """A bridge, or a VLAN, on the guest's own interface."""
    bridged = [Device("eth0", MAC, ()), Device("br0", MAC, (THERE,)), Device("br0.7", MAC, ("192.0.2.1/24",)), RIGHT[2]]
    assert addresses.differences(WANTED, bridged) == [f"br0 has not {HERE}", f"br0 has {THERE} still"]
    assert f"set_address br0 {MAC} {HERE}" in addresses.script(WANTED, bridged, "mnvm", "node1")


def test_what_the_agent_tells_is_understood() -> None:
    told = [
        {"name": "lo", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}],
         "hardware-address": "00:00:00:00:00:00"},
        {"name": "eth0", "hardware-address": MAC.upper(), "ip-addresses": [
            {"ip-address-type": "ipv4", "ip-address": "172.20.198.10", "prefix": 24},
            {"ip-address-type": "ipv6", "ip-address": "fe80::1", "prefix": 64}]},
        {"name": "sit0"},
    ]  # fmt: skip
    assert addresses.devices_of(told) == [
        Device("lo", "00:00:00:00:00:00", ("127.0.0.1/8",)),
        Device("eth0", MAC, (HERE,)),
        Device("sit0", "", ()),
    ]


@pytest.mark.parametrize("told", [None, 7, [7], [{}], [{"name": "a", "ip-addresses": [{}]}], {"name": "eth0"}])
def test_what_it_should_not_tell_is_a_failure_that_says_so(told: Any) -> None:
    with pytest.raises(FailedError, match="can't be understood"):
        addresses.devices_of(told)


def test_whether_a_silent_agent_matters() -> None:
    assert addresses.differs_by_node(WANTED)
    assert not addresses.differs_by_node({**WANTED, "interfaces": [SECOND]})


def test_a_device_that_is_not_there_is_left_out_of_the_script() -> None:
    script = addresses.script(WANTED, RIGHT[:2], "mnvm", "node1")
    assert f"set_address eth0 {MAC}" in script
    assert SECOND_MAC not in script


ADDRESS = st.integers(1, 254).map(lambda number: f"172.20.198.{number}/24")
NAMES = st.sampled_from(["eth0", "br0", "weird; rm -rf /", "a'b"])
DEVICES = st.lists(
    st.builds(Device, NAMES, st.sampled_from([MAC, SECOND_MAC, ""]), st.lists(ADDRESS, max_size=3).map(tuple)),
    max_size=4,
)


@given(ADDRESS, st.lists(ADDRESS, max_size=3), DEVICES)
def test_what_a_script_would_make_of_a_guest_is_right_or_a_device_is_missing(
    address: str, others: list[str], found: list[Device]
) -> None:
    elsewhere = sorted(set(others) - {address})
    wanted = {**WANTED, "interfaces": [{**FIRST, "address": address, "elsewhere": elsewhere}]}
    after = []
    device = addresses._device(wanted["interfaces"][0], found)
    for one in found:
        kept = tuple(own for own in one.addresses if own not in elsewhere and own != address)
        after.append(Device(one.name, one.mac, (*kept, address)) if one is device else one)
    left = addresses.differences(wanted, after)
    assert (left == []) == (device is not None), left


@given(DEVICES)
def test_whatever_a_guests_devices_are_called_the_script_is_a_script(found: list[Device]) -> None:
    script = addresses.script(WANTED, found, "mn'vm", "node1")
    done = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
