"""The way to Consul's servers, for the guard: one request to one server, with its own timeout, the token in use, and
which server to ask next. What is asked is the business of the modules beside this one; what is done about an answer,
too. The transport is that of Salt's side (``mnha.consul.http``).

All requests are made by threads of the adapters. Nothing waits in the guard's thread.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...consul.http import Http, Reply, Server, UnknownTokenError, after, read_token
from ...errors import UnreachableError
from ...host.clock import boottime_s

CONNECT_TIMEOUT_S = 0.8
NOT_THERE = 404
FORGET_S = 5.0
"""How long a server that failed is asked only if all others did, too."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server answers to a read.

    :param value: as python-consul2 gives it; None when there is no such key.
    :param index: names the state that was read, for a blocking query; above 0.
    :param known_leader: whether the server knew a leader.
    :param last_contact_s: how long ago it had heard of it.
    :param received_s: CLOCK_BOOTTIME when the answer had been received.
    """

    value: Any
    index: int
    known_leader: bool
    last_contact_s: float
    received_s: float

    def after(self, asked: int) -> int:
        """The index for the next blocking query, which this was one after `asked`. One that goes back (other data, or
        another server) is not waited for: 0."""
        return self.index if self.index >= asked else 0


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

    def ask(self, number: int, timeout_s: float, question: Callable[[Server], Any]) -> Any:
        """What server `number` answers to `question`: one call, sent once.

        :param timeout_s: how long the server may be silent.
        :raises UnreachableError: no answer, or Consul's word that it can't (no leader, no quorum).
        :raises FailedError: forbidden, or not understood.
        """
        return self._ask(number, timeout_s, question)[0]

    def read(self, number: int, timeout_s: float, question: Callable[[Server], tuple[Any, Any]]) -> Answer:
        """As :meth:`ask`, of a read that python-consul2 answers by index and value. An answer that names no index is
        none: a missing key would be taken from it, and the next blocking query would be answered at once, for ever.
        Neither is one without a value and without the status that says that there is none."""
        (_, value), reply = self._ask(number, timeout_s, question)
        try:
            index, last_contact_ms = (
                int(reply.headers.get(f"X-Consul-{name}", "0")) for name in ("Index", "LastContact")
            )
        except ValueError:
            index = last_contact_ms = 0
        if index <= 0 or last_contact_ms < 0:
            raise UnreachableError(f"Consul at {self.name(number)} does not answer: its answer names no index")
        if value is None and reply.code != NOT_THERE:
            raise UnreachableError(f"Consul at {self.name(number)} does not answer: its answer is empty")
        known = reply.headers.get("X-Consul-KnownLeader", "false") == "true"
        return Answer(value, index, known, last_contact_ms / 1000, reply.received_s)

    def _ask(self, number: int, timeout_s: float, question: Callable[[Server], Any]) -> tuple[Any, Reply]:
        """What `question` makes of the answer, and the answer."""
        server, token = self._server(number), self._token.get()
        server.http.set(token, timeout_s)
        try:
            return question(server), server.http.reply
        except UnknownTokenError:
            self._token.unknown(token)
            raise

    def _server(self, number: int) -> Server:
        """This thread's way to a server; connections are not shared between threads."""
        mine: dict[int, Server] = self._local.__dict__.setdefault("servers", {})
        if number not in mine:
            name = f"the token in {self._token.file}"
            http = Http(*self._addresses[number], self._ca_file, CONNECT_TIMEOUT_S, name, boottime_s)
            mine[number] = Server(http)
        return mine[number]


def rows_of(value: Any, below: str) -> list[dict[str, Any]]:
    """The rows of the store in an answer's value: `Key`, `ModifyIndex` and `Value`, the last one bytes or None.

    :param below: how their keys begin.
    :raises UnreachableError: they are none.
    """
    rows = [] if value is None else value if isinstance(value, list) else [value]
    for row in rows:
        try:
            is_one = row["Key"].startswith(below) and isinstance(row["Value"], bytes | None)
            after(0, row["ModifyIndex"])
        except (LookupError, TypeError, ValueError, AttributeError):
            is_one = False
        if not is_one:
            raise UnreachableError(f"Consul does not answer: what it gave is no row of {below}: {row!r:.100}")
    return rows


def row_of(value: Any, key: str) -> dict[str, Any] | None:
    """The one row of `key`; None: there is none.

    :raises UnreachableError: it is none, or another one's.
    """
    rows = rows_of(value, key)
    if any(row["Key"] != key for row in rows):
        raise UnreachableError(f"Consul does not answer: what it gave is not {key}")
    return rows[0] if rows else None
