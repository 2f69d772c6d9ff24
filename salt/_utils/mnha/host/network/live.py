"""The network devices that a host has: by netlink, and of bonds what only sysfs tells.

Needs pyroute2, when it is asked; what is made of the answers is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSFS = Path("/sys/class/net")
NO_PARTNER = "00:00:00:00:00:00"
"""The MAC of a partner that has never spoken, or not for too long."""

SYNCHRONIZED, COLLECTING, DISTRIBUTING, DEFAULTED, EXPIRED = 0x08, 0x10, 0x20, 0x40, 0x80
"""Bits of the state of a port in LACP (IEEE 802.1AX, 6.4.2.3)."""
PASSES = SYNCHRONIZED | COLLECTING | DISTRIBUTING


@dataclass(frozen=True)
class Port:
    """An interface as a link of a bond.

    :param up: whether the bond finds its carrier well.
    :param active: whether the bond uses it.
    :param aggregator: the number of the group of links that it belongs to (LACP); None: none.
    :param actor: the state of this end (LACP), see the bits above; None: not known, or not LACP.
    :param partner: the same of the switch's end, as it has told.
    """

    up: bool
    active: bool
    aggregator: int | None = None
    actor: int | None = None
    partner: int | None = None

    @property
    def passes(self) -> bool:
        """Whether frames pass: the switch has agreed where that has to, else the carrier is there."""
        if self.actor is None or self.partner is None:
            return self.up and self.active
        heard = not self.actor & (DEFAULTED | EXPIRED)
        return self.up and heard and self.actor & PASSES == PASSES and self.partner & PASSES == PASSES


@dataclass(frozen=True)
class Team:
    """What a bond says of itself.

    :param options: the kernel's, by their names there.
    :param partner: the MAC of the switch (LACP); None: the mode is another one.
    :param aggregator: the number of the group of links that is used (LACP).
    """

    mode: str
    links: tuple[str, ...]
    options: Mapping[str, str]
    partner: str | None = None
    aggregator: int | None = None

    @property
    def heard(self) -> bool:
        """Whether a switch has answered by LACP, lately; true in other modes."""
        return self.partner != NO_PARTNER


@dataclass(frozen=True)
class Interface:
    """A network device.

    :param kind: `bond`, `bridge`, `vlan`, … as the kernel calls it; empty: a network interface.
    :param master: the bond or bridge it belongs to.
    :param below: the device that it lies on (a VLAN).
    :param addresses: IPv4, with the prefix's length.
    :param carrier: whether there is one; False too while it is down.
    :param speed_mbit_s: None: not known, or down.
    """

    name: str
    kind: str = ""
    mac: str = ""
    mtu: int = 1500
    up: bool = False
    carrier: bool = False
    master: str | None = None
    below: str | None = None
    addresses: tuple[str, ...] = ()
    speed_mbit_s: int | None = None
    duplex: str | None = None
    port: Port | None = None
    team: Team | None = None


def look() -> dict[str, Interface]:
    """The devices of this host, by name, without `lo`.

    :raises OSError: the kernel can't be asked.
    """
    from pyroute2 import IPRoute  # not at the top: only what looks needs it

    with IPRoute() as netlink:
        links, addresses = list(netlink.get_links()), list(netlink.get_addr(family=2))
    return of(links, addresses, _read)


def _read(path: str) -> str:
    """A file below SYSFS; empty if it can't be read, as that of a speed while there is no carrier."""
    try:
        return (SYSFS / path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def of(links: Iterable[Any], addresses: Iterable[Any], read: Callable[[str], str]) -> dict[str, Interface]:
    """The devices that the kernel's messages tell of.

    :param links: messages RTM_NEWLINK, as pyroute2 gives them.
    :param addresses: messages RTM_NEWADDR, of IPv4.
    :param read: gives the text of a file below SYSFS, or an empty one.
    """
    messages = list(links)
    names = {message["index"]: message.get_attr("IFLA_IFNAME") for message in messages}
    own: dict[str, list[str]] = {}
    for message in addresses:
        text = f"{message.get_attr('IFA_LOCAL') or message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}"
        own.setdefault(names.get(message["index"], ""), []).append(text)
    found = [_interface(message, names, own, read) for message in messages]
    return {one.name: one for one in found if one.name != "lo"}


def _interface(
    message: Any, names: Mapping[int, str], own: Mapping[str, list[str]], read: Callable[[str], str]
) -> Interface:
    name = message.get_attr("IFLA_IFNAME")
    info = message.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
    member_of = (info.get_attr("IFLA_INFO_SLAVE_KIND") if info else None) or ""
    below = message.get_attr("IFLA_LINK")
    speed = read(f"{name}/speed")
    return Interface(
        name=name,
        kind="" if kind == "veth" else kind,
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU"),
        up=bool(message["flags"] & 1),
        carrier=bool(message.get_attr("IFLA_CARRIER")),
        master=names.get(message.get_attr("IFLA_MASTER") or -1),
        below=names.get(below) if kind == "vlan" else None,
        addresses=tuple(own.get(name, ())),
        speed_mbit_s=int(speed) if speed.isdigit() else None,
        duplex=read(f"{name}/duplex") if speed.isdigit() else None,
        port=port_of(name, read) if member_of == "bond" else None,
        team=team_of(name, read) if kind == "bond" else None,
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def port_of(name: str, read: Callable[[str], str]) -> Port:
    """An interface as a link of a bond."""
    folder = f"{name}/bonding_slave"
    return Port(
        up=read(f"{folder}/mii_status") == "up",
        active=read(f"{folder}/state") == "active",
        aggregator=_number(read(f"{folder}/ad_aggregator_id")),
        actor=_number(read(f"{folder}/ad_actor_oper_port_state")),
        partner=_number(read(f"{folder}/ad_partner_oper_port_state")),
    )


OPTIONS = ("miimon", "xmit_hash_policy", "lacp_rate", "primary", "updelay", "downdelay")
"""Those that a configuration can set."""


def team_of(name: str, read: Callable[[str], str]) -> Team:
    """A bond."""
    folder = f"{name}/bonding"
    mode = read(f"{folder}/mode").partition(" ")[0]
    told = {option: read(f"{folder}/{option}").partition(" ")[0] for option in OPTIONS}
    return Team(
        mode=mode,
        links=tuple(read(f"{folder}/slaves").split()),
        options={option: value for option, value in told.items() if value},
        partner=read(f"{folder}/ad_partner_mac") or None if mode == "802.3ad" else None,
        aggregator=_number(read(f"{folder}/ad_aggregator")),
    )


def default_routes() -> list[tuple[str, str]]:
    """Device and gateway of each default route of this host.

    :raises OSError: the kernel can't be asked.
    """
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        names = {message["index"]: message.get_attr("IFLA_IFNAME") for message in netlink.get_links()}
        routes = [message for message in netlink.get_routes(family=2) if not message["dst_len"]]
    return [
        (names[device], gateway)
        for message in routes
        if (gateway := message.get_attr("RTA_GATEWAY")) and (device := message.get_attr("RTA_OIF")) in names
    ]
