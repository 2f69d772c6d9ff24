"""What must hold between the keys of the hosts' networks. Pure; as :mod:`.rules`, over plain mappings of which each
value is valid by itself, missing or taken out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import Fault
from .fields import (
    BOND_MODES,
    INTERFACE_NAME,
    Wrong,
    bond_mode,
    check_interface_name,
    check_ipv4,
    check_links_per_node,
    check_per_node,
    items,
    join,
    nested,
    not_a_host,
)

ROLES = ("storage", "management", "data")
ADDRESSED = ("storage", "management")
HASHED = ("802.3ad", "balance-xor", "balance-tlb")
"""The modes in which a hash of the packet chooses the link."""
WITH_PRIMARY = ("active-backup", "balance-tlb", "balance-alb")
LACP = "802.3ad"
NAMED_AS_BOND = re.compile(r"bond\d+")

Mapping_ = Mapping[str, Any]


@dataclass(frozen=True)
class _Network:
    """One network as far as it is known; what is a value per node is by node here."""

    role: str
    path: str
    device: dict[str, str]
    gateway: dict[str, str]
    vlan: int | None
    bridge: str | None
    mtu: int
    prefix: int | None


def check(cluster: Mapping_) -> Iterator[Fault]:
    """All faults between the keys of `networks`, and between them and `nodes`; paths are relative to `cluster`.

    What is wrong in the same way on several nodes is told once.
    """
    told: set[str] = set()
    for fault in _of_each_node(cluster):
        if fault.path not in told:
            told.add(fault.path)
            yield fault


def _of_each_node(cluster: Mapping_) -> Iterator[Fault]:
    if not isinstance(nested(cluster, "networks"), Mapping):
        return
    nodes = [str(name) for name, _ in items(nested(cluster, "nodes"))]
    bonds = {str(name): bond for name, bond in items(nested(cluster, "networks", "bonds")) if isinstance(bond, Mapping)}
    networks = [_network(cluster, role, nodes) for role in ROLES]
    found = [network for network in networks if network is not None]
    yield from _values_of_each_node(cluster, bonds, nodes)
    for name, bond in bonds.items():
        yield from of_mode(join("networks", "bonds", name), name, bond, nodes)
    links = {name: _links(bond, nodes) for name, bond in bonds.items()}
    yield from _one_use_of_each_link(links, found, nodes)
    yield from _one_name_for_each(links, found, nodes)
    yield from _one_network_for_each_tag(found, nodes)
    for network in found:
        yield from _addresses(cluster, network, nodes)
    yield from _apart(cluster, found, nodes)


def _network(cluster: Mapping_, role: str, nodes: list[str]) -> _Network | None:
    raw = nested(cluster, "networks", role)
    if not isinstance(raw, Mapping):
        return None
    vlan, bridge, mtu, prefix = (raw.get(key) for key in ("vlan", "bridge", "mtu", "prefix"))
    return _Network(
        role,
        join("networks", role),
        _resolved(raw.get("device"), nodes, check_interface_name),
        _resolved(raw.get("gateway"), nodes, check_ipv4),
        vlan if isinstance(vlan, int) else None,
        bridge if isinstance(bridge, str) else None,
        mtu if isinstance(mtu, int) else 1500,
        prefix if isinstance(prefix, int) else None,
    )


def _resolved(value: Any, nodes: list[str], check_one: Any) -> dict[str, str]:
    """A value by node; a single one is that of all nodes; nothing if it is missing or was taken out."""
    try:
        resolved = check_per_node(value, check_one)
    except Wrong:
        return {}
    return dict.fromkeys(nodes, resolved) if isinstance(resolved, str) else resolved


def _links(bond: Mapping_, nodes: list[str]) -> dict[str, tuple[str, ...]]:
    """A bond's links by node."""
    try:
        resolved = check_links_per_node(bond.get("links"))
    except Wrong:
        return {}
    return resolved if isinstance(resolved, dict) else dict.fromkeys(nodes, resolved)


def _values_of_each_node(cluster: Mapping_, bonds: Mapping_, nodes: list[str]) -> Iterator[Fault]:
    """What is given per node is given for every node, and for no other."""
    places = [
        (join("networks", "bonds", name, key), bond.get(key))
        for name, bond in bonds.items()
        for key in ("links", "primary")
    ]
    places += [
        (join("networks", role, key), nested(cluster, "networks", role, key))
        for role in ROLES
        for key in ("device", "gateway")
    ]
    yield from given_for_each_node(places, nodes)


