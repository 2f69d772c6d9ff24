"""What a VM's guest is to have in its networks, at each node. Pure.

Derived once, for the seed that the guest boots from (:mod:`mnha.guest.seed`) and for the guard, which sets a running
guest's addresses (:mod:`mnha.guest.addresses`).
"""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING, Any

from .fields import value_at

if TYPE_CHECKING:
    from .model import ClusterConfig, Network, Vm


@dataclasses.dataclass(frozen=True)
class Interface:
    """One network interface of the guest.

    :param number: its place in the VM's list of networks, from 0.
    :param address: with the length of its prefix: `172.20.198.10/24`.
    :param gateway: of the default route, if that goes through here; else None.
    """

    number: int
    mac: str
    address: str
    gateway: str | None


def interfaces(vm: Vm, node: str) -> tuple[Interface, ...]:
    """What the guest is to have while it runs at `node`; a network without an address is not among it."""
    return tuple(
        Interface(
            number,
            network.mac,
            _address(network, node),
            value_at(network.gateway, node) if network.default_route and network.gateway else None,
        )
        for number, network in enumerate(vm.networks)
        if network.address and network.netmask
    )


def console_address(vm: Vm, node: str) -> str:
    """Where browsers reach the guest's console proxy while it runs at `node`: the configured address, or the guest's
    own in its management network.
    """
    if vm.console_proxy_address:
        return value_at(vm.console_proxy_address, node)
    return next(value_at(one.address, node) for one in vm.networks if one.management and one.address)


def wanted(cluster: ClusterConfig, name: str, node: str) -> dict[str, Any]:
    """What the guard of `node` is to make of a running guest; plain values. Of each interface it also has what the
    guest has at the other nodes, for that is what it may bring along.
    """
    vm = cluster.require_vm(name)
    others = [interfaces(vm, other) for other in cluster.nodes if other != node]
    found = []
    for place, one in enumerate(interfaces(vm, node)):
        there = [other[place] for other in others]
        found.append(
            {
                "mac": one.mac,
                "address": one.address,
                "gateway": one.gateway,
                "elsewhere": sorted({other.address for other in there} - {one.address}),
                "gateways_elsewhere": sorted({other.gateway for other in there if other.gateway} - {one.gateway}),
            }
        )
    return {"dns": list(vm.dns), "console_address": console_address(vm, node), "interfaces": found}


def _address(network: Network, node: str) -> str:
    """The address at `node`, with the length of its prefix."""
    assert network.address is not None, "who asks has looked"
    assert network.netmask is not None, "who asks has looked"
    mask = value_at(network.netmask, node)
    return ipaddress.IPv4Interface(f"{value_at(network.address, node)}/{mask}").with_prefixlen
