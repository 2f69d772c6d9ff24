"""What a guard tells: to the log, to the history in Consul, to who listens to the events, and to who gave an order."""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections.abc import Iterator
from typing import Any

from .. import keys
from ..host.clock import boottime_s
from .adapters.publisher import Publisher
from .answers import Answers
from .loop import FAULT_S
from .repeats import Repeats
from .server import Subscribers
from .threads import Fault

log = logging.getLogger(__name__)


class GuardJournal:
    """Logs, history and answers of one VM's guard: a :class:`mnha.core.ports.Journal`.

    :ivar fault: what nobody expected while it wrote.
    """

    def __init__(
        self, cluster: str, node: str, vm: str, publisher: Publisher, subscribers: Subscribers, answers: Answers
    ) -> None:
        self._cluster, self._node, self._vm = cluster, node, vm
        self._publisher, self._subscribers, self._answers = publisher, subscribers, answers
        self._count, self._repeats = 0, Repeats()
        self.fault = Fault(f"journal-{vm}", FAULT_S)

    def log(self, text: str) -> None:
        """See :class:`mnha.core.ports.Journal`."""
        with self._whatever_comes():
            log.info("%s: %s", self._vm, text)
            self._subscribers.publish({"vm": self._vm, "at_s": boottime_s(), "text": text})

    def note(self, event: str, text: str, **data: Any) -> None:
        """See :class:`mnha.core.ports.Journal`."""
        with self._whatever_comes():
            log.warning("%s: %s: %s", self._vm, event, text)
            now = datetime.datetime.now(datetime.UTC)
            self._count += 1
            record = {
                "at": now.isoformat(timespec="milliseconds"),
                "boottime_s": boottime_s(),
                "node": self._node,
                "vm": self._vm,
                "event": event,
                "text": text,
                **data,
            }
            self._subscribers.publish(record)
            name = f"{now:%Y%m%dT%H%M%S.%f}Z-{self._node}-{self._count}"
            folder = keys.full(self._cluster, keys.HISTORY)
            name, entry, is_new = self._repeats.counted(record, name, record["boottime_s"])
            if is_new:
                self._publisher.append(folder, name, entry)
            else:
                self._publisher.put(folder + name, entry)
            if event == "started" and data.get("came_by") != "migration":  # that is no start: its guest goes on
                start = {key: record[key] for key in ("at", "node", "epoch", "boottime_s")}
                self._publisher.put(keys.full(self._cluster, keys.last_start(self._vm)), start)

    def answer(self, ticket: int, kind: str, message: str, data: dict[str, Any]) -> None:
        """See :class:`mnha.core.ports.Journal`."""
        self._answers.put(ticket, (kind, message, data))
        with self._whatever_comes():
            log.info("%s: order %d: %s: %s", self._vm, ticket, kind, message)

    @contextlib.contextmanager
    def _whatever_comes(self) -> Iterator[None]:
        """What is written for people must not keep a guard from what it is about to do."""
        try:
            yield
        except Exception as error:
            self.fault.note(error)
