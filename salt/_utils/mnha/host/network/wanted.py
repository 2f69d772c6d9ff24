"""The network devices that a host is to have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Device:
    """What all kinds have in common.

    :param mtu: the largest packet, in bytes.
    :param address: the host's address on it, with the prefix's length; None: none.
    :param gateway: where the default route goes, if it goes through this device.
    """

    name: str
    mtu: int = 1500
    address: str | None = None
    gateway: str | None = None


@dataclass(frozen=True)
class Nic(Device):
    """A network interface that is there."""


@dataclass(frozen=True)
class Bond(Device):
    """Several links as one.

    :param links: the names of the interfaces in it.
    :param mode: by its name.
    :param options: more of the kernel's options for bonds, by their names there.
    """

    links: tuple[str, ...] = ()
    mode: str = "802.3ad"
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Vlan(Device):
    """The frames of another device that have a tag.

    :param below: the other device.
    :param tag: the VLAN's number.
    """

    below: str = ""
    tag: int = 0


@dataclass(frozen=True)
class Bridge(Device):
    """A switch in the host, for VMs.

    :param port: the device by which it is connected to the network.
    """

    port: str = ""


def uses(device: Device) -> tuple[str, ...]:
    """The names of the devices that one lies on."""
    match device:
        case Bond():
            return device.links
        case Vlan():
            return (device.below,)
        case Bridge():
            return (device.port,)
    return ()


@dataclass(frozen=True)
class Wish:
    """What a host is to have, by who asks for it.

    :param cluster: the devices of the cluster's networks; None: nothing is said of them, and those that were made of
        them stay as they are.
    :param own: the devices that the host's own states ask for, without those of `cluster`; None: no state has ever said
        anything, and those that were made for one stay as they are.
    :param addresses: the addresses by which the cluster knows this host, by their network. They are not to be lost.
    """

    cluster: tuple[Device, ...] | None = None
    own: tuple[Device, ...] | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)

    @property
    def devices(self) -> tuple[Device, ...]:
        """All that are asked for, each after those that it lies on."""
        return (self.cluster or ()) + (self.own or ())
