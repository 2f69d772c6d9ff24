"""Whether this node is in maintenance: its record in Consul, watched."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from ...consul.http import Server
from ...errors import MnhaError
from ..threads import Forever, KnownFailure
from .consul import Answer, Servers, row_of

WAIT, TIMEOUT_S = "5s", 8.0
AGAIN_S, HANGS_S = 1.0, 20.0


class Maintenance:
    """Watches this node's maintenance record.

    :param key: the record's.
    :param changed: told, in this class' thread, why the node is in maintenance; with an empty text that it is not.
    """

    def __init__(self, servers: Servers, key: str, changed: Callable[[str], None]) -> None:
        self._servers, self._key, self._changed = servers, key, changed
        self._index, self._known = 0, ""
        self.threads = (Forever("consul-maintenance", self._watch, limit_s=HANGS_S),)

    def start(self) -> None:
        """Start the watch."""
        for thread in self.threads:
            thread.start()

    def _watch(self) -> float:
        """Watch, one turn; while Consul does not answer, what was known last holds."""
        number, asked, self._index = self._servers.pick(), self._index, 0
        try:
            self._index = self._look(number, asked)
        except MnhaError as error:
            self._servers.failed(number)
            raise KnownFailure(f"whether this node is in maintenance is not known: {error.message}", AGAIN_S) from error
        except Exception:
            self._servers.failed(number)
            raise
        return 0.0

    def _look(self, number: int, index: int) -> int:
        """Wait for the record and tell of a change; returns the index for the next time."""
        answer = self._servers.read(number, TIMEOUT_S, functools.partial(self._record, index))
        reason = self._reason(answer)
        # A server that has just started may not have read all of its own data yet, even if it leads already.
        if not reason and self._known:
            reason = self._reason(self._servers.read(number, TIMEOUT_S, self._vouched_record))
        if reason != self._known and answer.known_leader:
            self._changed(reason)
            self._known = reason
        return answer.after(index)

    def _reason(self, answer: Answer) -> str:
        """Why the node is in maintenance; empty: there is no record."""
        row = row_of(answer.value, self._key)
        return _maintenance_of(row) if row else ""

    def _record(self, index: int, consul: Server) -> Any:
        """The record, once something has changed since `index`."""
        return consul.kv.get(self._key, index, wait=WAIT, consistency="stale")

    def _vouched_record(self, consul: Server) -> Any:
        """The record by the leader's word, which has read all that was written."""
        return consul.kv.get(self._key, consistency="consistent")


def _maintenance_of(row: dict[str, Any]) -> str:
    """Why the node is in maintenance, from the record's KV row; one that can't be read says so, too."""
    try:
        record = json.loads(row["Value"] or b"")
        return f"in maintenance by {record['by']}" + (f": {record['reason']}" if record.get("reason") else "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "in maintenance"
