"""Whether this node is in maintenance: its record in Consul, watched."""

from __future__ import annotations

import functools
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

from ...consul.http import Server
from ...errors import MnhaError
from .consul import Servers

log = logging.getLogger(__name__)

WAIT, TIMEOUT_S = "5s", 8.0


class Maintenance:
    """Watches this node's maintenance record.

    :param key: the record's.
    :param changed: told, in this class' thread, why the node is in maintenance; with an empty text that it is not.
    """

    def __init__(self, servers: Servers, key: str, changed: Callable[[str], None]) -> None:
        self._servers, self._key, self._changed = servers, key, changed

    def start(self) -> None:
        """Start the watch."""
        threading.Thread(target=self._watch, name="consul-maintenance", daemon=True).start()

    def _watch(self) -> None:
        """Watch for ever; while Consul does not answer, what was known last holds."""
        index, known, told, pause = 0, "", False, threading.Event()
        while True:
            number = self._servers.pick()
            try:
                answer = self._servers.read(number, TIMEOUT_S, functools.partial(self._record, index))
                reason = _maintenance_of(answer.value) if answer.value else ""
                # A server that has just started may not have read all of its own data yet, even if it leads already.
                if not reason and known:
                    vouched = self._servers.read(number, TIMEOUT_S, self._vouched_record).value
                    reason = _maintenance_of(vouched) if vouched else ""
                if reason != known and answer.known_leader:
                    self._changed(reason)
                    known = reason
                index, told = answer.after(index), False
            except MnhaError as error:
                self._servers.failed(number)
                if not told:
                    log.warning("whether this node is in maintenance is not known: %s", error.message)
                index, told = 0, True
                pause.wait(1.0)
            except Exception:
                log.exception("the watch of the maintenance record ended in a way nobody expected")
                pause.wait(1.0)

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
    except (ValueError, KeyError, TypeError, AttributeError):
        return "in maintenance"
