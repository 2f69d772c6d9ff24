"""Bonds and bridges of one host that its own states ask for (`bond.present`, `netbridge.present`), beside those of the
cluster's networks. Pure.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from ..errors import ConfigurationError, Fault
from ..host.network.wanted import Bridge, Device, Nic, uses
from . import faults as _faults
from .devices import bond_of
from .fields import check_interface_address, check_links, join, not_a_host
from .host_networks import BondOptions
from .kinds import InterfaceName, IPv4, Section
from .network_rules import of_mode

VERSION = 1
Mtu = Annotated[int, Field(ge=1280, le=9216)]
InterfaceAddress = Annotated[str, BeforeValidator(check_interface_address)]


class OwnBond(BondOptions):
    """A bond of this host alone."""

    links: Annotated[tuple[str, ...], BeforeValidator(check_links)] = Field(description="The interfaces in it.")
    primary: InterfaceName | None = Field(None, description="The link that is used while it is well.")
    mtu: Mtu = Field(1500, description="The largest packet.")
    address: InterfaceAddress | None = Field(None, description="The host's address on it, with the prefix's length.")
    gateway: IPv4 | None = Field(None, description="Where the default route goes, if through this bond.")


class OwnBridge(Section):
    """A bridge of this host alone."""

    port: InterfaceName = Field(description="What it lies on: a bond, or a network interface.")
    mtu: Mtu = Field(1500, description="The largest packet.")
    address: InterfaceAddress | None = Field(None, description="The host's address on it, with the prefix's length.")
    gateway: IPv4 | None = Field(None, description="Where the default route goes, if through this bridge.")


class OwnNetworks(Section):
    """All that the states of one host ask for."""

    bonds: dict[InterfaceName, OwnBond] = {}
    bridges: dict[InterfaceName, OwnBridge] = {}


KINDS = ("bonds", "bridges")


def devices(own: Mapping[str, Any], cluster: Sequence[Device], node: str) -> tuple[Device, ...]:
    """All devices of a host: those of the cluster's networks, and those that its own states ask for.

    :param own: `bonds` and `bridges` by name, as in :class:`OwnNetworks`.
    :param cluster: those of :func:`mnha.config.devices.devices`.
    :returns: each after those that it lies on.
    :raises ConfigurationError: with all faults; their paths begin at `own`.
    """
    try:
        checked = OwnNetworks.model_validate(own)
    except ValidationError as error:
        raise ConfigurationError(faults=_faults.from_pydantic(error, OwnNetworks, own)) from None
    if faults := list(_between(own, checked, cluster, node)):
        raise ConfigurationError(faults=faults)
    above: dict[str, int] = {}
    for bridge in checked.bridges.values():
        above[bridge.port] = max(above.get(bridge.port, 0), bridge.mtu)
    found = {device.name: device for device in cluster}
    for name, bond in checked.bonds.items():
        mtu = max(bond.mtu, above.get(name, 0))
        found |= {link: Nic(link, mtu) for link in bond.links}
        made = bond_of(name, bond, bond.links, bond.primary, mtu)
        found[name] = dataclasses.replace(made, address=bond.address, gateway=bond.gateway)
    for name, bridge in checked.bridges.items():
        found.setdefault(bridge.port, Nic(bridge.port, above[bridge.port]))
        found[name] = Bridge(name, bridge.mtu, bridge.address, bridge.gateway, port=bridge.port)
    return tuple(found.values())


def _between(own: Mapping[str, Any], checked: OwnNetworks, cluster: Sequence[Device], node: str) -> Iterator[Fault]:
    """What must hold between what is asked for here, and between that and the cluster's networks."""
    theirs = {device.name: device for device in cluster}
    user = {name: device.name for device in cluster for name in uses(device)}
    yield from _names(checked, theirs)
    for name, bond in checked.bonds.items():
        yield from of_mode(join("bonds", name), name, own["bonds"][name], [node])
        path = join("bonds", name, "links")
        for link in bond.links:
            if (other := user.setdefault(link, name)) != name:
                yield Fault(path, link, f"{link} is in {other} already", "give each links of its own")
            elif not isinstance(theirs.get(link, Nic(link)), Nic) or link in checked.bonds:
                yield Fault(path, link, f"{link} is no network interface", "name interfaces")
            elif link in theirs:
                problem = f"by the pillar a network of the cluster lies on {link}"
                yield Fault(path, link, problem, "name other interfaces, or make the bond under mnha:cluster:networks")
    for name, bridge in checked.bridges.items():
        path, other = join("bridges", name, "port"), user.setdefault(bridge.port, name)
        if other != name:
            yield Fault(path, bridge.port, f"{bridge.port} belongs to {other} already", "name another device")
        elif why := _unfit(bridge, theirs.get(bridge.port), checked.bonds.get(bridge.port)):
            yield Fault(path, bridge.port, f"{bridge.port} {why}", "change that first")
    for kind in KINDS:
        for name, one in getattr(checked, kind).items():
            yield from _gateway(join(kind, name, "gateway"), name, one)


def _names(checked: OwnNetworks, theirs: Mapping[str, Device]) -> Iterator[Fault]:
    for kind in KINDS:
        for name in getattr(checked, kind):
            if name in theirs:
                problem = "the pillar has it already, under mnha:cluster:networks"
                yield Fault(join(kind, name), name, problem, "change it there")
            elif kind == "bridges" and name in checked.bonds:
                yield Fault(join(kind, name), name, "a bond has this name", "give it another one")


def _unfit(bridge: OwnBridge, theirs: Device | None, own: OwnBond | None) -> str:
    """Why a device can't be the port of a bridge; empty if it can."""
    address = theirs.address if theirs else own.address if own else None
    if address:
        return f"has the address {address}, which would be the bridge's then"
    if theirs and theirs.mtu < bridge.mtu:
        return f"has an MTU of {theirs.mtu} by the pillar"
    return ""


def _gateway(path: str, name: str, one: OwnBond | OwnBridge) -> Iterator[Fault]:
    if one.gateway is None:
        return
    if one.address is None:
        yield Fault(path, one.gateway, f"{name} has no address", "give it one, too")
        return
    own = ipaddress.IPv4Interface(one.address)
    if ipaddress.IPv4Address(one.gateway) not in own.network:
        yield Fault(path, one.gateway, f"is not in the network of {one.address}", "correct one of them")
    elif not_a_host(one.gateway, own.network):
        yield Fault(path, one.gateway, f"is no host's address in {own.network}", "give the router's")
    elif one.gateway == str(own.ip):
        yield Fault(path, one.gateway, "is this host's own address", "give the router's")


def check(kind: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a state asks for, without what was left out.

    :raises ConfigurationError: it is wrong by itself, with all faults.
    """
    asked = {key: value for key, value in given.items() if value is not None}
    try:
        OwnNetworks.model_validate({kind: {name: asked}})
    except ValidationError as error:
        found = _faults.from_pydantic(error, OwnNetworks, {kind: {name: asked}})
        raise ConfigurationError(faults=found) from None
    return asked
