"""A real Consul server on loopback, with TLS as the product has it, for tests of what talks to it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lab import build, host
from lab.settings import Settings
from mnha.consul.client import ConsulClient
from mnha.daemon.adapters.consul import Servers
from mnha.errors import FailedError, UnreachableError
from mnha.secrets import store
from tests.support.ports import free_ports

NODE = "n1"
START_LIMIT_S = 20.0


def binary(folder: Path) -> Path:
    """Consul from the lab's repository of packages, unpacked below `folder`."""
    host.prepare()
    settings = Settings.from_environment()
    base = build.build_base(settings)
    repository = build.build_repository(settings, "packages", "node-packages.txt", base)
    (package,) = repository.glob("consul_*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return folder / "usr/bin/consul"


class ConsulServer:
    """One server that can be stopped and started again with its data.

    :param folder: where it keeps everything.
    :param options: more of Consul's options, e.g. `acl`.
    """

    def __init__(self, consul: Path, folder: Path, options: Mapping[str, Any] | None = None) -> None:
        self._consul, self._folder = consul, folder
        self._process: subprocess.Popen[bytes] | None = None
        store.bootstrap(folder / "secrets", store.Plan("t", "dc1", {NODE: ["127.0.0.1"]}, False))
        mine = store.for_node(folder / "secrets", NODE)
        for name in ("ca", "certificate", "key"):
            (folder / f"{name}.pem").write_text(mine[name])
        self.ca_file, self.token_file = folder / "ca.pem", folder / "token"
        self.token_file.write_text("anonymous\n")
        self.port, serf_port, server_port = free_ports(3)
        ports = {"http": -1, "https": self.port, "dns": -1, "grpc": -1, "serf_wan": -1}
        ports |= {"serf_lan": serf_port, "server": server_port}
        config = {
            "node_name": NODE,
            "server": True,
            "bootstrap_expect": 1,
            "data_dir": str(folder / "data"),
            "bind_addr": "127.0.0.1",
            "ports": ports,
            "ca_file": str(self.ca_file),
            "cert_file": str(folder / "certificate.pem"),
            "key_file": str(folder / "key.pem"),
            "performance": {"raft_multiplier": 1},
        }
        self._config = {**config, **(options or {})}

    def client(self, token: str, name: str = "") -> ConsulClient:
        """The way to it, as Salt's modules have it; "" is no token."""
        return ConsulClient(["127.0.0.1"], token, name, ca_file=self.ca_file, port=self.port)

    def set_options(self, **options: Any) -> None:
        """Other options from the next start on."""
        self._config |= options

    def servers(self) -> Servers:
        """The way to it, as the guard has it."""
        return Servers([{"host": "127.0.0.1", "port": self.port}], self.ca_file, self.token_file)

    def start(self) -> None:
        """Start it and wait until it leads."""
        (self._folder / "consul.json").write_text(json.dumps(self._config))
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._consul, "agent", "-config-file", self._folder / "consul.json"], stdout=log, stderr=log
            )
        end = time.monotonic() + START_LIMIT_S
        servers = self.servers()
        while time.monotonic() < end:
            try:
                servers.read(0, 1.0, lambda consul: consul.kv.get("x", consistency="consistent"))
                return
            except FailedError:
                return  # it knows no such token, which takes a leader too
            except UnreachableError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"Consul does not start:\n{(self._folder / 'log').read_text()}")

    def stop(self) -> None:
        """Kill it."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running(consul: Path, folder: Path, options: Mapping[str, Any] | None = None) -> Iterator[ConsulServer]:
    """A server for the length of a test."""
    server = ConsulServer(consul, folder, options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
