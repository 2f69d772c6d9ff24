"""Whether this node is in maintenance: its record in Consul, watched."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

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
        index, known, pause = "0", "", threading.Event()
        while True:
            number = self._servers.pick()
            try:
                params = [("stale", "1"), ("index", index), ("wait", WAIT)]
                reply = self._servers.request(number, "get", f"/v1/kv/{self._key}", TIMEOUT_S, params=params)
                reason = _maintenance_of(json.loads(reply.body)[0]) if reply.code == 200 else ""
                # A server that has just started may not have read its own data yet.
                if reason != known and reply.headers.get("X-Consul-KnownLeader") == "true":
                    self._changed(reason)
                    known = reason
                new_index = reply.headers.get("X-Consul-Index", "0")
                index = new_index if int(new_index) >= int(index) else "0"
            except MnhaError:
                self._servers.failed(number)
                index = "0"
                pause.wait(1.0)
            except Exception:
                log.exception("the watch of the maintenance record ended in a way nobody expected")
                pause.wait(1.0)


def _maintenance_of(row: dict[str, Any]) -> str:
    """Why the node is in maintenance, from the record's KV row; one that can't be read says so, too."""
    try:
        record = json.loads(base64.b64decode(row["Value"] or ""))
        return f"in maintenance by {record['by']}" + (f": {record['reason']}" if record.get("reason") else "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "in maintenance"
