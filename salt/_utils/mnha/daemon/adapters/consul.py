"""The lease record in Consul: compare-and-set, consistent reads, and a watch that never gets ahead of what was
received.

Compare-and-set goes through Consul's transaction endpoint, because its answer names the record's new
ModifyIndex; a plain ``PUT ?cas=`` says only *true*, and the next renewal would have to wait for a read.

The watch is a *stale* blocking query at the nearest server: it is answered from that server's own copy even
while there is no leader, and that is safe, because a late sighting only makes an observer wait longer. Whether
the server is in touch with a leader is read from the answer's headers and reported as ``contact``.

All requests are made by threads of this module. Nothing here waits in the guard's thread.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ... import keys
from ...consul.client import KEEP, cause, connect, read_token
from ...core.model import MAX_UNANSWERED, Lease, LeaseRecordError, Run
from ...core.ports import Answered, DesiredSeen, Event, LeaseSeen, Outcome, ReadFailed
from ...errors import FailedError, MnhaError, UnreachableError
from .clock import boottime_s

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 0.8
WATCH_WAIT = "1s"
WATCH_TIMEOUT_S = 3.0
PEERS_WAIT = "5s"
PEERS_TIMEOUT_S = 8.0
PUBLISH_TIMEOUT_S = 5.0
PRUNE_EVERY, PRUNE_AT_MOST = 20, 100
PUBLISH_QUEUE = 256
UNKNOWN_TOKEN = "ACL not found"
"""What Consul says, with 403, to a token that it does not know; one that lacks a right is told something else."""
FORGET_S = 5.0
"""How long a server that failed is asked only if all others did, too."""


@dataclasses.dataclass(frozen=True)
class Contact:
    """What is known of the way to Consul.

    :param heard_s: CLOCK_BOOTTIME of the newest answer of a server that has been in touch with a leader just
        then.
    """

    server: str = ""
    reachable: bool = False
    known_leader: bool = False
    last_contact_s: float = 0.0
    heard_s: float = float("-inf")
    error: str = "not asked yet"


@dataclasses.dataclass(frozen=True)
class Reply:
    """An HTTP answer of Consul."""

    code: int
    headers: Any
    body: str


class Token:
    """The token that all requests of this process bear, through a replacement.

    Its file is replaced some seconds before Consul knows the new one, and Consul forgets the old one when it learns the
    new one. So the one in use stays in use until Consul does not know it; then it is the one in the file, or, if that
    was it, the one before.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._now = self._before = ""

    def get(self) -> str:
        """The token in use."""
        with self._lock:
            self._now = self._now or read_token(self.file)
            return self._now

    def unknown(self, token: str) -> None:
        """Consul does not know `token`."""
        with self._lock:
            if token != self._now:
                return  # another thread has found that out already
            in_file = read_token(self.file)
            other = in_file if in_file != token else self._before
            if other:
                self._now, self._before = other, token


