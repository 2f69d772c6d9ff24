"""What Consul sees of the other nodes, while the watch changes it."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from mnha.daemon.adapters.peers import Peers
from mnha.host.clock import boottime_s


def test_what_is_seen_may_change_while_it_is_read() -> None:
    peers = Peers(Mock(), ["one", "two"])

    class Vanishing(dict[str, str]):
        def get(self, *_: Any) -> Any:
            peers._health = None  # as the watch does when Consul is lost
            return "passing"

    peers._health, peers._heard_s = Vanishing(), boottime_s()
    assert {node: seen["alive"] for node, seen in peers.seen().items()} == {"one": True, "two": True}
    assert {node: seen["alive"] for node, seen in peers.seen().items()} == {"one": None, "two": None}
