"""The networks of this node, watched: the links of each, as the kernel tells of them at once, and who answers there.

A network is *lost* when no frame can leave by it (no carrier, no link that passes frames, no switch that answers by
LACP), or when nobody answers there: not its gateway, and no other node. A gateway or a node that is silent alone has a
fault of its own. One link of a bond that is lost is told, and nothing else: that is what the bond is for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...host.clock import boottime_s
from ...host.network import uplinks
from ...host.network.echo import Echo
from ...host.network.uplinks import Uplink
from ..threads import Forever
from .probe import Check

ASK_EVERY_S = 1.0
SILENT_S = 3.5
"""Three questions without any answer."""
HANGS_S = 15.0
PAUSE_S = 0.05
"""Between two looks, however often links change."""
RTMGRP_LINK = 1
NOT_LOOKED = "it has not been looked at yet"


log = logging.getLogger(__name__)


def told(before: Check, after: Check) -> str:
    """What the journal is to have of a new judgement: what has become worse, better or otherwise; empty if nothing."""
    if (before.ok, before.why) == (after.ok, after.why) or (before.why == NOT_LOOKED and after.ok and not after.why):
        return ""
    return after.why or "is well again"


@dataclass(frozen=True)
class Network:
    """One network of the node.

    :param name: of its check.
    :param device: what it lies on; empty: the device that has the address.
    :param address: the node's in it; empty: it has none.
    :param others: who is to answer there, name -> address.
    """

    name: str
    device: str = ""
    address: str = ""
    others: Mapping[str, str] = field(default_factory=dict)


NAMES = {"management": "management", "storage": "storage_network", "data": "data_network"}
"""Of the checks, by the networks' roles."""


def of_config(config: Mapping[str, Any]) -> list[Network]:
    """The networks in a guard's configuration; none in an older one's."""
    found = []
    for role, one in config.get("networks", {}).items():
        gateway = {"the gateway": one["gateway"]} if one.get("gateway") else {}
        others = {**gateway, **one.get("peers", {})}
        found.append(Network(NAMES[role], one.get("device") or "", one.get("address") or "", others))
    return found


class Watched:
    """What is known of one network; pure but for what it is told.

    :ivar lost_s: since when it is lost (CLOCK_BOOTTIME); None: it is not.
    """

    def __init__(self, network: Network, now_s: float) -> None:
        self.network = network
        self.lost_s: float | None = None
        self.check = Check(True, NOT_LOOKED)
        self._heard: dict[str, float] = {}
        self._last_s = now_s

    def hear(self, addresses: set[str], now_s: float) -> None:
        """Somebody has answered."""
        if known := {name for name, address in self.network.others.items() if address in addresses}:
            self._heard |= dict.fromkeys(known, now_s)
            self._last_s = now_s

    def judge(self, found: list[Uplink], device: str, now_s: float) -> None:
        """What is to be told now.

        :param found: what its device lies on.
        """
        passes = any(one.passes for one in found)
        silent = bool(self.network.others) and now_s - self._last_s >= SILENT_S
        why = self._why(found, device, silent=passes and silent, now_s=now_s)
        if passes and not silent:
            self.lost_s = None
        elif self.lost_s is None:
            self.lost_s = now_s if not passes else self._last_s
        self.check = Check(self.lost_s is None, why)

    def _why(self, found: list[Uplink], device: str, *, silent: bool, now_s: float) -> str:
        if not device:
            return f"no device has the address {self.network.address}"
        if not found:
            return f"{device} is not there, or is a bridge without a port"
        if silent:
            asked = ", ".join(f"{name} ({address})" for name, address in self.network.others.items())
            return f"nobody answers by {device}: {asked}"
        faults = [one.why for one in found if one.why]
        if any(one.passes for one in found) and "the gateway" in self.network.others:
            last_s = self._heard.get("the gateway")
            if last_s is None or now_s - last_s >= SILENT_S:
                faults.append(f"the gateway ({self.network.others['the gateway']}) does not answer, other nodes do")
        return "; ".join(faults)


