"""Ports on loopback for servers of a test."""

from __future__ import annotations

import contextlib
import random
import socket

PORTS = range(10_000, 32_768)
"""Below those that the kernel gives to connections: one of these could have it a moment later."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at the moment, by TCP or UDP, all different."""
    with contextlib.ExitStack() as held:
        return [_hold(held) for _ in range(count)]


def _hold(held: contextlib.ExitStack) -> int:
    """Take a port for as long as `held` is open."""
    while True:
        port = random.choice(PORTS)
        with contextlib.ExitStack() as both, contextlib.suppress(OSError):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                both.enter_context(socket.socket(type=kind)).bind(("127.0.0.1", port))
            held.enter_context(both.pop_all())
            return port
