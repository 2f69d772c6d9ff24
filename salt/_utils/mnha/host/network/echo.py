"""Who answers a ping, asked by a socket of this process (RFC 792, Echo): a process for each would be one each second
for each node and network, begun from a disk that may hang. Needs CAP_NET_RAW.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

ECHO, REPLY = 8, 0
ICMP_FILTER = 1
"""Of level IPPROTO_RAW (linux/icmp.h): a bit for each type that is not to be received."""
FORMAT = "!BBHHH"


class Echo:
    """Asks from one address, by one device only: another network might know a way there as well.

    :param own: the host's address.
    :param device: the one that has it.
    :param ident: tells this asker's answers from those of others on the host.
    :raises OSError: the device is not there, or has not that address.
    """

    def __init__(self, own: str, device: str, ident: int) -> None:
        self._ident, self._number = ident & 0xFFFF, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMP)
        try:
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            self.socket.setsockopt(socket.IPPROTO_RAW, ICMP_FILTER, struct.pack("=I", ~(1 << REPLY) & 0xFFFFFFFF))
            self.socket.bind((own, 0))
        except OSError:
            self.socket.close()
            raise

    def ask(self, addresses: Iterable[str]) -> None:
        """Ask each; one that can't be sent to is as one that does not answer."""
        self._number = self._number + 1 & 0xFFFF
        for address in addresses:
            try:
                self.socket.sendto(packet(self._ident, self._number), (address, 0))
            except OSError:
                continue

    def heard(self) -> set[str]:
        """Who has answered since the last time. Never waits.

        :raises OSError: the device is gone.
        """
        found: set[str] = set()
        while True:
            try:
                data, sender = self.socket.recvfrom(2048)
            except BlockingIOError:
                return found
            if ident_of(data) == self._ident:
                found.add(sender[0])

    def close(self) -> None:
        """Ask no more."""
        self.socket.close()


def packet(ident: int, number: int) -> bytes:
    """A question."""
    body = b"mnha" * 14
    bare = struct.pack(FORMAT, ECHO, 0, 0, ident, number) + body
    return struct.pack(FORMAT, ECHO, 0, checksum(bare), ident, number) + body


def ident_of(data: bytes) -> int | None:
    """Whose question a received packet answers, with its IP header; None if it answers none."""
    begin = (data[0] & 0x0F) * 4 if data else 0
    if len(data) < begin + struct.calcsize(FORMAT):
        return None
    kind, _, _, ident, _ = struct.unpack_from(FORMAT, data, begin)
    return int(ident) if kind == REPLY else None


def checksum(data: bytes) -> int:
    """The Internet's checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
