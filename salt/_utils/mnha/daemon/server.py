"""The guard's unix socket: one JSON object a line, root only. docs/architecture.md has the requests and answers.

Whatever clients do, what they can take is bounded: MAX_CLIENTS threads, a line's length and the time it takes to arrive
or to be read. None of it happens in the thread that renews the lease.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError, MnhaError, RefusedError
from .threads import Forever

log = logging.getLogger(__name__)

VERSION = 1
MAX_LINE = 65536
MAX_CLIENTS = 32
IDLE_S = 60.0
"""How long a connection may stand without a request."""
LINE_S = 10.0
"""How long a request may take from its first byte to its last, and an answer to be read."""
REFUSAL_S = 0.1
ACCEPT_AGAIN_S = 0.5
QUIET_S = 1.0
"""A stream that has nothing to tell sends an empty line so often: a listener that is gone is found out by it."""

Request = dict[str, Any]
Handler = Callable[[Request], dict[str, Any]]
Streamer = Callable[[Request], Iterator[dict[str, Any]]]


class Server:
    """Serves requests, each client in a thread of its own.

    :param handlers: op -> function that returns the result or raises an :class:`MnhaError`.
    :param streamers: op -> generator of results; one line each until the client goes.
    :ivar answering: how many requests are being answered, streams included.
    """

    def __init__(self, path: Path, handlers: dict[str, Handler], streamers: dict[str, Streamer]) -> None:
        self._path, self._handlers, self._streamers = path, handlers, streamers
        self._clients = threading.Semaphore(MAX_CLIENTS)
        self.answering, self._lock = 0, threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._accepts = Forever("socket", self._accept, longest_pause_s=ACCEPT_AGAIN_S)
        self.threads = (self._accepts,)

    def start(self) -> None:
        """Bind and serve.

        The folder is 0700 and the socket 0600: the file system keeps others out; peer credentials are checked as well.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(self._path))
        finally:
            os.umask(before)
        self._listener.listen(MAX_CLIENTS)
        self._accepts.start()

    def _accept(self) -> float:
        """Accept a client. Without real-time priority, which clients' threads then do not have either: what people ask
        must not come before what keeps the lease, nor before Consul.

        :raises OSError: there is no descriptor left.
        """
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        client, _ = self._listener.accept()
        if not self._clients.acquire(blocking=False):
            refuse(client, f"the guard serves {MAX_CLIENTS} clients already: ask again in a moment")
            return 0.0
        try:
            threading.Thread(target=self._serve, args=(client,), name="socket-client", daemon=True).start()
        except RuntimeError as error:  # no thread left
            self._clients.release()
            refuse(client, f"the guard can't serve: {error}")
            raise
        return 0.0

    def _serve(self, client: socket.socket) -> None:
        """Serve one client."""
        try:
            with client:
                client.settimeout(LINE_S)
                _pid, uid, _gid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                if uid not in (0, os.geteuid()):
                    send(client, failure(RefusedError("only root may talk to the guard")))
                    return
                for line in lines_of(client):
                    client.settimeout(LINE_S)
                    self._answer(client, line)
        except (OSError, ValueError) as error:
            log.debug("a client of the socket is gone: %s", error)
        finally:
            self._clients.release()

    def _answer(self, client: socket.socket, line: bytes) -> None:
        """Answer one request."""
        with self._lock:
            self.answering += 1
        try:
            self._answer_to(client, line)
        finally:
            with self._lock:
                self.answering -= 1

    def _answer_to(self, client: socket.socket, line: bytes) -> None:
        """Find the answer and send it."""
        try:
            request = parse(line)
            op = request["op"]
            if op in self._streamers:
                for result in self._streamers[op](request):
                    send(client, {"v": VERSION, "ok": True, "result": result})
            elif op in self._handlers:
                send(client, {"v": VERSION, "ok": True, "result": self._handlers[op](request)})
            else:
                known = ", ".join(sorted([*self._handlers, *self._streamers]))
                raise InputError(f"the guard knows no {op!r}; it knows {known}")
        except MnhaError as error:
            send(client, failure(error))
        except OSError:
            raise
        except Exception as error:
            log.exception("a request failed in a way nobody expected: %.200r", line)
            send(client, failure(MnhaError(f"the guard could not answer: {error!r}; see its journal")))


def lines_of(client: socket.socket) -> Iterator[bytes]:
    """The client's lines; one that is too long is the last, and comes cut.

    :raises TimeoutError: nothing came for IDLE_S, or a line took longer than LINE_S.
    """
    rest = b""
    while True:
        until_s = time.monotonic() + (LINE_S if rest else IDLE_S)
        while b"\n" not in rest:
            if len(rest) > MAX_LINE:
                yield rest
                return
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("the request did not come to its end")
            client.settimeout(left_s)
            part = client.recv(MAX_LINE)
            if not part:
                return
            until_s = until_s if rest else time.monotonic() + LINE_S
            rest += part
        line, rest = rest.split(b"\n", 1)
        yield line
        if len(line) > MAX_LINE:
            return


def parse(line: bytes) -> Request:
    """Read one request.

    :raises InputError: it is none of this version.
    """
    if len(line) > MAX_LINE:
        raise InputError(f"the request is longer than {MAX_LINE} bytes")
    try:
        request = json.loads(line, parse_constant=_no_number)
        json.dumps(request, ensure_ascii=False).encode()  # half a character can be escaped in JSON, but not be written
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is not JSON: {str(error)[:200]}") from error
    if not isinstance(request, dict) or not isinstance(request.get("op"), str):
        raise InputError('a request is an object with "v" and "op"')
    if request.get("v") != VERSION:
        raise InputError(
            f"the request has version {request.get('v')!r}, this guard speaks {VERSION}: upgrade one of them"
        )
    return request


def _no_number(name: str) -> None:
    """Refuse NaN and the infinities, which Python takes for JSON."""
    raise ValueError(f"{name} is no number")


def refuse(client: socket.socket, text: str) -> None:
    """Close a connection that is not served, and say why if the client listens."""
    with contextlib.suppress(OSError), client:
        client.settimeout(REFUSAL_S)
        send(client, failure(RefusedError(text)))


def failure(error: MnhaError) -> dict[str, Any]:
    """The answer that carries an error."""
    return {"v": VERSION, "ok": False, "error": error.to_wire()}


def send(client: socket.socket, answer: dict[str, Any]) -> None:
    """Send one line."""
    client.sendall(json.dumps(answer, ensure_ascii=False).encode() + b"\n")


class Subscribers:
    """Those who listen to the stream of events; a slow one loses lines rather than holding up the guard."""

    def __init__(self) -> None:
        self._queues: list[queue.Queue[dict[str, Any]]] = []
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._queues)

    def publish(self, event: dict[str, Any]) -> None:
        """Give `event` to all."""
        with self._lock:
            for waiting in self._queues:
                if not waiting.full():
                    waiting.put_nowait(event)

    def subscribe(self, first: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield `first`, then each event; an empty one every QUIET_S."""
        waiting: queue.Queue[dict[str, Any]] = queue.Queue(1000)
        with self._lock:
            self._queues.append(waiting)
        try:
            yield first
            while True:
                try:
                    yield waiting.get(timeout=QUIET_S)
                except queue.Empty:
                    yield {}
        finally:
            with self._lock:
                self._queues.remove(waiting)
