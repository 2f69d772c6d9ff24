"""Whether a change of the network has left everybody in reach: who answered before answers after it, packets of
the full size arrive, and the addresses by which the cluster knows this host are there, be the change about them or not.
"""

from __future__ import annotations

import ipaddress
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from . import live
from .refusals import has
from .wanted import Bond, Device, Nic

HEADERS = 28
"""Of IPv4 and ICMP: so much less than the MTU a full packet of ping's carries."""
SMALL = 56
ANSWER_S = 1.0
PORT = 4506
"""Where a Salt master takes its minions' answers."""


@dataclass(frozen=True)
class Network:
    """One network in which the host has an address.

    :param device: the device with the address; empty: whichever has it.
    :param address: the host's own.
    :param mtu: the largest packet, which is to arrive at each peer that answers; None: nothing is asked of its size.
    :param gateway: who has to answer there.
    :param peers: the addresses of the other nodes, by node.
    """

    role: str
    device: str
    address: str
    mtu: int | None = 1500
    gateway: str | None = None
    peers: Mapping[str, str] = field(default_factory=dict)


def ping(own: str, other: str, size: int, *, whole: bool = False) -> bool:
    """Whether an address answers one of two packets, sent from the host's own address.

    :param size: the bytes it carries.
    :param whole: whether it may not be taken apart on its way.
    """
    words = ["ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", f"{ANSWER_S:g}", "-s", str(size), "-I", own]
    words += ["-M", "do"] if whole else []
    done = subprocess.run([*words, other], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    return done.returncode == 0


def connects(address: str, port: int = PORT) -> bool:
    """Whether somebody takes a connection there."""
    try:
        with socket.create_connection((address, port), ANSWER_S):
            return True
    except OSError:
        return False


class Reach:
    """Who answers before a change, and judges what has come of it.

    :param networks: those in which the host is to have an address.
    :param devices: all that the host is to have.
    :param masters: the addresses of the Salt masters of this host's minion.
    :param cluster: those networks in which the cluster knows this host, whether it is to have them by this change or
        not. Of those that it is not to have, only what is well before has to be so afterwards.
    """

    def __init__(
        self, networks: Sequence[Network], devices: Sequence[Device], masters: Sequence[str],
        cluster: Sequence[Network] = (),
        ping: Callable[..., bool] = ping, connects: Callable[[str], bool] = connects,
        look: Callable[[], Mapping[str, live.Interface]] = live.look,
        routes: Callable[[], Sequence[tuple[str, str]]] = live.default_routes,
    ) -> None:  # fmt: skip
        self._devices, self._ping, self._connects, self._look, self._route = devices, ping, connects, look, routes
        there, self._routes = look(), routes()
        self._had = [one for one in cluster if holders(there, one.address)]
        known = {one.role for one in networks}
        besides = [replace(one, gateway=None, mtu=None) for one in self._had if one.role not in known]
        self._must = {one.role for one in networks if one.gateway}
        self._networks = [_with_way_out(one, there, self._routes) for one in (*networks, *besides)]
        with ThreadPoolExecutor(16) as pool:
            near = [one for one in self._networks if holders(there, one.address)]
            asked = [(one, name, address) for one in near for name, address in _others(one)]
            answered = pool.map(lambda what: ping(what[0].address, what[2], SMALL), asked)
            self._before = {(one.role, name) for (one, name, _), well in zip(asked, answered, strict=True) if well}
            self._masters = [one for one, well in zip(masters, pool.map(connects, masters), strict=True) if well]

    def faults(self) -> list[str]:
        """What is wrong now, a sentence each."""
        there = self._look()
        return [*carriers(there, self._devices), *self._lost(there), *self._silent()]

    def _lost(self, there: Mapping[str, live.Interface]) -> Iterator[str]:
        """What the host had, and has no more."""
        for one in self._had:
            if not holders(there, one.address):
                yield f"this node's address {one.address} of the {one.role} network is gone"
        if self._routes and not self._route():
            ways = ", ".join(f"{gateway} by {device}" for device, gateway in self._routes)
            yield f"the default route is gone (it was {ways}): give a network its `gateway`"

    def _silent(self) -> Iterator[str]:
        with ThreadPoolExecutor(16) as pool:
            asked = [(one, name, address) for one in self._networks for name, address in _others(one)]
            small = list(pool.map(lambda what: self._ping(what[0].address, what[2], SMALL), asked))
            full = list(pool.map(self._full, [what if well else None for what, well in zip(asked, small, strict=True)]))
            for (one, name, address), answers, whole in zip(asked, small, full, strict=True):
                must = name == GATEWAY and one.role in self._must
                if not answers and (must or (one.role, name) in self._before):
                    yield f"{name} ({address}) does not answer in the {one.role} network"
                elif answers and not whole:
                    yield (
                        f"packets of {one.mtu} bytes do not arrive at {name} ({address}) in the {one.role} network: a "
                        f"switch in between takes none of that size, or its MTU there is smaller"
                    )
            for master, well in zip(self._masters, pool.map(self._connects, self._masters), strict=True):
                if not well:
                    yield f"the Salt master {master} can't be reached any more"

    def _full(self, what: tuple[Network, str, str] | None) -> bool:
        if what is None:
            return True
        one, name, address = what
        return name == GATEWAY or one.mtu is None or self._ping(one.address, address, one.mtu - HEADERS, whole=True)


GATEWAY = "the gateway"


def _others(one: Network) -> Iterator[tuple[str, str]]:
    """Who is asked in a network, with the address."""
    if one.gateway:
        yield GATEWAY, one.gateway
    yield from one.peers.items()


def holders(there: Mapping[str, live.Interface], address: str) -> list[live.Interface]:
    """The devices that have an address."""
    return [one for one in there.values() if any(has(text, address) for text in one.addresses)]


def _with_way_out(network: Network, there: Mapping[str, live.Interface], routes: Iterable[tuple[str, str]]) -> Network:
    """A network with the gateway of a default route that goes through it already, if none is given."""
    if network.gateway:
        return network
    here = [
        ipaddress.IPv4Interface(text).network
        for one in holders(there, network.address)
        for text in one.addresses
        if has(text, network.address)
    ]
    found = [gateway for _, gateway in routes if any(ipaddress.IPv4Address(gateway) in one for one in here)]
    return replace(network, gateway=found[0]) if found else network


def carriers(there: Mapping[str, live.Interface], devices: Sequence[Device]) -> list[str]:
    """Which of the wanted devices carry nothing, a sentence each. Pure.

    Of a bond one link that passes frames is enough: the other one's cable may have been bad before.
    """
    found = []
    for device in devices:
        one = there.get(device.name)
        if one is None:
            found.append(f"{device.name} is not there")
        elif isinstance(device, Bond):
            ports = [link.port for name in device.links if (link := there.get(name)) and link.port]
            if one.team and not one.team.heard:
                found.append(f"no switch answers {device.name} by LACP: {', '.join(device.links)} are not in one there")
            elif not any(port.passes for port in ports):
                found.append(f"no link of {device.name} passes frames: {', '.join(device.links)}")
        elif not one.carrier and (device.address or not isinstance(device, Nic)):
            found.append(f"{device.name} has no carrier")
    return found
