"""Why the devices that are wanted can't be made on a host as it is. Pure.

What is refused is what would take something away from somebody: an address that is in use, a port of another's bridge,
an interface on which something else lies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from .live import Interface
from .wanted import Bond, Bridge, Device, Nic, Vlan, uses

KINDS: dict[type[Device], str] = {Nic: "", Bond: "bond", Vlan: "vlan", Bridge: "bridge"}
NAMES = {"": "a network interface", "bond": "a bond", "vlan": "a VLAN", "bridge": "a bridge"}
TEMPORARY = ("vnet", "tap", "macvtap")
"""How the ports of VMs are called: they come and go, and stay where they are."""


def refusals(there: Mapping[str, Interface], wanted: Sequence[Device], made: Collection[str] = ()) -> list[str]:
    """All reasons, a sentence each, with what to do; empty: there is none.

    :param there: the host's devices, by name.
    :param made: the names of devices that were made from an earlier configuration, and so may change.
    """
    mine = {device.name for device in wanted} | set(made)
    found: list[str] = []
    for device in wanted:
        live = there.get(device.name)
        if live is None:
            if isinstance(device, Nic):
                found.append(_missing(there, device.name))
        elif live.kind != KINDS[type(device)]:
            what = NAMES.get(live.kind, f"a device of kind {live.kind}")
            found.append(f"{device.name} is to be {NAMES[KINDS[type(device)]]}, and is {what} here: name another one")
        else:
            found += _taken_away(there, wanted, device, live, mine)
    return found


def going(there: Mapping[str, Interface], names: Collection[str], mine: Collection[str]) -> list[str]:
    """Why devices that were made from an earlier configuration can't go, a sentence each, with what to do.

    :param names: of those that no file has any more.
    :param mine: of all devices that are wanted, or were made from an earlier configuration.
    """
    found = []
    for name in sorted(set(names) & there.keys()):
        live = there[name]
        if live.master is not None and live.master not in mine:
            found.append(f"{name} is to go, and belongs to {live.master}: take it out there first")
        for other in there.values():
            if other.below == name and other.name not in mine:
                found.append(f"{name} is to go, and {other.name} lies on it: remove that first")
            if live.kind == "bridge" and other.master == name and other.name not in mine:
                found.append(f"{name} is to go, and {other.name} is a port of it: take that out first")
    return found


def lost(
    there: Mapping[str, Interface], own: Mapping[str, str], touched: Collection[str], given: Collection[str]
) -> list[str]:
    """Which of the addresses by which the cluster knows this host would be gone, a sentence each, with what to do.

    :param own: those addresses, by their network.
    :param touched: the names of the devices that are made, changed or taken away.
    :param given: the addresses that the files give afterwards.
    """
    found = []
    for role, address in own.items():
        holders = [one.name for one in there.values() if any(has(text, address) for text in one.addresses)]
        if holders and address not in given and set(holders) <= set(touched):
            found.append(
                f"{', '.join(holders)} has this node's address {address} of the {role} network, and nothing would have "
                f"it afterwards: let mnha:cluster:networks have {role}, or move the stanzas of what has it from "
                f"/etc/network/interfaces.d/mnha to /etc/network/interfaces"
            )
    return found


def has(text: str, address: str) -> bool:
    """Whether an address with its prefix is `address`."""
    return text.partition("/")[0] == address


def _missing(there: Mapping[str, Interface], name: str) -> str:
    free = sorted(one.name for one in there.values() if not one.kind and not one.name.startswith(TEMPORARY))
    return f"there is no interface {name} here: there are {', '.join(free) or 'none'}"


def _taken_away(
    there: Mapping[str, Interface], wanted: Sequence[Device], device: Device, live: Interface, mine: Collection[str]
) -> Iterator[str]:
    """What others have on a device that is there, and would lose."""
    if live.master is not None and live.master not in mine:
        yield f"{live.name} belongs to {live.master}, which the configuration does not have: take it out there first"
    below = any(live.name in uses(other) for other in wanted)
    for other in there.values():
        if other.below == live.name and other.name not in mine:
            yield f"{other.name} lies on {live.name}: remove it first, or let the configuration have that VLAN"
        stays = other.name in mine or other.name.startswith(TEMPORARY)
        if isinstance(device, Bridge) and other.master == live.name and not stays:
            yield f"{other.name} is a port of {live.name}, too, and would be taken out of it: do so first"
    kept = {address for name in _above(wanted, device.name) for address in _addresses(wanted, name)}
    for address in live.addresses:
        if below and address not in kept:
            yield f"{live.name} has the address {address}, which nothing that lies on it would have: remove it first"


def _above(wanted: Sequence[Device], name: str) -> set[str]:
    """A device and all that lies on it."""
    found = {name}
    for device in wanted:  # each comes after those that it lies on
        if found & set(uses(device)):
            found.add(device.name)
    return found


def _addresses(wanted: Sequence[Device], name: str) -> Iterator[str]:
    for device in wanted:
        if device.name == name and device.address:
            yield device.address
