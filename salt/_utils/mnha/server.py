"""The guard's unix socket: one JSON object a line, root only. docs/architecture.md has the requests and answers."""

from __future__ import annotations

import json
import logging
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .errors import InputError, MnhaError, RefusedError

log = logging.getLogger(__name__)

VERSION = 1
MAX_LINE = 65536
MAX_CLIENTS = 32
IDLE_S = 60.0

Request = dict[str, Any]
Handler = Callable[[Request], dict[str, Any]]
Streamer = Callable[[Request], Iterator[dict[str, Any]]]


class Server:
    """Serves requests, each client in a thread of its own.

    :param handlers: op -> function that returns the result or raises an :class:`MnhaError`.
    :param streamers: op -> generator of results; one line each until the client goes.
    """

    def __init__(self, path: Path, handlers: dict[str, Handler], streamers: dict[str, Streamer]) -> None:
        self._path, self._handlers, self._streamers = path, handlers, streamers
        self._clients = threading.Semaphore(MAX_CLIENTS)

    def start(self) -> None:
        """Bind and serve.

        The folder is 0700 and the socket 0600: the file system keeps others out; peer credentials are checked as well.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(self._path))
        finally:
            os.umask(before)
        listener.listen(MAX_CLIENTS)
        threading.Thread(target=self._accept, args=(listener,), name="socket", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        """Accept for ever."""
        while True:
            client, _ = listener.accept()
            if not self._clients.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), name="socket-client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Serve one client."""
        try:
            with client:
                client.settimeout(IDLE_S)
                _pid, uid, _gid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                if uid not in (0, os.geteuid()):
                    send(client, failure(RefusedError("only root may talk to the guard")))
                    return
                with client.makefile("rb") as lines:
                    while line := lines.readline(MAX_LINE + 1):
                        self._answer(client, line)
        except (OSError, ValueError) as error:
            log.debug("a client of the socket is gone: %s", error)
        finally:
            self._clients.release()

    def _answer(self, client: socket.socket, line: bytes) -> None:
        """Answer one request."""
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
            log.exception("a request failed in a way nobody expected: %r", line)
            send(client, failure(MnhaError(f"the guard could not answer: {error!r}; see its journal")))


def parse(line: bytes) -> Request:
    """Read one request.

    :raises InputError: it is none of this version.
    """
    if len(line) > MAX_LINE:
        raise InputError(f"the request is longer than {MAX_LINE} bytes")
    try:
        request = json.loads(line)
    except ValueError as error:
        raise InputError(f"the request is not JSON: {error}") from error
    if not isinstance(request, dict) or not isinstance(request.get("op"), str):
        raise InputError('a request is an object with "v" and "op"')
    if request.get("v") != VERSION:
        raise InputError(
            f"the request has version {request.get('v')!r}, this guard speaks {VERSION}: upgrade one of them"
        )
    return request


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

    def publish(self, event: dict[str, Any]) -> None:
        """Give `event` to all."""
        with self._lock:
            for waiting in self._queues:
                if not waiting.full():
                    waiting.put_nowait(event)

    def subscribe(self, first: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield `first`, then each event; an empty one every :data:`IDLE_S` / 4 so that a client that is gone shows."""
        waiting: queue.Queue[dict[str, Any]] = queue.Queue(1000)
        with self._lock:
            self._queues.append(waiting)
        try:
            yield first
            while True:
                try:
                    yield waiting.get(timeout=IDLE_S / 4)
                except queue.Empty:
                    yield {}
        finally:
            with self._lock:
                self._queues.remove(waiting)
