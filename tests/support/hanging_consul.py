"""Three real Consul servers on loopback, each with a disk of its own that can be made to hang: a file system (FUSE)
whose process is stopped.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lab.cgroups import unified_root
from lab.shell import mounts_below, wait_until
from mnha.daemon.adapters.consul import Servers
from mnha.errors import MnhaError
from mnha.secrets import store

ROOT = Path(__file__).resolve().parents[2]
NODES = {"n1": "127.0.0.11", "n2": "127.0.0.12", "n3": "127.0.0.13"}
PATIENCE_S = 40.0
SERVE = """
import sys, mfusepy
from pathlib import Path
from lab.storage import Passed
mfusepy.FUSE(Passed(Path(sys.argv[1])), sys.argv[2], foreground=True)
"""


class Disk:
    """A folder on a disk that hangs when asked to."""

    def __init__(self, folder: Path) -> None:
        behind, self.folder = folder / "behind", folder / "disk"
        behind.mkdir(parents=True)
        self.folder.mkdir()
        self._server = subprocess.Popen([sys.executable, "-c", SERVE, str(behind), str(self.folder)], cwd=ROOT)
        wait_until(lambda: bool(mounts_below(self.folder)), 20, "the disk is there")

    def hang(self) -> None:
        """Nothing is answered any more."""
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """What waited is answered."""
        self._server.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Unmount it; whoever uses it must be gone."""
        self.go_on()
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)
        self._server.kill()
        self._server.wait(10)


class Member:
    """One server, in a control group of its own."""

    def __init__(self, folder: Path, node: str, group: Path) -> None:
        self.node, self.address, self.group = node, NODES[node], group
        self.disk = Disk(folder)
        self.process: subprocess.Popen[bytes] | None = None
        group.mkdir(parents=True)

    def start(self, consul: Path, config: Path, log: Path) -> None:
        """Start it."""
        enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        words = ["sh", "-c", enter, str(self.group), str(consul), "agent", "-config-file", str(config)]
        with log.open("ab") as file:
            self.process = subprocess.Popen(words, stdout=file, stderr=file)

    def has_ended(self) -> bool:
        """Whether it has, all its threads included."""
        return self.process is None or self.process.poll() is not None

    def remove(self) -> None:
        """End it, and take its disk away."""
        self.disk.go_on()
        if self.process:
            self.process.kill()
            self.process.wait()
        self.disk.remove()
        self.group.rmdir()


class ConsulCluster:
    """Three servers that elect a leader.

    :param folder: where they keep everything.
    """

    def __init__(self, consul: Path, folder: Path) -> None:
        self._consul, self._folder = consul, folder
        self._group = unified_root() / f"mnha-test-{uuid.uuid4().hex[:8]}"
        addresses = {node: ["127.0.0.1", address] for node, address in NODES.items()}
        store.bootstrap(folder / "secrets", store.Plan("t", "dc1", addresses, False))
        self._ca, self._token = folder / "ca.pem", folder / "token"
        self._ca.write_text(store.for_node(folder / "secrets", "n1")["ca"])
        self._token.write_text("anonymous\n")
        self._ports = {name: _free_port() for name in ("https", "serf_lan", "server")}
        self.members = {node: Member(folder / node, node, self._group / node) for node in NODES}

    def start(self, node: str) -> None:
        """Start one."""
        config = self._folder / f"{node}.json"
        config.write_text(json.dumps(self._config(node)))
        self.members[node].start(self._consul, config, self._folder / f"{node}.log")

    def start_all(self) -> None:
        """Start them all, and wait until one leads."""
        for node in self.members:
            self.start(node)
        wait_until(self.takes_writes, PATIENCE_S, "Consul takes writes")

    def _config(self, node: str) -> Mapping[str, Any]:
        mine = store.for_node(self._folder / "secrets", node)
        for name in ("certificate", "key"):
            (self._folder / f"{node}-{name}.pem").write_text(mine[name])
        address, member = NODES[node], self.members[node]
        return {
            "node_name": node,
            "server": True,
            "bootstrap_expect": len(NODES),
            "data_dir": str(member.disk.folder / "data"),
            "bind_addr": address,
            "client_addr": address,
            "ports": {"http": -1, "dns": -1, "grpc": -1, "serf_wan": -1, **self._ports},
            "retry_join": [f"{other}:{self._ports['serf_lan']}" for other in NODES.values() if other != address],
            "retry_interval": "1s",
            "ca_file": str(self._ca),
            "cert_file": str(self._folder / f"{node}-certificate.pem"),
            "key_file": str(self._folder / f"{node}-key.pem"),
            "performance": {"raft_multiplier": 1},
            "gossip_lan": {"probe_interval": "200ms", "probe_timeout": "100ms", "suspicion_mult": 2},
        }

    def servers(self, node: str) -> Servers:
        """The way to all of them as the guard of a node has it: its own one first."""
        hosts = [NODES[node], *(address for other, address in NODES.items() if other != node)]
        return Servers([{"host": host, "port": self._ports["https"]} for host in hosts], self._ca, self._token)

    def leader(self) -> str:
        """The node whose server leads, by the word of those that answer; empty if there is none."""
        for node, member in self.members.items():
            if not member.has_ended():
                with contextlib.suppress(MnhaError):
                    found = self.servers(node).ask(0, 0.5, lambda consul: consul.status.leader())
                    return next((one for one, own in NODES.items() if own == found.rpartition(":")[0]), "")
        return ""

    def takes_writes(self) -> bool:
        """Whether a write is done soon, by whichever server."""
        for node, member in self.members.items():
            if not member.has_ended():
                with contextlib.suppress(MnhaError):
                    now = str(time.monotonic()).encode()
                    return bool(self.servers(node).ask(0, 0.5, lambda consul, text=now: consul.kv.put("x", text)))
        return False

    def remove(self) -> None:
        """End them all."""
        for member in self.members.values():
            member.remove()
        self._group.rmdir()


@contextlib.contextmanager
def running(consul: Path, folder: Path) -> Iterator[ConsulCluster]:
    """Three servers for the length of a test."""
    cluster = ConsulCluster(consul, folder)
    try:
        cluster.start_all()
        yield cluster
    finally:
        cluster.remove()


def _free_port() -> int:
    """A port that was free a moment ago at all addresses of the servers."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
