"""Which of the other nodes Consul sees alive, watched: to know it when it matters, nobody waits for it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ...consul.http import CB, Server
from ...errors import MnhaError, UnreachableError
from ...host.clock import boottime_s
from ..threads import Forever
from .consul import Servers

WAIT, TIMEOUT_S = "5s", 8.0
AGAIN_S, OLD_S = 1.0, 20.0
"""How long an answer counts; while all is well the next one comes within the wait."""


class Peers:
    """Which nodes Consul's gossip sees alive, from the nearest server's own copy; :meth:`seen` never waits."""

    def __init__(self, servers: Servers, nodes: Sequence[str]) -> None:
        self._servers, self._nodes = servers, nodes
        self._health: dict[str, str] | None = None
        self._error = "not asked yet"
        self._heard_s, self._index = float("-inf"), 0
        self.threads = (Forever("consul-peers", self._watch, limit_s=OLD_S),)

    def start(self) -> None:
        """Start the watch."""
        for thread in self.threads:
            thread.start()

    def seen(self) -> dict[str, dict[str, Any]]:
        """Node -> ``{"alive": True | False | None, "why": …}``; None: it could not be looked."""
        health = self._health  # once: the watch may change it at any moment
        if health is None:
            return {node: {"alive": None, "why": self._error} for node in self._nodes}
        if (silent_s := boottime_s() - self._heard_s) > OLD_S:
            why = f"Consul has not told for {silent_s:.0f} s"
            return {node: {"alive": None, "why": why} for node in self._nodes}
        return {
            node: {"alive": status == "passing", "why": "" if status == "passing" else f"Consul says {status}"}
            for node in self._nodes
            for status in [health.get(node, "unknown")]
        }

    def _watch(self) -> float:
        """Watch, one turn."""
        number, asked, self._index = self._servers.pick(), self._index, 0
        try:
            answer = self._servers.read(number, TIMEOUT_S, functools.partial(_states, asked))
            health = _healths(answer.value)
        except MnhaError as error:
            self._servers.failed(number)
            self._health, self._error = None, error.message
            return AGAIN_S
        except Exception as error:
            self._servers.failed(number)
            self._health, self._error = None, repr(error)
            raise
        self._heard_s, self._health, self._index = answer.received_s, health, answer.after(asked)
        return 0.0


def _states(index: int, consul: Server) -> Any:
    """Every node's health, also without a leader: for such a stale answer ``consul.health.state`` can't ask."""
    params = [("stale", "1"), ("index", index), ("wait", WAIT)]
    return consul.http.get(CB.json(index=True), "/v1/health/state/any", params)


def _healths(rows: Any) -> dict[str, str]:
    """Node -> what the gossip says of it.

    :raises UnreachableError: those are no rows of health. There is one at the least: that of the server which is asked.
    """
    try:
        health = {str(row["Node"]): str(row["Status"]) for row in rows if row["CheckID"] == "serfHealth"}
        if not health:
            raise ValueError("no node at all")
    except (LookupError, TypeError, ValueError) as error:
        raise UnreachableError(f"Consul does not answer: what it gave is no health of nodes: {error!r}") from error
    return health
