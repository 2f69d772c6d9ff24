"""A healthy cluster of the lab with a running MNVM, as the integration tests get it, and what they ask of it."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import checker, guards
from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME
from lab.settings import GUEST_PORT, LabError
from lab.witness import Witness

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()"


def eventually(question: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Wait until `question` returns something true, and return that."""
    end = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(LabError):
            if answer := question():
                return answer
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.2)


class Scene:
    """A healthy cluster with a running MNVM, and what a test does to it.

    :param folder: where a test that fails leaves the nodes' logs.
    """

    def __init__(self, cluster: Cluster, witness: Witness, folder: Path) -> None:
        self.cluster, self.witness, self.folder = cluster, witness, folder
        self.holder = guards.wait_until_running(cluster)
        self.others = [name for name in cluster.names if name != self.holder]

    def salt_run(self, node: str, verb: str, *arguments: str, timeout_s: float = 60) -> tuple[int, dict[str, Any], str]:
        """Type `salt-run mnha.VERB` (or RUNNER.VERB) on a node: exit code, data, and everything it printed."""
        words = ["salt-run", "--out=json", verb if "." in verb else f"mnha.{verb}", *arguments]
        done = self.cluster.run(node, words, timeout_s=timeout_s)
        try:
            data = json.loads(done.stdout)
        except ValueError:
            data = {}
        assert isinstance(data, dict), f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.returncode, data.get(CLUSTER_NAME, data), done.stdout + done.stderr

    def send(self, node: str, signal: str, unit: str) -> float:
        """Send a signal, such as KILL, to a service's main process; returns the moment, CLOCK_BOOTTIME in s."""
        words = ["systemctl", "kill", "--kill-whom=main", f"--signal={signal}", unit]
        self.cluster.run(node, words, check=True)
        return self.witness.mark(f"SIG{signal} to {unit}", node)

    def status(self, node: str) -> dict[str, Any]:
        """What a node's guard says of the MNVM."""
        return guards.vm_status(self.cluster, node)

    def guard(self, node: str) -> dict[str, Any]:
        """What a node's guard says of everything."""
        return guards.ask(self.cluster, node, "status")["result"]

    def qemu_pid(self, node: str) -> int:
        """The MNVM's process on a node, as the node numbers it."""
        return int(self.status(node)["vm_pid"])

    def guest_answers(self, node: str) -> bool:
        """Whether a client on the management network reaches the guest at the address that it is to have at a node."""
        address = next(plan.guest for plan in self.cluster.plans if plan.name == node)
        words = [sys.executable, "-c", CONNECT, address, str(GUEST_PORT)]
        return self.cluster.in_switch(words).returncode == 0

    def await_renewals(self, count: int = 3, timeout_s: float = 60.0, holder: str = "") -> None:
        """Wait until the holder has renewed so many more times what it holds now: the same lease, of the same epoch.

        :param holder: left out: the node that held it when the scene began.
        """
        node = holder or self.holder
        before = eventually(lambda: self.status(node)["lease"], timeout_s, f"the guard of {node} has read the lease")

        def renewed() -> bool:
            lease = self.status(node)["lease"]
            assert (lease["holder"], lease["epoch"]) == (node, before["epoch"]), self.witness.table()
            return bool(lease["seq"] >= before["seq"] + count)

        eventually(renewed, timeout_s, f"{count} further renewals of epoch {before['epoch']} by {node}")

    def prove_no_overlap(self) -> None:
        """That no two instances of the MNVM overlapped so far: by the kernel's processes, the guest's disk and all
        consoles."""
        assert self.witness.monitor.overlaps() == [], self.witness.table()
        assert not [event for event in self.witness.events() if event.kind == "overlap"], self.witness.table()
        verdict = checker.check(self.cluster.settings.disk_image, self.cluster.consoles())
        assert verdict.ok, verdict.text()
