"""The way to Consul's servers, for the guard: one request to one server, with its own timeout, the token in use, and
which server to ask next. What is asked, and what an answer means, is the business of the modules beside this one.

All requests are made by threads of the adapters. Nothing waits in the guard's thread.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...consul.client import cause, connect, read_token
from ...errors import FailedError, UnreachableError
from .clock import boottime_s

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 0.8
UNKNOWN_TOKEN = "ACL not found"
"""What Consul says, with 403, to a token that it does not know; one that lacks a right is told something else."""
FORGET_S = 5.0
"""How long a server that failed is asked only if all others did, too."""


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