class Networks:
    """All networks of this node.

    :param lost_or_back: called with an event and a sentence when one is lost, or well again; in the watch's thread.
    """

    def __init__(
        self, config: Mapping[str, Any], lost_or_back: Callable[[str, str], None] = lambda event, text: None
    ) -> None:
        self._lost_or_back = lost_or_back
        now_s = boottime_s()
        self._watched = [Watched(network, now_s) for network in of_config(config)]
        self._askers: dict[str, tuple[str, Echo]] = {}
        self._asked_s = float("-inf")
        self._changes: socket.socket | None = None
        self.threads = (Forever("networks", self._turn, limit_s=HANGS_S),)

    def start(self) -> None:
        """Start to watch."""
        for thread in self.threads:
            thread.start()

    def checks(self) -> dict[str, Check]:
        """What is known of each network, by the name of its check. Never waits."""
        if self.threads[0].hangs:
            return {one.network.name: Check(True, f"the watch hangs: {self.threads[0].hangs}") for one in self._watched}
        return {one.network.name: one.check for one in self._watched}

    def lost_s(self, name: str) -> float | None:
        """Since when a network is lost; None: it is not, or that is not known."""
        if self.threads[0].why:
            return None
        return next((one.lost_s for one in self._watched if one.network.name == name), None)

    def _turn(self) -> float:
        """Look, and ask if it is time to; then wait for answers, or for a change of a link."""
        if not self._watched:
            return 60.0
        devices = {one.network.name: one.network.device or uplinks.with_address(one.network.address)
                   for one in self._watched}  # fmt: skip
        now_s = boottime_s()
        if now_s - self._asked_s >= ASK_EVERY_S:
            self._asked_s = now_s
            for number, one in enumerate(self._watched):
                self._ask(one.network, devices[one.network.name], os.getpid() * 4 + number)
        self._wait(max(0.0, self._asked_s + ASK_EVERY_S - boottime_s()))
        now_s = boottime_s()
        for one in self._watched:
            one.hear(self._heard(one.network.name), now_s)
            before = one.check
            one.judge(uplinks.of_device(devices[one.network.name]), devices[one.network.name], now_s)
            if text := told(before, one.check):
                log.warning("%s: %s", one.network.name, text)
                if before.ok != one.check.ok:
                    self._lost_or_back(
                        "network back" if one.check.ok else "network lost", f"{one.network.name}: {text}"
                    )
        return PAUSE_S

    def _ask(self, network: Network, device: str, ident: int) -> None:
        """Ask all that are to answer in a network; nobody where the node has no address in it."""
        former = self._askers.get(network.name)
        if former and (former[0] != device or not device):
            self._forget(network.name)
            former = None
        if not (device and network.address and network.others):
            return
        if former is None:
            try:
                former = self._askers[network.name] = device, Echo(network.address, device, ident)
            except OSError:  # the address is not there, or the device has gone: nobody is heard
                return
        former[1].ask(network.others.values())

    def _heard(self, name: str) -> set[str]:
        """Who has answered in a network since the last turn."""
        asker = self._askers.get(name)
        try:
            return asker[1].heard() if asker else set()
        except OSError:  # its device has gone
            self._forget(name)
            return set()

    def _forget(self, name: str) -> None:
        """Ask by a new socket the next time."""
        _, asker = self._askers.pop(name)
        asker.close()

    def _wait(self, wait_s: float) -> None:
        """Wait so long, or until a link has changed: answers are collected at the end of it."""
        changes = self._link_changes()
        if changes is None:
            time.sleep(wait_s)
            return
        if select.select([changes], [], [], wait_s)[0]:
            with contextlib.suppress(OSError):  # also too many of them
                while changes.recv(65536):
                    pass

    def _link_changes(self) -> socket.socket | None:
        """What the kernel writes to at each change of a link; None if it can't be had: links are looked at each second
        all the same.
        """
        if self._changes is None:
            with contextlib.suppress(OSError):
                changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
                changes.setblocking(False)
                changes.bind((0, RTMGRP_LINK))
                self._changes = changes
        return self._changes
