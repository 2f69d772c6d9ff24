"""Three real Consul servers on loopback addresses, configured as the product configures them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnha.consul import server_config as product
from mnha.consul.client import ConsulClient
from mnha.errors import MnhaError
from mnha.secrets import store

VERSION = (1, 8, 7)
READY_S = 30.0


class ConsulCluster:
    """Servers n1 to n3.

    :param addresses: node -> where it listens; the ports are the product's own.
    :param prefix: node -> words before the command, such as those that enter a network namespace.
    :param options: what differs from the product's configuration.
    """

    def __init__(
        self, consul: Path, folder: Path, addresses: Mapping[str, str],
        prefix: Callable[[str], list[str]] = lambda node: [], options: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.addresses = folder, dict(addresses)
        self._consul, self._prefix, self._options = consul, prefix, dict(options or {})
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        plan = store.Plan("t", "t", {node: [address] for node, address in self.addresses.items()}, False)
        store.bootstrap(folder / "secrets", plan)
        self.ca_file = folder / "n1/ca.pem"
        for node in self.addresses:
            (folder / node).mkdir()
            mine = store.for_node(folder / "secrets", node)
            for file, name in (("ca", "ca"), ("node", "certificate"), ("node-key", "key")):
                (folder / node / f"{file}.pem").write_text(mine[name])

    def data(self, node: str) -> Path:
        """Where a server keeps its data."""
        return self.folder / node / "data"

    def start(self, node: str) -> None:
        folder, address = self.folder / node, self.addresses[node]
        peers = [other for name, other in self.addresses.items() if name != node]
        text = product.to_json(product.server_config(product.Server(node, "t", address, peers), VERSION))
        config = json.loads(text.replace(product.TLS_FOLDER, str(folder)))
        config |= {"data_dir": str(self.data(node)), "acl": {"enabled": False}, "client_addr": address,
                   "addresses": {"https": address}, **self._options}  # fmt: skip
        (folder / "server.json").write_text(json.dumps(config))
        with (folder / "log").open("ab") as log:
            self.processes[node] = subprocess.Popen(
                [*self._prefix(node), self._consul, "agent", "-config-file", folder / "server.json"],
                stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self, node: str) -> None:
        process = self.processes.pop(node, None)
        if process is not None:
            process.kill()
            process.wait()

    def wipe(self, node: str) -> None:
        """As when its disk was replaced: it is killed, has no data, and begins anew."""
        self.kill(node)
        shutil.rmtree(self.data(node))

    def stop(self) -> None:
        for node in list(self.processes):
            self.kill(node)

    def client(self, *nodes: str) -> ConsulClient:
        """The way to these servers, the first one preferred."""
        return ConsulClient(
            [self.addresses[node] for node in nodes or self.addresses], "anonymous", ca_file=self.ca_file
        )

    def log(self, node: str) -> str:
        return (self.folder / node / "log").read_text(errors="replace")

    def wait(self, question: Callable[[], object], timeout_s: float = READY_S, what: str = "") -> float:
        """Wait until `question` returns something true, whatever it raises before; how long that took, in s."""
        began_s = time.monotonic()
        while True:
            try:
                if question():
                    return time.monotonic() - began_s
            except MnhaError:
                pass
            logs = "\n".join(self.log(node)[-1500:] for node in self.addresses)
            assert time.monotonic() - began_s < timeout_s, f"not within {timeout_s:g} s: {what}\n{logs}"
            time.sleep(0.1)


@contextmanager
def running(cluster: ConsulCluster) -> Iterator[ConsulCluster]:
    """All its servers for the length of a test."""
    try:
        for node in cluster.addresses:
            cluster.start(node)
        yield cluster
    finally:
        cluster.stop()
