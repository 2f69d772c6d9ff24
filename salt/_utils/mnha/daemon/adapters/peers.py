"""Which of the other nodes Consul sees alive, watched: to know it when it matters, nobody waits for it."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Sequence
from typing import Any

from consul.base import CB

from ...consul.http import Server
from ...errors import MnhaError
from .consul import Servers

log = logging.getLogger(__name__)

WAIT, TIMEOUT_S = "5s", 8.0


class Peers:
    """Which nodes Consul's gossip sees alive, from the nearest server's own copy; :meth:`seen` never waits."""

    def __init__(self, servers: Servers, nodes: Sequence[str]) -> None:
        self._servers, self._nodes = servers, nodes
        self._health: dict[str, str] | None = None
        self._error = "not asked yet"

    def start(self) -> None:
        """Start the watch."""
        threading.Thread(target=self._watch, name="consul-peers", daemon=True).start()

    def seen(self) -> dict[str, dict[str, Any]]:
        """Node -> ``{"alive": True | False | None, "why": …}``; None: it could not be looked."""
        health = self._health  # once: the watch may change it at any moment
        if health is None:
            return {node: {"alive": None, "why": self._error} for node in self._nodes}
        return {
            node: {"alive": status == "passing", "why": "" if status == "passing" else f"Consul says {status}"}
            for node in self._nodes
            for status in [health.get(node, "unknown")]
        }

    def _watch(self) -> None:
        """Watch for ever."""
        index, pause = 0, threading.Event()
        while True:
            number = self._servers.pick()
            try:
                answer = self._servers.read(number, TIMEOUT_S, functools.partial(_states, index))
                self._health = {row["Node"]: row["Status"] for row in answer.value if row["CheckID"] == "serfHealth"}
                index = answer.after(index)
            except MnhaError as error:
                self._health, self._error, index = None, error.message, 0
                pause.wait(1.0)
            except Exception:
                log.exception("the watch of the peers ended in a way nobody expected")
                pause.wait(1.0)


def _states(index: int, consul: Server) -> Any:
    """Every node's health, also without a leader: for such a stale answer ``consul.health.state`` can't ask."""
    params = [("stale", "1"), ("index", index), ("wait", WAIT)]
    return consul.http.get(CB.json(index=True), "/v1/health/state/any", params)
