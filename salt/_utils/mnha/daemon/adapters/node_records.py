"""What the guards tell of their nodes, and which are in maintenance: their records in Consul, watched, so that nobody
waits for them when they matter.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from ... import keys
from ...consul.http import Server
from ...errors import MnhaError
from ...host.clock import boottime_s
from ..threads import Forever, KnownFailure
from .consul import Answer, Servers, rows_of

WAIT, TIMEOUT_S = "5s", 8.0
AGAIN_S, OLD_S = 1.0, 20.0
"""How long an answer counts; while all is well the next one comes within the wait."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """The records as they were read at one moment.

    :param nodes: node -> its guard's record; what can't be read is not among them.
    :param maintenance: node -> its record of maintenance; an empty one if that can't be read.
    """

    nodes: Mapping[str, Mapping[str, Any]]
    maintenance: Mapping[str, Mapping[str, Any]]


class NodeRecords:
    """Watches ``nodes/`` and ``maintenance/``, in the nearest server's own copy.

    :param prefix: the cluster's key prefix.
    """

    def __init__(self, servers: Servers, prefix: str) -> None:
        self._servers, self._prefix = servers, prefix
        self._seen: tuple[float, Seen] | None = None
        self._index = 0
        self.threads = (Forever("consul-nodes", self._watch, limit_s=OLD_S),)

    def start(self) -> None:
        """Start the watch."""
        for thread in self.threads:
            thread.start()

    def seen(self) -> Seen | None:
        """The newest records; None if they are not known, or are too old to go by. Never waits."""
        found = self._seen  # once: the watch may change it at any moment
        return found[1] if found is not None and boottime_s() - found[0] <= OLD_S else None

    def _watch(self) -> float:
        """Watch, one turn. While Consul does not answer, what was known last holds for a while."""
        number, asked, self._index = self._servers.pick(), self._index, 0
        try:
            nodes = self._servers.read(number, TIMEOUT_S, functools.partial(self._below, keys.NODES, asked))
            maintenance = self._servers.read(number, TIMEOUT_S, functools.partial(self._below, keys.MAINTENANCE, 0))
            found = Seen(self._records(nodes, keys.NODES), self._records(maintenance, keys.MAINTENANCE))
        except MnhaError as error:
            self._servers.failed(number)
            raise KnownFailure(f"the nodes' records can't be read: {error.message}", AGAIN_S) from error
        except Exception:
            self._servers.failed(number)
            raise
        if nodes.known_leader and maintenance.known_leader:  # a server that is cut off has but an old copy
            self._seen = maintenance.received_s, found
        self._index = nodes.after(asked)
        return 0.0

    def _below(self, folder: str, index: int, consul: Server) -> Any:
        """All records of a folder, once something there has changed since `index`."""
        return consul.kv.get(f"{self._prefix}/{folder}", index, wait=WAIT, recurse=True, consistency="stale")

    def _records(self, answer: Answer, folder: str) -> dict[str, dict[str, Any]]:
        """The records in an answer, by the node of their key. One of maintenance counts also if it can't be read."""
        found: dict[str, dict[str, Any]] = {}
        for row in rows_of(answer.value, f"{self._prefix}/{folder}"):
            node = row["Key"].rpartition("/")[2]
            try:
                record = json.loads(row["Value"] or b"")
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict):
                found[node] = record
            elif folder == keys.MAINTENANCE:
                found[node] = {}
        return found
