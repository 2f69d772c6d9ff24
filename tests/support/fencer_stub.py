"""A fencer's end of its socket, that answers as a test wants."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Stub:
    """The listener and its clients.

    :ivar asked: the requests that were no question for the status.
    :ivar answer: what each request is answered, a status with `about` besides.
    :ivar garble: makes of an answer, and of whether it is a status, what is sent; None: nothing.
    :ivar connections: how many there were.
    """

    def __init__(self, path: Path) -> None:
        self.asked: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.silent = threading.Event()
        self.answer: dict[str, Any] = {"ok": True, "protected": True, "as_required": True}
        self.about: dict[str, Any] = {"vms": {}, "watchdog": {"mode": "automatic"}}
        self.garble: Callable[[bytes, bool], bytes | None] = lambda packet, is_status: packet
        self.connections = 0
        self._clients: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            while packet := client.recv(65536):
                request = json.loads(packet)
                is_status = request["op"] == "status"
                if not is_status:
                    self.asked.put(request)
                if not self.silent.is_set():
                    about = self.about if is_status else {}
                    garbled = self.garble(json.dumps({"v": 1, **self.answer, **about}).encode(), is_status)
                    if garbled is not None:
                        client.send(garbled)
        except OSError:
            return

    def close(self) -> None:
        """As the end of its process."""
        for open_one in (self._listener, *self._clients):
            with contextlib.suppress(OSError):
                open_one.shutdown(socket.SHUT_RDWR)
            open_one.close()
