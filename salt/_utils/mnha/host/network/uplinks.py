"""Whether frames can leave the host by a device: what it lies on, down to the links, as sysfs tells. Nothing waits.

Only the standard library: the guard looks each second, and pyroute2 would cost it a tenth of its memory.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import live

SIOCGIFCONF = 0x8912
ROW, CONF = struct.Struct("16s4x4s16x"), struct.Struct("iP")
"""A `struct ifreq` with an address, and `struct ifconf`, where pointers have 64 bits."""
LEAST_ROWS = 64


@dataclass(frozen=True)
class Uplink:
    """A bond, or an interface that is in none.

    :param links: the interfaces in it (of one in no bond: itself), and whether frames pass by each.
    :param heard: whether the switch answers by LACP, where it has to.
    """

    name: str
    links: dict[str, bool] = field(default_factory=dict)
    heard: bool = True

    @property
    def passes(self) -> bool:
        """Whether frames pass by any."""
        return self.heard and any(self.links.values())

    @property
    def why(self) -> str:
        """What is wrong with it; empty if nothing is."""
        bad = [name for name, passes in self.links.items() if not passes]
        if self.links.keys() == {self.name}:
            return f"{self.name} has no carrier" if bad else ""
        if not self.links:
            return f"{self.name} has no link"
        if not self.heard:
            return f"no switch answers {self.name} by LACP ({', '.join(self.links)})"
        if len(bad) == len(self.links):
            return f"no link of {self.name} passes frames ({', '.join(bad)})"
        return f"{', '.join(bad)} of {self.name} passes no frames: one more, and the network is lost" if bad else ""


def of_device(device: str, sysfs: Path = live.SYSFS) -> list[Uplink]:
    """What a device lies on; none if it is not there, or a bridge without a port."""
    folder = sysfs / device
    if not device or not folder.is_dir():
        return []
    if (folder / "bonding").is_dir():
        team = live.team_of(device, lambda path: _read(sysfs, path))
        ports = {link: live.port_of(link, lambda path: _read(sysfs, path)) for link in team.links}
        return [Uplink(device, {link: port.passes for link, port in ports.items()}, team.heard)]
    below = list(_below(folder))
    if below or (folder / "bridge").is_dir():
        return [uplink for name in below for uplink in of_device(name, sysfs)]
    return [Uplink(device, {device: _read(sysfs, f"{device}/carrier") == "1"})]


def _below(folder: Path) -> Iterator[str]:
    """The devices that one lies on, but for those of VMs."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            if name.startswith("lower_") and not (folder.parent / name.removeprefix("lower_") / "tun_flags").exists():
                yield name.removeprefix("lower_")


def _read(sysfs: Path, path: str) -> str:
    """A file of sysfs; empty if it can't be read, as a carrier while its interface is down."""
    try:
        return (sysfs / path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def with_address(address: str) -> str:
    """The device that has an address, be it one of several; empty if none has."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        rows = _addresses(asking)
        for name, one in (ROW.unpack_from(rows, begin) for begin in range(0, len(rows), ROW.size)):
            if socket.inet_ntoa(one) == address:
                return os.fsdecode(name.partition(b"\0")[0]).partition(":")[0]  # without an alias' label
    return ""


def _addresses(asking: socket.socket) -> bytes:
    """All IPv4 addresses of this host, as `SIOCGIFCONF` gives them (netdevice(7)): rows of :data:`ROW`.

    :raises OSError: they can't be had.
    """
    room = LEAST_ROWS
    while True:
        rows = array.array("B", bytes(ROW.size * room))
        answer = fcntl.ioctl(asking, SIOCGIFCONF, CONF.pack(len(rows), rows.buffer_info()[0]))
        length = int(CONF.unpack(answer)[0])
        if length < len(rows):
            return rows.tobytes()[:length]
        room *= 2
