"""A server that speaks HTTPS as Consul does and answers by a script: what a real one says too seldom to wait for."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mnha.consul.client import ConsulClient
from mnha.daemon.adapters.consul import Servers
from mnha.secrets import store


@dataclass(frozen=True)
class Say:
    """An answer; `after_s`: later; `trickles_s`: a byte each time."""

    code: int = 200
    body: str = "[]"
    headers: Mapping[str, str] = field(default_factory=lambda: {"X-Consul-Index": "7", "X-Consul-KnownLeader": "true"})
    after_s: float = 0.0
    trickles_s: float = 0.0


NOT_THERE = Say(404, "")
"""There is no such key."""
CUT = Say(code=0)
"""No answer: the connection is closed."""


class Scripted:
    """The server. `answer` is asked for each request, by its method and path with the query.

    :param folder: with `ca.pem` and a token.
    """

    def __init__(self, folder: Path) -> None:
        self.answer: Callable[[str, str], Say] = lambda method, path: NOT_THERE
        self.requests: list[str] = []
        self.connections = 0
        self.stop = threading.Event()
        self._made: list[Servers] = []
        self.port = 0
        self.ca_file, self.token_file = folder / "ca.pem", folder / "token"

    def servers(self) -> Servers:
        """The way to it, as the guard has it."""
        made = Servers([{"host": "127.0.0.1", "port": self.port}], self.ca_file, self.token_file)
        self._made.append(made)
        return made

    def halt_watches(self) -> None:
        """Have the threads that ask it for ever sleep from their next request on: they would keep later tests busy."""

        def halt(busy: Sequence[int] = ()) -> int:
            while True:
                threading.Event().wait()

        for servers in self._made:
            servers.pick = halt  # type: ignore[method-assign]

    def client(self, ca_file: Path | None = None, timeout_s: float = 3.0) -> ConsulClient:
        """The way to it, as Salt's modules have it."""
        return ConsulClient(["127.0.0.1"], "t", ca_file=ca_file or self.ca_file, port=self.port, timeout_s=timeout_s)


def make_secrets(folder: Path) -> None:
    """A certificate authority, the server's certificate by it, and a token."""
    store.bootstrap(folder / "secrets", store.Plan("t", "dc1", {"n1": ["127.0.0.1"]}, False))
    mine = store.for_node(folder / "secrets", "n1")
    for name in ("ca", "certificate", "key"):
        (folder / f"{name}.pem").write_text(mine[name])
    (folder / "token").write_text("t\n")


@contextlib.contextmanager
def scripted(folder: Path) -> Iterator[Scripted]:
    """A server for the length of a test."""
    make_secrets(folder)
    made = Scripted(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

        def setup(self) -> None:
            made.connections += 1
            super().setup()

        def serve(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            made.requests.append(f"{self.command} {self.path}")
            say = made.answer(self.command, self.path)
            made.stop.wait(say.after_s)
            if say is CUT:
                self.close_connection = True
                return
            with contextlib.suppress(OSError):
                self.send_response(say.code)
                for name, value in say.headers.items():
                    self.send_header(name, value)
                body = say.body.encode(errors="surrogateescape")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for number in range(len(body) if say.trickles_s else 0):
                    self.wfile.write(body[number : number + 1])
                    if made.stop.wait(say.trickles_s):
                        return
                if not say.trickles_s:
                    self.wfile.write(body)

        do_GET = do_PUT = do_DELETE = serve

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that went away, or did not like the certificate, is what is tested."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.halt_watches()
            made.stop.set()
            server.shutdown()
