"""The lease record in Consul: compare-and-set, consistent reads, and a watch that never gets ahead of what was
received.

The watch is a *stale* blocking query at the nearest server: it is answered from that server's own copy even
while there is no leader, and that is safe, because a late sighting only makes an observer wait longer. Whether
the server is in touch with a leader is read from the answer's headers and reported as ``contact``.

Of the desired state the watch shows only *that* it may have changed: the copy of a server that has just been started is
as old as its last snapshot, and may say "stopped" of a VM that was started since. What it is, is asked of the leader.

All requests are made by threads of this module. Nothing here waits in the guard's thread.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from ... import keys
from ...core.model import MAX_UNANSWERED, Lease, LeaseRecordError, Run
from ...core.ports import Answered, DesiredSeen, Event, LeaseSeen, Outcome, ReadFailed
from ...errors import BugError, MnhaError, UnreachableError
from ...host.clock import boottime_s
from ..threads import Forever
from .consul import Answer, Servers, row_of, rows_of

log = logging.getLogger(__name__)

WATCH_WAIT = "1s"
WATCH_TIMEOUT_S = 3.0
WATCH_AGAIN_S = 0.25
HANGS_S = 5.0
"""How much longer than its timeouts a request may take before the status says that it hangs."""
FAULT_S = 60.0
"""How long the status tells that a write was turned down, if nothing is written since."""


@dataclasses.dataclass(frozen=True)
class Contact:
    """What is known of the way to Consul.

    :param heard_s: CLOCK_BOOTTIME of the newest answer of a server that has been in touch with a leader just
        then.
    :param error: why it is of no use; also, why the lease could not be written though there is a leader.
    """

    server: str = ""
    reachable: bool = False
    known_leader: bool = False
    last_contact_s: float = 0.0
    heard_s: float = float("-inf")
    error: str = "not asked yet"


class ConsulStore:
    """The lease and the desired state of one VM: a :class:`mnha.core.ports.LeaseStore`.

    :param post: takes the events, from any thread.
    :param timeout_s: when an unanswered request is given up; the lease's deadline, after which no answer is of
        use.
    """

    def __init__(self, servers: Servers, prefix: str, post: Callable[[Event], None], timeout_s: float) -> None:
        self._servers, self._prefix, self._post, self._timeout_s = servers, prefix, post, timeout_s
        self._jobs: queue.SimpleQueue[Callable[[int], None]] = queue.SimpleQueue()
        self._busy = [0] * len(servers)
        self._lock = threading.Lock()
        self._fault, self._fault_s = "", float("-inf")
        self._desired_index, self._asks_desired = 0, False
        self._index, self._unreadable = 0, {keys.LEASE: "", keys.DESIRED: ""}
        self.contact = Contact()
        vm = prefix.rpartition("/")[2]
        self._workers = Forever(f"consul-{vm}", self._work, threads=MAX_UNANSWERED + 2, longest_pause_s=0.0)
        self.threads = (
            self._workers,
            Forever(f"consul-{vm}-watch", self._watch, limit_s=2 * WATCH_TIMEOUT_S + HANGS_S),
        )

    def start(self) -> None:
        """Start the watch and the workers."""
        for thread in self.threads:
            thread.start()

    def cas(self, lease: Lease, index: int, ticket: int) -> None:
        """See :class:`mnha.core.ports.LeaseStore`."""
        self._jobs.put(lambda number: self._cas(number, lease, index, ticket))

    def read(self) -> None:
        """See :class:`mnha.core.ports.LeaseStore`."""
        self._jobs.put(self._read)

    def _work(self) -> float:
        """A worker's turn: one request."""
        job = self._jobs.get()
        self._workers.expect(2 * self._timeout_s + HANGS_S)
        with self._lock:
            number = self._servers.pick(self._busy)
            self._busy[number] += 1
        try:
            job(number)
        finally:
            with self._lock:
                self._busy[number] -= 1
        return 0.0

    def _cas(self, number: int, lease: Lease, index: int, ticket: int) -> None:
        """One compare-and-set. An answer that is neither yes nor no counts as lost."""
        key = f"{self._prefix}/{keys.LEASE}"
        try:
            value = lease.to_json().encode()
            new_index = self._servers.ask(number, self._timeout_s, lambda consul: consul.cas(key, value, index))
        except MnhaError as error:
            self._servers.failed(number)
            self._note_fault(error)
            self._post(Answered(ticket, Outcome.UNREACHABLE, error=error.message))
            return
        except Exception as error:
            self._note_fault(BugError(repr(error)))
            self._post(Answered(ticket, Outcome.UNREACHABLE, error=repr(error)))
            raise
        self._note_fault(None)
        if new_index is None:
            self._post(Answered(ticket, Outcome.REFUSED))
        else:
            self._post(Answered(ticket, Outcome.GRANTED, index=new_index))

    def _note_fault(self, error: MnhaError | None) -> None:
        """Tell, once, why a request was turned down: time does not mend that, as it does one that was lost."""
        if isinstance(error, UnreachableError):
            return
        if error and not self._fault:
            log.error("the lease can't be written: %s", error.message)
        self._fault, self._fault_s = error.message if error else "", boottime_s()

    def _read(self, number: int) -> None:
        """One consistent read."""
        asked_s, key = boottime_s(), f"{self._prefix}/{keys.LEASE}"
        try:
            answer = self._servers.read(
                number, self._timeout_s, lambda consul: consul.kv.get(key, consistency="consistent")
            )
            row = row_of(answer.value, key)
            lease, index = _lease_of(row) if row else (None, 0)
        except LeaseRecordError as error:
            log.error("%s", error)
            self._post(ReadFailed(error.message))
        except MnhaError as error:
            self._servers.failed(number)
            self._post(ReadFailed(error.message))
        except Exception as error:
            self._post(ReadFailed(repr(error)))
            raise
        else:
            self._post(LeaseSeen(lease, index, answer.received_s, consistent=True, asked_s=asked_s))

    def _watch(self) -> float:
        """Watch the VM's keys, one turn: the lease, and the desired state."""
        number, asked, self._index = self._servers.pick(), self._index, 0
        try:
            self._index = self._watch_once(number, asked)
        except MnhaError as error:
            self._servers.failed(number)
            self._lose_contact(number, error.message)
            return WATCH_AGAIN_S
        except Exception as error:
            self._servers.failed(number)
            self._lose_contact(number, f"Consul at {self._servers.name(number)} can't be watched: {error!r}")
            raise
        return 0.0

    def _watch_once(self, number: int, index: int) -> int:
        """One blocking query; returns the index for the next."""
        folder = f"{self._prefix}/"
        answer = self._servers.read(
            number,
            WATCH_TIMEOUT_S,
            lambda consul: consul.kv.get(folder, index, recurse=True, wait=WATCH_WAIT, consistency="stale"),
        )
        rows = {row["Key"]: row for row in rows_of(answer.value, folder)}
        self._see_lease(rows.get(f"{self._prefix}/{keys.LEASE}"), answer.received_s)
        self._see_desired(rows.get(f"{self._prefix}/{keys.DESIRED}"))
        self._note_contact(number, answer)
        return answer.after(index)

    def _see_lease(self, row: dict[str, Any] | None, received_s: float) -> None:
        """The lease, as the watch has it."""
        unreadable = ""
        if row:
            try:
                lease, index = _lease_of(row)
                self._post(LeaseSeen(lease, index, received_s))
            except LeaseRecordError as error:
                unreadable = error.message
        self._note_unreadable(keys.LEASE, unreadable)

    def _see_desired(self, row: dict[str, Any] | None) -> None:
        """The desired state, as the watch has it: what has changed is asked of the leader."""
        if row is None:
            self._desired_index = 0
            self._note_unreadable(keys.DESIRED, "")
        elif row["ModifyIndex"] != self._desired_index and not self._asks_desired:
            self._asks_desired = True
            self._jobs.put(self._read_desired)

    def _read_desired(self, number: int) -> None:
        """The desired state by the leader's word. If that fails, the watch asks for it again."""
        key = f"{self._prefix}/{keys.DESIRED}"
        try:
            answer = self._servers.read(
                number, self._timeout_s, lambda consul: consul.kv.get(key, consistency="consistent")
            )
            if row := row_of(answer.value, key):
                run = _run_of(row)
                self._desired_index = row["ModifyIndex"]
                self._note_unreadable(keys.DESIRED, "" if run else f"the desired state in {key} can't be read")
                self._post(DesiredSeen(run))
        except MnhaError:
            self._servers.failed(number)
        finally:
            self._asks_desired = False

    def _note_unreadable(self, key: str, why: str) -> None:
        """Tell, once, that a record can't be read; with an empty text that it can, or is not there."""
        if why and why != self._unreadable[key]:
            log.error("%s", why)
        self._unreadable[key] = why

    def _note_contact(self, number: int, answer: Answer) -> None:
        """Remember how near a leader the server is."""
        unreadable = self._unreadable[keys.LEASE] or self._unreadable[keys.DESIRED]
        fault = unreadable or (self._fault if answer.received_s - self._fault_s < FAULT_S else "")
        self.contact = Contact(
            server=self._servers.name(number),
            reachable=True,
            known_leader=answer.known_leader,
            last_contact_s=answer.last_contact_s,
            heard_s=answer.received_s - answer.last_contact_s if answer.known_leader else self.contact.heard_s,
            error=fault if answer.known_leader else "Consul has no leader",
        )

    def _lose_contact(self, number: int, error: str) -> None:
        """Remember that a server did not answer."""
        if self.contact.reachable:
            log.warning("%s", error)
        self.contact = dataclasses.replace(
            self.contact, server=self._servers.name(number), reachable=False, known_leader=False, error=error
        )


def _lease_of(row: dict[str, Any]) -> tuple[Lease, int]:
    """The lease and ModifyIndex in a KV row.

    :raises LeaseRecordError: it is no lease.
    """
    try:
        return Lease.from_json(row["Value"] or b""), row["ModifyIndex"]
    except RecursionError as error:
        raise LeaseRecordError(f"the lease record can't be read: {error}; repair it by hand") from error


def _run_of(row: dict[str, Any]) -> Run | None:
    """The desired state in a KV row; None if it can't be read."""
    try:
        return Run(json.loads(row["Value"] or b"")["run"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