def given_for_each_node(places: Iterable[tuple[str, Any]], nodes: list[str]) -> Iterator[Fault]:
    """What is given per node is given for every node, and for no other.

    :param places: paths, and what stands there.
    """
    for path, value in places:
        given = _resolved(value, nodes, str) if isinstance(value, str) else value
        if not isinstance(given, Mapping) or not nodes:
            continue
        for name in sorted(set(given) - set(nodes)):
            yield Fault(
                join(path, name), given[name], f"{name} is no node of the cluster", f"its nodes are {', '.join(nodes)}"
            )
        missing = [name for name in nodes if name not in given]
        if missing:
            yield Fault(
                path, value, f"has no value for {', '.join(missing)}", "give one for every node, or one for all"
            )


def of_mode(path: str, name: str, bond: Mapping_, nodes: list[str]) -> Iterator[Fault]:
    """The options that a mode has, and no others: the kernel ignores or refuses them, each in its way."""
    mode = bond_mode(bond.get("mode", LACP))
    if mode not in BOND_MODES:
        return
    for key, modes in (("xmit_hash_policy", HASHED), ("lacp_rate", (LACP,)), ("primary", WITH_PRIMARY)):
        if isinstance(bond.get(key), str | Mapping) and mode not in modes:
            yield Fault(
                join(path, key),
                bond[key],
                f"has no meaning in mode {mode}",
                f"leave it out, or use mode {' or '.join(modes)}",
            )
    primary, links = _resolved(bond.get("primary"), nodes, check_interface_name), _links(bond, nodes)
    strangers = {node: link for node, link in primary.items() if node in links and link not in links[node]}
    if strangers:
        node, link = next(iter(strangers.items()))
        yield Fault(
            join(path, "primary"),
            bond["primary"],
            f"{link} is no link of {name} on {', '.join(strangers)}",
            f"name one of {', '.join(links[node])}",
        )


def _one_use_of_each_link(
    links: Mapping[str, Mapping[str, tuple[str, ...]]], networks: list[_Network], nodes: list[str]
) -> Iterator[Fault]:
    """A network interface is in one bond, and then nothing else lies on it."""
    for node in nodes:
        owner: dict[str, str] = {}
        for bond, by_node in links.items():
            for link in by_node.get(node, ()):
                if link in owner:
                    yield Fault(
                        join("networks", "bonds", bond, "links"),
                        link,
                        f"{link} of {node} is in {owner[link]} already",
                        "give each bond links of its own",
                    )
                owner.setdefault(link, bond)
        for network in networks:
            device = network.device.get(node, "")
            if device in owner:
                yield Fault(
                    join(network.path, "device"),
                    device,
                    f"{device} of {node} is a link of {owner[device]}",
                    f"write {owner[device]}",
                )


def _one_name_for_each(
    links: Mapping[str, Mapping[str, tuple[str, ...]]], networks: list[_Network], nodes: list[str]
) -> Iterator[Fault]:
    """No two devices of a node have one name, and none has one that Linux does not take."""
    for node in nodes:
        taken = {link: f"a link of {bond}" for bond, by_node in links.items() for link in by_node.get(node, ())}
        for bond in links:
            if bond in taken:
                yield Fault(
                    join("networks", "bonds", bond),
                    bond,
                    f"{bond} is {taken[bond]}, too, on {node}",
                    "give the bond another name",
                )
            taken[bond] = "a bond"
        for network in networks:
            if node in network.device:
                taken.setdefault(network.device[node], "a network interface")
        for network in networks:
            made = [("bridge", network.bridge, f"the bridge of {network.role}")] if network.bridge else []
            if network.vlan is not None and node in network.device:
                device = network.device[node]
                made.append(("vlan", f"{device}.{network.vlan}", f"VLAN {network.vlan} of {device}"))
            for key, name, what in made:
                path = join(network.path, key)
                if not INTERFACE_NAME.fullmatch(name):
                    problem = f"its device would be called {name}, and Linux takes 15 characters"
                    yield Fault(path, network.vlan, problem, "give the bond a shorter name")
                elif taken.setdefault(name, what) != what:
                    yield Fault(path, name, f"{name} is {taken[name]}, too", "give each its own name")


def _one_network_for_each_tag(networks: list[_Network], nodes: list[str]) -> Iterator[Fault]:
    """Two networks on one device are told apart by their VLANs, and its MTU suits the one without."""
    for node in nodes:
        for device in dict.fromkeys(network.device[node] for network in networks if node in network.device):
            here = [network for network in networks if network.device.get(node) == device]
            first: dict[int | None, _Network] = {}
            for network in here:
                other = first.setdefault(network.vlan, network)
                if other is not network:
                    which = f"in VLAN {network.vlan}" if network.vlan else "without a VLAN"
                    yield Fault(
                        join(network.path, "device"),
                        device,
                        f"{other.role} is on {device} {which}, too",
                        "give each its device, or a VLAN of its own",
                    )
            largest = max(network.mtu for network in here)
            untagged = first.get(None)
            if untagged is not None and untagged.mtu < largest:
                yield Fault(
                    join(untagged.path, "mtu"),
                    untagged.mtu,
                    f"{device} itself has an MTU of {largest}, for a VLAN on it",
                    f"raise it to {largest}, or lower that of the VLAN",
                )