class Servers:
    """The way to Consul: the local agent first, the other servers when it does not answer.

    :param servers: ``[{"host":…,"port":…}, …]``, nearest first.
    """

    def __init__(self, servers: Sequence[dict[str, Any]], ca_file: Path, token_file: Path) -> None:
        self._addresses = [(server["host"], int(server["port"])) for server in servers]
        self._ca_file, self._token = ca_file, Token(token_file)
        self._local = threading.local()
        self._failed_s = [float("-inf")] * len(self._addresses)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._addresses)

    def pick(self, busy: Sequence[int] = ()) -> int:
        """The server to ask next: one that has not failed a moment ago, then the least busy, then the nearest.

        :param busy: how many requests are under way at each. One that hangs (a leader has died) must not be followed by
            the next, and a dead server must not be asked again and again while another could answer.
        """
        now_s = boottime_s()

        def order(number: int) -> tuple[bool, int, int]:
            return now_s - self._failed_s[number] < FORGET_S, busy[number] if busy else 0, number

        return min(range(len(self)), key=order)

    def failed(self, number: int) -> None:
        """Server `number` did not answer."""
        self._failed_s[number] = boottime_s()

    def name(self, number: int) -> str:
        """Address of server `number`, for people."""
        host, port = self._addresses[number]
        return f"{host}:{port}"

    def request(
        self, number: int, method: str, path: str, timeout_s: float, params: Any = None, data: str | bytes = b""
    ) -> Reply:
        """One request to server `number`.

        :raises UnreachableError: no answer, or Consul's word that it can't (no leader, no quorum).
        :raises FailedError: forbidden, or not understood.
        """
        client = self._client(number, timeout_s)
        headers = {"X-Consul-Token": client.token}
        call: Callable[..., Reply] = getattr(client.http, method)
        arguments = {"params": params, "headers": headers} | ({"data": data} if method == "put" else {})
        try:
            reply = call(lambda answer: Reply(answer.code, answer.headers, answer.body), path, **arguments)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            raise UnreachableError(f"Consul at {self.name(number)} does not answer: {cause(error)}") from error
        if reply.code >= 500:
            raise UnreachableError(f"Consul at {self.name(number)} can't: {reply.body.strip()[:120]}")
        if reply.code == 403 and UNKNOWN_TOKEN in reply.body:
            self._token.unknown(client.token)
        if reply.code in (400, 401, 403, 405):
            raise FailedError(
                f"Consul at {self.name(number)} does not allow {method.upper()} {path} with the token in "
                f"{self._token.file} ({reply.code} {reply.body.strip()[:120]}): apply states.consul"
            )
        return reply

    def _client(self, number: int, timeout_s: float) -> Any:
        """This thread's client for a server; sessions are not shared between threads."""
        mine, token = self._local.__dict__, self._token.get()
        if mine.get("token") != token:
            mine.update(token=token, clients={})
        clients, key = mine["clients"], (number, timeout_s)
        if key not in clients:
            host, port = self._addresses[number]
            clients[key] = connect(host, port, token, self._ca_file, timeout_s)
            clients[key].http.timeout = (min(CONNECT_TIMEOUT_S, timeout_s), timeout_s)
        return clients[key]


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
        self.contact = Contact()

    def start(self) -> None:
        """Start the watch and the workers."""
        for number in range(MAX_UNANSWERED + 2):
            threading.Thread(target=self._work, name=f"consul-{number}", daemon=True).start()
        threading.Thread(target=self._watch, name="consul-watch", daemon=True).start()

    def cas(self, lease: Lease, index: int, ticket: int) -> None:
        """See :class:`mnha.core.ports.LeaseStore`."""
        self._jobs.put(lambda number: self._cas(number, lease, index, ticket))

    def read(self) -> None:
        """See :class:`mnha.core.ports.LeaseStore`."""
        self._jobs.put(self._read)

    def _work(self) -> None:
        """A worker: one request at a time."""
        while True:
            job = self._jobs.get()
            with self._lock:
                number = self._servers.pick(self._busy)
                self._busy[number] += 1
            try:
                job(number)
            except Exception:
                log.exception("a request to Consul ended in a way nobody expected")
            finally:
                with self._lock:
                    self._busy[number] -= 1

    def _cas(self, number: int, lease: Lease, index: int, ticket: int) -> None:
        """One compare-and-set. A status that is neither yes nor no counts as lost."""
        value = base64.b64encode(lease.to_json().encode()).decode()
        operation = [{"KV": {"Verb": "cas", "Key": f"{self._prefix}/{keys.LEASE}", "Value": value, "Index": index}}]
        try:
            reply = self._servers.request(number, "put", "/v1/txn", self._timeout_s, data=json.dumps(operation))
        except MnhaError as error:
            self._servers.failed(number)
            self._post(Answered(ticket, Outcome.UNREACHABLE, error=error.message))
            return
        if reply.code == 200:
            new_index = int(json.loads(reply.body)["Results"][0]["KV"]["ModifyIndex"])
            self._post(Answered(ticket, Outcome.GRANTED, index=new_index))
        elif reply.code == 409:
            self._post(Answered(ticket, Outcome.REFUSED, error=reply.body[:200]))
        else:
            self._post(Answered(ticket, Outcome.UNREACHABLE, error=f"status {reply.code}"))

    def _read(self, number: int) -> None:
        """One consistent read."""
        asked_s = boottime_s()
        path = f"/v1/kv/{self._prefix}/{keys.LEASE}"
        try:
            reply = self._servers.request(number, "get", path, self._timeout_s, params=[("consistent", "1")])
            received_s = boottime_s()
            rows = json.loads(reply.body) if reply.code == 200 else []
            lease, index = _lease_of(rows[0]) if rows else (None, 0)
        except LeaseRecordError as error:
            log.error("%s", error)
            self._post(ReadFailed(error.message))
        except MnhaError as error:
            self._servers.failed(number)
            self._post(ReadFailed(error.message))
        else:
            self._post(LeaseSeen(lease, index, received_s, consistent=True, asked_s=asked_s))

    def _watch(self) -> None:
        """Watch the VM's keys for ever: the lease, and the desired state."""
        index, pause = "0", threading.Event()
        while True:
            number = self._servers.pick()
            try:
                index = self._watch_once(number, index)
            except MnhaError as error:
                self._servers.failed(number)
                self._lose_contact(number, error.message)
                index = "0"
                pause.wait(0.25)
            except Exception:
                log.exception("the watch ended in a way nobody expected")
                pause.wait(1.0)

    def _watch_once(self, number: int, index: str) -> str:
        """One blocking query; returns the index for the next."""
        params = [("recurse", "1"), ("stale", "1"), ("index", index), ("wait", WATCH_WAIT)]
        reply = self._servers.request(number, "get", f"/v1/kv/{self._prefix}/", WATCH_TIMEOUT_S, params=params)
        received_s = boottime_s()
        self._note_contact(number, reply, received_s)
        rows = {row["Key"]: row for row in json.loads(reply.body)} if reply.code == 200 else {}
        if row := rows.get(f"{self._prefix}/{keys.LEASE}"):
            try:
                lease, modify_index = _lease_of(row)
                self._post(LeaseSeen(lease, modify_index, received_s))
            except LeaseRecordError as error:
                log.error("%s", error)
        if row := rows.get(f"{self._prefix}/{keys.DESIRED}"):
            self._post(DesiredSeen(_run_of(row)))
        new_index = reply.headers.get("X-Consul-Index", "0")
        return new_index if int(new_index) >= int(index) else "0"

    def _note_contact(self, number: int, reply: Reply, received_s: float) -> None:
        """Remember how near a leader the server is."""
        last_contact_s = int(reply.headers.get("X-Consul-LastContact", "0")) / 1000
        known = reply.headers.get("X-Consul-KnownLeader", "false") == "true"
        heard_s = received_s - last_contact_s if known else self.contact.heard_s
        self.contact = Contact(
            server=self._servers.name(number),
            reachable=True,
            known_leader=known,
            last_contact_s=last_contact_s,
            heard_s=heard_s,
            error="" if known else "Consul has no leader",
        )

    def _lose_contact(self, number: int, error: str) -> None:
        """Remember that a server did not answer."""
        if self.contact.reachable:
            log.warning("%s", error)
        self.contact = dataclasses.replace(
            self.contact, server=self._servers.name(number), reachable=False, known_leader=False, error=error
        )


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
        if self._health is None:
            return {node: {"alive": None, "why": self._error} for node in self._nodes}
        return {
            node: {"alive": status == "passing", "why": "" if status == "passing" else f"Consul says {status}"}
            for node in self._nodes
            for status in [self._health.get(node, "unknown")]
        }

    def _watch(self) -> None:
        """Watch for ever."""
        index, pause = "0", threading.Event()
        while True:
            number = self._servers.pick()
            try:
                params = [("stale", "1"), ("index", index), ("wait", PEERS_WAIT)]
                reply = self._servers.request(number, "get", "/v1/health/state/any", PEERS_TIMEOUT_S, params=params)
                rows = json.loads(reply.body)
                self._health = {row["Node"]: row["Status"] for row in rows if row["CheckID"] == "serfHealth"}
                index = reply.headers.get("X-Consul-Index", "0")
            except MnhaError as error:
                self._health, self._error, index = None, error.message, "0"
                pause.wait(1.0)
            except Exception:
                log.exception("the watch of the peers ended in a way nobody expected")
                pause.wait(1.0)


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
                params = [("stale", "1"), ("index", index), ("wait", PEERS_WAIT)]
                reply = self._servers.request(number, "get", f"/v1/kv/{self._key}", PEERS_TIMEOUT_S, params=params)
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


