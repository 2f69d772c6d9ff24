"""The hosts' own networks in a configuration: bonds, and what lies on them. What must hold between the keys is in
:mod:`.network_rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from .fields import LinksPerNode, PerNode, Wrong, bond_mode, check_interface_name, check_links_per_node
from .kinds import AddressPerNode, InterfaceName, Section, per_node

Links = Annotated[LinksPerNode, BeforeValidator(check_links_per_node)]
InterfacePerNode = Annotated[PerNode, per_node(check_interface_name)]
Milliseconds = Annotated[int, Field(ge=0, le=60_000)]


def _check_described(value: Any) -> Any:
    """A network that is named is described: an empty one may be meant as left out, or as not written yet."""
    if value is None:
        raise Wrong("is empty", "leave it out, or describe it, with its `device` at least")
    return value


described = BeforeValidator(_check_described)


class BondOptions(Section):
    """How several links of a host are used as one."""

    mode: Annotated[
        Literal["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"],
        BeforeValidator(bond_mode),
    ] = Field("802.3ad", description="How they are used, by its name or number. 802.3ad (4): LACP, as on the switch.")
    miimon_ms: Milliseconds = Field(100, description="How often each link's carrier is looked at, in milliseconds.")
    xmit_hash_policy: Literal["layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4", "vlan+srcmac"] | None = Field(
        None,
        description="By what a link is chosen for a packet, where the mode has that (802.3ad, balance-xor, "
        "balance-tlb). Left out: layer2+3.",
    )
    lacp_rate: Literal["slow", "fast"] | None = Field(
        None,
        description="How often the switch is asked to send LACP's packets: fast, once a second, so that a link that "
        "has fallen silent is not used after 3 s; slow, each 30 s: after 90 s. For 802.3ad. Left out: fast.",
    )
    updelay_ms: Milliseconds = Field(0, description="So long a link must have its carrier before it is used.")
    downdelay_ms: Milliseconds = Field(0, description="So long a link without carrier is used on.")


class Bond(BondOptions):
    """Several links of a host as one."""

    links: Links = Field(
        description="The network interfaces in it, the same on all nodes, or {node: [interface, …]} where they are "
        "called differently."
    )
    primary: InterfacePerNode | None = Field(
        None, description="The link that is used while it is well, in the modes that use one (active-backup, …)."
    )


class HostNetwork(Section):
    """One network of the hosts."""

    device: InterfacePerNode = Field(description="What it lies on: a bond of `bonds`, or a network interface.")
    vlan: Annotated[int, Field(ge=1, le=4094)] | None = Field(
        None, description="Its VLAN's number, if its frames are tagged on the device. Left out: they are not."
    )
    bridge: InterfaceName | None = Field(
        None, description="A bridge on it, for VMs that are connected to it; the host's address is the bridge's then."
    )
    mtu: Annotated[int, Field(ge=1280, le=9216)] = Field(
        1500, description="The largest packet; 9000 if each switch between the nodes takes jumbo frames."
    )


class DataNetwork(HostNetwork):
    """A network in which the hosts have no address."""

    NOT_HERE: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("address", "prefix", "gateway", "netmask"), "the hosts have no address in the data network"
    )


class AddressedNetwork(HostNetwork):
    """A network in which the hosts have addresses: those of `nodes`."""

    NOT_HERE: ClassVar[Mapping[str, str]] = {
        "address": "the hosts' addresses are those of `nodes`",
        "netmask": "the hosts' networks have a `prefix` instead",
    }

    prefix: Annotated[int, Field(ge=8, le=30)] = Field(
        description="The length of the network's prefix, such as 24, for the nodes' addresses."
    )
    gateway: AddressPerNode | None = Field(
        None,
        description="The router in it; one or per node. The default route goes through that of `management`, or, if "
        "it has none, of `storage`. It is asked whether the network is well.",
    )


class HostNetworks(Section):
    """All networks of the hosts. One that was never described here is there already, and not touched."""

    bonds: dict[InterfaceName, Bond] = Field({}, description="The bonds, by name.")
    storage: Annotated[AddressedNetwork | None, described] = Field(
        None, description="The storage network: `storage` of each node."
    )
    management: Annotated[AddressedNetwork | None, described] = Field(
        None, description="The management network: `management` of each node."
    )
    data: Annotated[DataNetwork | None, described] = Field(
        None, description="The network of the cloud's VMs: the hosts have no address in it."
    )
