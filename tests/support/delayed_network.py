"""Network namespaces on one switch, each behind a delay line of the lab."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import cgroups, delay, network
from lab.settings import NAME_VARIABLE, STORAGE


class DelayedNetwork:
    """Made by :func:`delayed_network`.

    :param name: of the switch, and of all that belongs to it.
    :param addresses: who is in it, and at which address (a /24).
    """

    def __init__(self, name: str, addresses: Mapping[str, str], folder: Path) -> None:
        self._name, self._addresses, self._folder = name, addresses, folder

    def words(self, who: str) -> list[str]:
        """What comes before a command that is to run there."""
        return ["ip", "netns", "exec", self._namespace(who)]

    def delay(self, trip_ms: float) -> None:
        """Have each round trip between two of them take so long."""
        for who in self._addresses:
            delay.start(f"s{who}", STORAGE, delay.Delay.of(trip_ms / 4, "both"), self._folder / "delay.log")

    def cut(self, who: str) -> None:
        """As when its cable is pulled."""
        _ip("-n", self._namespace(who), "link", "set", "eth1", "down")

    def create(self) -> None:
        network.create_switch()
        for who, address in self._addresses.items():
            space, cable = self._namespace(who), f"s{who}"
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", self._name, "link", "add", cable, "type", "veth", "peer", "name", "eth1", "netns", space)
            _ip("-n", self._name, "link", "set", cable, "master", STORAGE, "up")
            _ip("-n", space, "address", "add", f"{address}/24", "dev", "eth1")
            _ip("-n", space, "link", "set", "eth1", "up")

    def remove(self) -> None:
        for who in self._addresses:
            delay.forget(f"s{who}")
            subprocess.run(["ip", "netns", "del", self._namespace(who)], check=False, capture_output=True)
        network.remove_switch()
        cgroups.remove()

    def _namespace(self, who: str) -> str:
        return f"{self._name}-{who}"


@contextmanager
def delayed_network(
    name: str, addresses: Mapping[str, str], folder: Path, patch: pytest.MonkeyPatch
) -> Iterator[DelayedNetwork]:
    """One for the length of a test; what an earlier one left is removed."""
    patch.setenv(NAME_VARIABLE, name)
    for module in (network, delay, cgroups):
        patch.setattr(module, "SWITCH", name)
    for module in (network, delay):
        patch.setattr(module, "NETNS", Path("/run/netns") / name)
    made = DelayedNetwork(name, addresses, folder)
    made.remove()
    try:
        made.create()
        yield made
    finally:
        made.remove()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