class Publisher:
    """Writes records that nothing depends on (history, the node's record), one after the other, never waiting.

    The newest value of a key replaces an older one that is still waiting; when Consul is away for long the
    oldest go.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._waiting: dict[str, Callable[[int], None]] = {}
        self._some = threading.Condition()
        self._appended = 0

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._work, name="consul-publish", daemon=True).start()

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Write `value` at `key` soon."""
        self._add(key, functools.partial(self._put, key, json.dumps(value, sort_keys=True, ensure_ascii=False)))

    def append(self, folder: str, name: str, value: dict[str, Any]) -> None:
        """Write one record of many soon, and now and then delete all but the newest there: a VM that fails again and
        again must not fill Consul while no Salt process tidies up.

        :param folder: their common prefix, with its `/`.
        :param name: sorts by time.
        """
        self.put(folder + name, value)
        self._appended += 1
        if self._appended % PRUNE_EVERY == 0:
            self._add(folder, functools.partial(self._prune, folder))

    def _add(self, key: str, task: Callable[[int], None]) -> None:
        """Let the thread run `task`, in place of an older one of that key."""
        with self._some:
            self._waiting.pop(key, None)
            self._waiting[key] = task
            if len(self._waiting) > PUBLISH_QUEUE:
                self._waiting.pop(next(iter(self._waiting)))
            self._some.notify()

    def drain(self, limit_s: float) -> None:
        """Wait until all is written, for `limit_s` at the most."""
        end_s = boottime_s() + limit_s
        with self._some:
            while self._waiting and boottime_s() < end_s:
                self._some.wait(0.05)

    def _work(self) -> None:
        """Write for ever."""
        pause = threading.Event()
        while True:
            with self._some:
                while not self._waiting:
                    self._some.wait()
                key, task = next(iter(self._waiting.items()))
            if not self._try(task):
                pause.wait(1.0)
                continue
            with self._some:
                if self._waiting.get(key) is task:
                    del self._waiting[key]

    def _put(self, key: str, body: str, number: int) -> None:
        """Write one key."""
        self._servers.request(number, "put", f"/v1/kv/{key}", PUBLISH_TIMEOUT_S, data=body.encode())

    def _prune(self, folder: str, number: int) -> None:
        """Delete what is too old below `folder`, not too much at once."""
        reply = self._servers.request(number, "get", f"/v1/kv/{folder}", PUBLISH_TIMEOUT_S, params=[("keys", "1")])
        surplus = sorted(json.loads(reply.body))[:-KEEP] if reply.code == 200 else []
        for key in surplus[:PRUNE_AT_MOST]:
            self._servers.request(number, "delete", f"/v1/kv/{key}", PUBLISH_TIMEOUT_S)

    def _try(self, task: Callable[[int], None]) -> bool:
        """Run `task` with the server to ask next; whether it is done with (a refusal for good is)."""
        number = self._servers.pick()
        try:
            task(number)
        except FailedError as error:
            log.error("%s", error.message)
            return True
        except MnhaError:
            self._servers.failed(number)
            return False
        return True


def _lease_of(row: dict[str, Any]) -> tuple[Lease, int]:
    """The lease and ModifyIndex in a KV row.

    :raises LeaseRecordError: it is no lease.
    """
    return Lease.from_json(base64.b64decode(row["Value"] or "")), int(row["ModifyIndex"])


def _maintenance_of(row: dict[str, Any]) -> str:
    """Why the node is in maintenance, from the record's KV row; one that can't be read says so, too."""
    try:
        record = json.loads(base64.b64decode(row["Value"] or ""))
        return f"in maintenance by {record['by']}" + (f": {record['reason']}" if record.get("reason") else "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "in maintenance"


def _run_of(row: dict[str, Any]) -> Run | None:
    """The desired state in a KV row; None if it can't be read."""
    try:
        return Run(json.loads(base64.b64decode(row["Value"] or ""))["run"])
    except (ValueError, KeyError, TypeError):
        log.error("the desired state in %s can't be read: %r", row["Key"], row["Value"])
        return None
