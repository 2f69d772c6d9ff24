"""A record in Consul that the guards of a cluster keep among them: known by the leader's word, and changed by
compare-and-set only.

What was known last holds while Consul is away, also for the next guard of this boot: it lies below /run.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...consul.http import Server
from ...errors import FailedError, MnhaError
from ..threads import Forever, KnownFailure
from .consul import Servers, row_of

log = logging.getLogger(__name__)

WAIT, WATCH_TIMEOUT_S, TIMEOUT_S = "5s", 8.0, 2.0
AGAIN_S, HANGS_S = 1.0, 20.0
NEVER_SEEN = -1


class Record:
    """One record, watched.

    :param key: the record's.
    :param kept: the file in which what is known of it outlives this process.
    """

    def __init__(self, servers: Servers, key: str, kept: Path) -> None:
        self._servers, self._key, self._kept = servers, key, kept
        self._index, self._seen = 0, NEVER_SEEN
        self._lock = threading.Lock()
        self._heard = threading.Event()
        self._value: dict[str, Any] | None = None
        self.fault = ""
        """Why what stands there can't be read; empty if it can, or is not known."""
        self._recall()
        self.threads = (Forever(f"consul-{kept.stem}", self._watch, limit_s=HANGS_S),)

    def start(self) -> None:
        """Start the watch."""
        for thread in self.threads:
            thread.start()

    def is_known(self, wait_s: float = 0.0) -> bool:
        """Whether anything is known of it, be it that there is none; waits for that, for `wait_s` at the most."""
        return self._heard.wait(wait_s)

    @property
    def value(self) -> Mapping[str, Any] | None:
        """What it says; None: there is none, or nothing is known of it."""
        return self._value

    def replace(self, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> bool:
        """Write `after` if the record still says `before` (None: there is none); whether that was done. If not, another
        guard was faster, and what it wrote is known from then on. Waits for Consul, some seconds at the most.

        :raises MnhaError: Consul does not answer, or forbids it.
        """
        number = self._servers.pick()
        index = self._read(number)
        if self._value != before:
            return False
        body = json.dumps(after, sort_keys=True, ensure_ascii=False).encode()
        written = self._servers.ask(number, TIMEOUT_S, lambda consul: consul.cas(self._key, body, index))
        self._read(number)
        return written is not None

    def overwrite(self, after: Mapping[str, Any]) -> bool:
        """Write `after`, whatever stands there, readable or not: at an operator's word; False: another guard was
        faster. Waits as :meth:`replace` does.

        :raises MnhaError: Consul does not answer, or forbids it.
        """
        number = self._servers.pick()
        row = row_of(self._servers.read(number, TIMEOUT_S, self._vouched).value, self._key)
        body, index = json.dumps(after, sort_keys=True, ensure_ascii=False).encode(), row["ModifyIndex"] if row else 0
        written = self._servers.ask(number, TIMEOUT_S, lambda consul: consul.cas(self._key, body, index))
        self._read(number)
        return written is not None

    def refresh(self) -> None:
        """Ask the leader now, for the watch goes by a server's own copy, which may be late. Waits for Consul, some
        seconds at the most; what is known holds if that does not answer.
        """
        number = self._servers.pick()
        try:
            self._read(number)
        except MnhaError as error:
            log.warning("%s is not asked for again: %s", self._key, error.message)

    def _watch(self) -> float:
        """Watch, one turn."""
        number, asked, self._index = self._servers.pick(), self._index, 0
        try:
            answer = self._servers.read(number, WATCH_TIMEOUT_S, functools.partial(self._copy, asked))
            row = row_of(answer.value, self._key)
            if (row["ModifyIndex"] if row else 0) != self._seen:
                self._read(number)
        except MnhaError as error:
            self._servers.failed(number)
            raise KnownFailure(f"{self._key} can't be watched: {error.message}", AGAIN_S) from error
        except Exception:
            self._servers.failed(number)
            raise
        self._index = answer.after(asked)
        return 0.0

    def _read(self, number: int) -> int:
        """Learn what it says by the leader's word; the index for a compare-and-set.

        :raises FailedError: it can't be read.
        """
        with self._lock:  # or an older answer might come last
            answer = self._servers.read(number, TIMEOUT_S, self._vouched)
            row = row_of(answer.value, self._key)
            index = row["ModifyIndex"] if row else 0
            if index != self._seen:
                try:
                    value = _value_of(row) if row else None
                except FailedError as error:
                    self.fault = error.message
                    raise
                self._value, self.fault = value, ""
                self._seen = index
                self._keep(value)
            self._heard.set()
        return int(index)

    def _copy(self, index: int, consul: Server) -> Any:
        """The server's own copy, once something has changed since `index`."""
        return consul.kv.get(self._key, index, wait=WAIT, consistency="stale")

    def _vouched(self, consul: Server) -> Any:
        """The record by the leader's word, which has read all that was written."""
        return consul.kv.get(self._key, consistency="consistent")

    def _recall(self) -> None:
        """What a guard before this one has known."""
        try:
            value = json.loads(self._kept.read_text(encoding="utf-8"))["value"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return
        if value is None or isinstance(value, dict):
            self._value = value
            self._heard.set()

    def _keep(self, value: Mapping[str, Any] | None) -> None:
        """Leave what is known for the next guard."""
        new = self._kept.with_suffix(".new")
        try:
            self._kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.write_text(json.dumps({"value": value}), encoding="utf-8")
            os.replace(new, self._kept)
        except OSError as error:  # the next guard asks Consul
            log.warning("%s can't be written: %s", self._kept, error)


def _value_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of Consul's says.

    :raises FailedError: it can't be read.
    """
    try:
        value = json.loads(row["Value"] or b"")
    except (ValueError, RecursionError) as error:
        raise FailedError(f"it is no JSON: {error}; mnha.status tells the remedy") from error
    if not isinstance(value, dict):
        raise FailedError("it is no JSON object; mnha.status tells the remedy")
    return value
