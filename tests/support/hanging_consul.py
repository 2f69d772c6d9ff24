"""Three real Consul servers on loopback, each with a disk of its own that can be made to hang: a file system (FUSE)
whose process is stopped.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from lab.cgroups import unified_root
from lab.shell import mounts_below, wait_until
from mnha.consul.server_config import Server
from mnha.daemon.adapters.consul import Servers
from mnha.errors import MnhaError

from .consul_cluster import ConsulCluster, running

ROOT = Path(__file__).resolve().parents[2]
NODES = {"n1": "127.0.0.11", "n2": "127.0.0.12", "n3": "127.0.0.13"}
PORT = Server.https_port
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
        try:
            wait_until(lambda: bool(mounts_below(self.folder)), 20, "the disk is there")
        except BaseException:
            self.remove()
            raise

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


class HangingCluster(ConsulCluster):
    """Each server has a disk, and a control group of its own.

    :param folder: where they keep everything.
    """

    def __init__(self, consul: Path, folder: Path) -> None:
        super().__init__(consul, folder, NODES, self._entering)
        self._group = unified_root() / f"mnha-test-{uuid.uuid4().hex[:8]}"
        self.groups = {node: self._group / node for node in NODES}
        self.disks: dict[str, Disk] = {}
        for group in self.groups.values():
            group.mkdir(parents=True)
        try:
            for node in NODES:
                self.disks[node] = Disk(folder / node)
        except BaseException:
            self.stop()
            raise

    def _entering(self, node: str) -> list[str]:
        """The words by which a command is begun in a node's control group."""
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.groups[node])]

    def data(self, node: str) -> Path:
        return self.disks[node].folder / "data"

    def has_ended(self, node: str) -> bool:
        """Whether a server has, all its threads included."""
        return self.processes[node].poll() is not None

    def servers(self, node: str) -> Servers:
        """The way to all of them as the guard of a node has it: its own one first."""
        hosts = [NODES[node], *(address for other, address in NODES.items() if other != node)]
        token = self.folder / "token"
        token.write_text("anonymous\n")
        return Servers([{"host": host, "port": PORT} for host in hosts], self.ca_file, token)

    def leader(self) -> str:
        """The node whose server leads, by the word of those that answer; empty if there is none."""
        for node in NODES:
            if not self.has_ended(node):
                with contextlib.suppress(MnhaError):
                    found = self.servers(node).ask(0, 0.5, lambda consul: consul.status.leader())
                    return next((one for one, own in NODES.items() if own == found.rpartition(":")[0]), "")
        return ""

    def takes_writes(self) -> bool:
        """Whether a write is done soon, by whichever server."""
        for node in NODES:
            if not self.has_ended(node):
                with contextlib.suppress(MnhaError):
                    now = str(time.monotonic()).encode()
                    return bool(self.servers(node).ask(0, 0.5, lambda consul, text=now: consul.kv.put("x", text)))
        return False

    def stop(self) -> None:
        """End them all, and take their disks away."""
        for disk in self.disks.values():
            disk.go_on()
        super().stop()
        for disk in self.disks.values():
            disk.remove()
        for group in (*self.groups.values(), self._group):
            group.rmdir()


@contextlib.contextmanager
def hanging(consul: Path, folder: Path) -> Iterator[HangingCluster]:
    """Three servers, one of which leads, for the length of a test."""
    with running(HangingCluster(consul, folder)) as cluster:
        assert isinstance(cluster, HangingCluster)
        wait_until(cluster.takes_writes, PATIENCE_S, "Consul takes writes")
        yield cluster
