"""Consul for Salt's side: typed answers, a timeout on every request, and the other servers when the local one is down.

What it keeps apart, because callers act differently:

- *refused*: Consul said no to a compare-and-set. That is knowledge, so it is a value (`False`), never an exception.
- *unreachable* (UnreachableError): no server took the request, or none has a leader; nothing happened.
- *not known* (DeadlineError): a request that may not be repeated was sent and its answer got lost.
- *forbidden* (ForbiddenError): the token lacks the right. Names the token's file, because that is what to look at.

The guard asks through the same transport (`http.py`); which server it asks next, and for how long, is its own business
(`daemon/adapters/consul.py`).
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, DeadlineError, FailedError, MnhaError, UnreachableError
from . import voters
from .http import Http, NotSentError, Server, UnableError

HTTPS_PORT = 8501
TIMEOUT_S = 3.0
CONNECT_TIMEOUT_S = 1.0
CA_FILE = Path("/etc/mnha/tls/ca.pem")
KEEP = 500
"""So many events of the history are kept, and so many claims of actions."""
POLICY_TOKEN_FILE = Path("/etc/mnha/tokens/policy")

_STATUS = {0: "none", 1: "alive", 2: "leaving", 3: "left", 4: "failed"}


@dataclass(frozen=True)
class Entry:
    """One key of Consul's store; `index` is what a compare-and-set must name.

    :param value: what it says; None if it can't be read.
    :param fault: why it can't be read; empty if it can.
    """

    key: str
    value: Any
    index: int
    fault: str = ""


@dataclass(frozen=True)
class Snapshot:
    """What one server knows, perhaps some moments old: for people to read, never to decide by.

    :param entries: sorted by key.
    :param members: as :meth:`ConsulClient.members` has them.
    :param leader: its address; "" if the server knows none, and all the rest may be as old as that.
    :param servers: autopilot's rows (:func:`mnha.consul.voters.health`); none if the leader did not tell.
    """

    entries: list[Entry]
    members: list[dict[str, Any]]
    leader: str
    servers: list[dict[str, Any]]


class ConsulClient:
    """Requests to whichever of `servers` answers, the first one preferred.

    :param servers: addresses, the local agent first; all speak HTTPS on `port`.
    :param token_name: what messages call the token (its file or role).
    """

    def __init__(
        self,
        servers: Sequence[str],
        token: str,
        token_name: str = "",
        ca_file: Path = CA_FILE,
        port: int = HTTPS_PORT,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        if not servers:
            raise ConfigurationError("no Consul server given: mnha:cluster:nodes is empty")
        if not ca_file.is_file():
            raise ConfigurationError(f"the certificate {ca_file} is missing; state.apply states.consul writes it")
        self.servers = tuple(servers)
        self._clients = {
            server: Server(Http(server, port, ca_file, CONNECT_TIMEOUT_S, token_name or "the token in use"))
            for server in self.servers
        }
        for client in self._clients.values():
            client.http.set(token, timeout_s)
        # python-consul2's objects refer to each other in a circle: without this the connections would stay open until
        # Python looks for such circles.
        weakref.finalize(self, _close, list(self._clients.values()))

    def call(self, request: Callable[[Server], Any], repeatable: bool = True) -> Any:
        """Run `request` at the first server that answers.

        `repeatable=False` is for requests that must not run twice (compare-and-set): after one was sent and its answer
        lost, no other server is asked, and the outcome is *not known*.
        """
        failures: list[str] = []
        answered = False
        for server in self.servers:
            try:
                return request(self._clients[server])
            except UnreachableError as error:
                if not repeatable and not isinstance(error, NotSentError):
                    raise DeadlineError(f"{error.message}; whether it happened is not known") from error
                failures.append(error.message)
                answered = answered or isinstance(error, UnableError)
        if answered and self.leader():
            raise FailedError(f"Consul has a leader but failed the request ({'; '.join(failures)})")
        raise UnreachableError(f"no Consul server can do it ({'; '.join(failures)})")

    def leader(self, server: str = "") -> str:
        """Address of the leader as `server`, or the first one that answers, knows it; "" if none does."""
        for asked in (server,) if server else self.servers:
            try:
                return self._clients[asked].status.leader() or ""
            except MnhaError:
                continue
        return ""

    def get(self, key: str, consistent: bool = False) -> Entry | None:
        """The entry of `key`, or None. `consistent` asks the leader to make sure that it still is the leader."""
        mode = "consistent" if consistent else "default"
        _, row = self.call(lambda consul: consul.kv.get(key, consistency=mode))
        return None if row is None else _entry(row)

    def index(self, key: str) -> int:
        """The ModifyIndex of `key`; of the newest write to the whole store if there is no such key."""
        return int(self.call(lambda consul: consul.kv.get(key, consistency="consistent"))[0])

    def members(self) -> list[dict[str, Any]]:
        """The servers and clients as the gossip sees them: `node`, `address`, `status`."""
        return _members(self.call(lambda consul: consul.agent.members()))

    def snapshot(self, prefixes: Sequence[str]) -> Snapshot:
        """What the first server that answers knows of the entries below `prefixes`; it needs no leader for that."""

        def ask(consul: Server) -> Snapshot:
            found = [consul.kv.get(prefix, recurse=True, consistency="stale")[1] for prefix in prefixes]
            entries = sorted((_entry(row) for rows in found for row in rows or []), key=lambda entry: entry.key)
            leader = consul.status.leader() or ""
            return Snapshot(entries, _members(consul.agent.members()), leader, _servers(consul) if leader else [])

        return self.call(ask)  # type: ignore[no-any-return]

    def list(self, prefix: str) -> list[Entry]:
        """Every entry below `prefix`, by key, those that can't be read among them."""
        _, rows = self.call(lambda consul: consul.kv.get(prefix, recurse=True))
        return sorted((_entry(row) for row in rows or []), key=lambda entry: entry.key)

    def put(self, key: str, value: Any) -> None:
        """Write `value` whatever stands there."""
        if not self.call(lambda consul: consul.kv.put(key, json.dumps(value, sort_keys=True))):
            raise FailedError(f"Consul did not write {key}")

    def cas(self, key: str, value: Any, index: int) -> bool:
        """Write `value` if `key` still has `index` (0: does not exist). False means refused: somebody was faster."""
        body = json.dumps(value, sort_keys=True)
        return bool(self.call(lambda consul: consul.kv.put(key, body, cas=index), repeatable=False))

    def delete(self, key: str, index: int | None = None) -> bool:
        """Delete `key` (with `index`: only if unchanged). False means refused."""
        return bool(self.call(lambda consul: consul.kv.delete(key, cas=index), repeatable=index is None))

    def prune(self, prefix: str, keep: int, spare: Sequence[str] = ()) -> int:
        """Delete all but the `keep` entries below `prefix` that were written last, those of `spare` aside; how many."""
        entries = sorted((entry for entry in self.list(prefix) if entry.key not in spare), key=lambda one: one.index)
        return sum(self.delete(entry.key, entry.index) for entry in entries[: -keep or None])


def _close(clients: Sequence[Server]) -> None:
    for client in clients:
        client.http.close()


def _servers(consul: Server) -> list[dict[str, Any]]:
    """Autopilot's rows; none if they can't be had."""
    try:
        return list(voters.health(consul)["servers"])
    except MnhaError:
        return []


def _members(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"node": row["Name"], "address": row["Addr"], "status": _STATUS.get(row["Status"], str(row["Status"]))}
        for row in sorted(rows, key=lambda row: row["Name"])
    ]


def _entry(row: dict[str, Any]) -> Entry:
    value, fault = None, ""
    try:
        value = json.loads(row["Value"] or b"")
    except (ValueError, RecursionError) as error:
        fault = f"it is no JSON ({error})"
    return Entry(key=row["Key"], value=value, index=int(row["ModifyIndex"]), fault=fault)