def _addresses(cluster: Mapping_, network: _Network, nodes: list[str]) -> Iterator[Fault]:
    """A node's address is a host's in its network, and so is the gateway, and it is nobody else's."""
    if network.role not in ADDRESSED or network.prefix is None:
        return
    own = {node: address for node in nodes if (address := _address(cluster, node, network.role))}
    guests = _guests(cluster, nodes)
    for node, address in own.items():
        there = ipaddress.IPv4Network(f"{address}/{network.prefix}", strict=False)
        if not_a_host(address, there):
            yield Fault(
                join("nodes", node, network.role),
                address,
                f"{address} is no host's address in {there}",
                f"give one in between, or correct {network.path}:prefix",
            )
        gateway = network.gateway.get(node)
        if gateway is None:
            continue
        if ipaddress.IPv4Address(gateway) not in there:
            yield Fault(
                join(network.path, "gateway"),
                gateway,
                f"{gateway} is not in the network {there} of {node}",
                "correct one of them; where the nodes are in different networks, give one per node",
            )
            return
        if why := _no_router(gateway, there, own, guests):
            yield Fault(join(network.path, "gateway"), gateway, why, "give the router's")
            return


def _no_router(gateway: str, there: ipaddress.IPv4Network, nodes: Mapping[str, str], guests: Mapping[str, str]) -> str:
    """Why an address can't be that of the router of a network; empty if it can."""
    if not_a_host(gateway, there):
        return f"is no host's address in {there}"
    owners = [name for name, address in nodes.items() if address == gateway]
    owners += [f"the VM {guests[gateway]}"] if gateway in guests else []
    return f"is the address of {owners[0]}" if owners else ""


def _guests(cluster: Mapping_, nodes: list[str]) -> dict[str, str]:
    """The VM that has an address, by address."""
    return {
        address: str(name)
        for name, vm in items(nested(cluster, "vms"))
        for _, network in items(nested(vm, "networks"))
        for address in _resolved(nested(network, "address"), nodes, check_ipv4).values()
    }


def doubts(cluster: Mapping_) -> Iterator[Fault]:
    """What is allowed, and may turn out badly; paths are relative to `cluster`."""
    if not isinstance(nested(cluster, "networks"), Mapping):
        return
    nodes = [str(name) for name, _ in items(nested(cluster, "nodes"))]
    found = [network for role in ROLES if (network := _network(cluster, role, nodes)) is not None]
    bonds = [str(name) for name, _ in items(nested(cluster, "networks", "bonds"))]
    for network in found:
        for device in dict.fromkeys(network.device.values()):
            if NAMED_AS_BOND.fullmatch(device) and device not in bonds:
                problem = f"{device} is named like a bond, and networks:bonds has none of that name"
                remedy = f"describe it there, or be sure that each node has an interface {device}"
                yield Fault(join(network.path, "device"), device, problem, remedy)
    made = [network.bridge for network in found if network.bridge]
    for name, vm in items(nested(cluster, "vms")):
        for index, one in items(nested(vm, "networks")):
            bridge = nested(one, "bridge")
            if made and isinstance(bridge, str) and bridge not in made:
                problem = f"no network of `networks` makes the bridge {bridge}: it must be there already"
                remedy = f"be sure that each node has it, or name one that is made: {', '.join(made)}"
                yield Fault(join("vms", str(name), "networks", index, "bridge"), bridge, problem, remedy)


def _apart(cluster: Mapping_, networks: list[_Network], nodes: list[str]) -> Iterator[Fault]:
    """The management network is another one than the storage network: else one of them would carry both."""
    both = [network for network in networks if network.role in ADDRESSED and network.prefix is not None]
    if len(both) != len(ADDRESSED):
        return
    for node in nodes:
        found = [(network, _address(cluster, node, network.role)) for network in both]
        there = [
            ipaddress.IPv4Network(f"{address}/{network.prefix}", strict=False) for network, address in found if address
        ]
        if len(there) == len(both) and there[0].overlaps(there[1]):
            yield Fault(
                "networks:management:prefix",
                both[1].prefix,
                f"the management network {there[1]} and the storage network {there[0]} of {node} overlap",
                "give the nodes addresses in two networks, or longer prefixes",
            )
            return


def _address(cluster: Mapping_, node: str, role: str) -> str | None:
    """A node's address in a network, if there is one that can be compared."""
    try:
        return check_ipv4(nested(cluster, "nodes", node, role))
    except Wrong:
        return None
