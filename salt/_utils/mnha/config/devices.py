"""From the hosts' networks to the devices of one node. Pure."""

from __future__ import annotations

from dataclasses import replace

from ..host.network.reach import Network
from ..host.network.wanted import Bond, Bridge, Device, Nic, Vlan
from . import host_networks
from .fields import value_at
from .model import ClusterConfig
from .network_rules import ADDRESSED, HASHED, LACP, ROLES


def devices(cluster: ClusterConfig, node: str) -> tuple[Device, ...]:
    """The devices that the configuration wants on `node`, each after those that it lies on.

    :returns: empty if the configuration says nothing of the hosts' networks.
    :raises InputError: the cluster has no such node.
    """
    cluster.require_node(node)
    if cluster.networks is None:
        return ()
    networks = {role: network for role in ROLES if (network := getattr(cluster.networks, role)) is not None}
    found: dict[str, Device] = {}
    for name, bond in cluster.networks.bonds.items():
        mtu = _mtu_below(networks, name, node)
        links = value_at(bond.links, node)
        primary = None if bond.primary is None else value_at(bond.primary, node)
        found |= {link: Nic(link, mtu) for link in links}
        found[name] = bond_of(name, bond, links, primary, mtu)
    for network in networks.values():
        name = value_at(network.device, node)
        found.setdefault(name, Nic(name, _mtu_below(networks, name, node)))
        if network.vlan is not None:
            below, name = name, f"{name}.{network.vlan}"
            found[name] = Vlan(name, network.mtu, below=below, tag=network.vlan)
        if network.bridge is not None:
            port, name = name, network.bridge
            found[name] = Bridge(name, network.mtu, port=port)
        if isinstance(network, host_networks.AddressedNetwork):
            role = next(role for role, one in networks.items() if one is network)
            address = f"{getattr(cluster.nodes[node], role)}/{network.prefix}"
            found[name] = replace(found[name], address=address, gateway=_way_out(networks, role, node))
    return tuple(found.values())


def _mtu_below(networks: dict[str, host_networks.HostNetwork], device: str, node: str) -> int:
    """The MTU of a device: it must do for all networks that lie on it."""
    return max((one.mtu for one in networks.values() if value_at(one.device, node) == device), default=1500)


def _way_out(networks: dict[str, host_networks.HostNetwork], role: str, node: str) -> str | None:
    """The gateway of a network, if the default route goes through it: through `management` rather than `storage`."""
    gateways = {name: gateway for name in ("management", "storage")
                if (gateway := getattr(networks.get(name), "gateway", None)) is not None}  # fmt: skip
    return value_at(gateways[role], node) if next(iter(gateways), None) == role else None


def bond_of(name: str, bond: host_networks.BondOptions, links: tuple[str, ...], primary: str | None, mtu: int) -> Bond:
    """A bond as a device, with the options that its mode has."""
    options = {"miimon": str(bond.miimon_ms)}
    if bond.mode in HASHED:
        options["xmit_hash_policy"] = bond.xmit_hash_policy or "layer2+3"
    if bond.mode == LACP:
        options["lacp_rate"] = bond.lacp_rate or "fast"
    if primary is not None:
        options["primary"] = primary
    for key, delay_ms in (("updelay", bond.updelay_ms), ("downdelay", bond.downdelay_ms)):
        if delay_ms:
            options[key] = str(delay_ms)
    return Bond(name, mtu, links=links, mode=bond.mode, options=options)


def of_data(cluster: ClusterConfig, node: str) -> str:
    """The device of the network `data` on `node`; empty if the configuration names none."""
    data = cluster.networks.data if cluster.networks else None
    if data is None:
        return ""
    device = value_at(data.device, node)
    return device if data.vlan is None else f"{device}.{data.vlan}"


def networks(cluster: ClusterConfig, node: str) -> tuple[Network, ...]:
    """The networks in which `node` is to have an address by its devices, with who is to answer there.

    :raises InputError: the cluster has no such node.
    """
    own = {device.address: device for device in devices(cluster, node) if device.address}
    found = []
    for role in ADDRESSED:
        network = getattr(cluster.networks, role, None)
        if network is None:
            continue
        known = known_by(cluster, node, role)
        device = own[f"{known.address}/{network.prefix}"]
        gateway = value_at(network.gateway, node) if network.gateway is not None else None
        found.append(replace(known, device=device.name, mtu=network.mtu, gateway=gateway))
    return tuple(found)


def known_by(cluster: ClusterConfig, node: str, role: str) -> Network:
    """A network in which the cluster knows `node`, be it made by the configuration or not: whichever device has it.

    :raises InputError: the cluster has no such node.
    """
    cluster.require_node(node)
    peers = {name: getattr(peer, role) for name, peer in cluster.nodes.items() if name != node}
    return Network(role, "", getattr(cluster.nodes[node], role), peers=peers)
